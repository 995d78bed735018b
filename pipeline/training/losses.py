"""The training loss: weighted sum of binary cross-entropy and soft Dice, in float32."""

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.recipe import LossConfig

WINDOW = 7
"""Side in pixels of the window that decides how close a pixel is to the boundary."""


class SegmentationLoss(nn.Module):
    """Compute ``bce × cross-entropy + dice × (1 − soft Dice over the batch)``.

    Args:
        config: the weights; with ``boundary`` above 0 the cross-entropy is weighted by `boundary_weight`.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        from segmentation_models_pytorch.losses import DiceLoss

        self.config = config
        self.dice = DiceLoss("binary", from_logits=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: (n, 1, h, w), any floating-point dtype.
            target: (n, 1, h, w) float, 0 to 1: the fraction of each pixel that the mask covers.

        Returns:
            A float32 scalar.
        """
        # fp16 ends at 65,504, and sums over the pixels of an image exceed that.
        logits, target = logits.float(), target.float()
        loss = logits.new_zeros(())
        if self.config.bce:
            weight = boundary_weight(target, self.config.boundary) if self.config.boundary else None
            loss = loss + self.config.bce * F.binary_cross_entropy_with_logits(logits, target, weight)
        if self.config.dice:
            loss = loss + self.config.dice * self.dice(logits, target)
        return loss


def boundary_weight(target: Tensor, extra: float) -> Tensor:
    """Compute a weight per pixel that is higher at the boundary of the mask, where most errors are.

    The mean p of the target over a window around a pixel is 1/2 on a straight edge and 0 or 1 far from any; the weight
    is 1 + extra · 4p(1 − p). Boundary weights were used by the 1st and the 3rd place of the Carvana challenge.

    Args:
        target: (n, 1, h, w) float, 0 to 1.
        extra: additional weight on a straight edge.

    Returns:
        (n, 1, h, w) float with mean 1, so that the terms of the loss keep their proportion.
    """
    p = F.avg_pool2d(target, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
    weight = 1 + extra * 4 * p * (1 - p)
    return weight / weight.mean()
