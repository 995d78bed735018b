"""The loss: a weighted sum of cross-entropy and Dice, always in float32."""

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.recipe import Loss


class SegmentationLoss(nn.Module):
    """bce × binary cross-entropy + dice × (1 − soft Dice of the batch taken as one picture)."""

    def __init__(self, weights: Loss) -> None:
        super().__init__()
        from segmentation_models_pytorch.losses import DiceLoss

        self.weights = weights
        self.dice = DiceLoss("binary", from_logits=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            logits: (n, 1, h, w), any float type.
            target: (n, 1, h, w) float, 0 to 1; the share of the pixel that the mask covers.

        Returns:
            A float32 scalar.
        """
        # Half precision ends at 65,504: the sums over a picture's pixels pass that, and the loss becomes infinite.
        logits, target = logits.float(), target.float()
        loss = logits.new_zeros(())
        if self.weights.bce:
            loss = loss + self.weights.bce * F.binary_cross_entropy_with_logits(logits, target)
        if self.weights.dice:
            loss = loss + self.weights.dice * self.dice(logits, target)
        return loss
