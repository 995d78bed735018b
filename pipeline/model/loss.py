"""The loss: a weighted sum of cross-entropy, which may count edges more, and Dice; always in float32."""

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.recipe import Loss

EDGE = 7
"""Side in pixels of the window in which a pixel near an edge sees both sides of it."""


class SegmentationLoss(nn.Module):
    """bce × binary cross-entropy, edges 1 + `boundary` times as heavy + dice × (1 − soft Dice of the whole batch)."""

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
            weight = edge_weight(target, self.weights.boundary) if self.weights.boundary else None
            loss = loss + self.weights.bce * F.binary_cross_entropy_with_logits(logits, target, weight)
        if self.weights.dice:
            loss = loss + self.weights.dice * self.dice(logits, target)
        return loss


def edge_weight(target: Tensor, extra: float) -> Tensor:
    """How much each pixel counts: more where the mask ends, since that is where nearly all errors are.

    The share of the mask in a window around a pixel is ½ on an edge, and 0 or 1 away from it. Several of the
    competition's best (1st and 3rd place) weighted edges in this way.

    Args:
        target: (n, 1, h, w) float, 0 to 1.
        extra: of a pixel on a straight edge, which counts 1 + extra times as much as one far from any.

    Returns:
        (n, 1, h, w) float with a mean of 1, so that the terms of the loss keep their shares.
    """
    share = F.avg_pool2d(target, EDGE, stride=1, padding=EDGE // 2, count_include_pad=False)
    weight = 1 + extra * 4 * share * (1 - share)
    return weight / weight.mean()
