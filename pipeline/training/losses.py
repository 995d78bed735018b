"""The training loss: weighted sum of cross-entropy and soft Dice, in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.classes import SINGLE_CLASS, Classes
from pipeline.recipe import LossConfig

WINDOW = 7
"""Side in pixels of the window of `boundary_weight`."""
_EPSILON = 1e-7


class SegmentationLoss(nn.Module):
    """Compute ``bce × cross-entropy + dice × soft Dice loss``, the mean over the classes.

    The cross-entropy is binary for every class, or categorical for exclusive classes. The soft Dice of a class is
    computed over the batch, not per image; see `soft_dice_loss`.

    Args:
        config: the weights; with ``boundary`` above 0 the cross-entropy is weighted by `boundary_weight`.
        classes: classes of the competition.
    """

    def __init__(self, config: LossConfig, classes: Classes = SINGLE_CLASS) -> None:
        super().__init__()
        self.config = config
        self.classes = classes

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: (n, channels, h, w), any floating-point dtype.
            target: (n, classes, h, w) float, 0 to 1: the fraction of each pixel that the mask covers.

        Returns:
            A float32 scalar.
        """
        # fp16 ends at 65,504, and sums over the pixels of an image exceed that.
        logits, target = logits.float(), target.float()
        loss = logits.new_zeros(())
        if self.config.bce:
            weight = boundary_weight(target, self.config.boundary) if self.config.boundary else None
            loss = loss + self.config.bce * self._cross_entropy(logits, target, weight)
        if self.config.dice:
            loss = loss + self.config.dice * soft_dice_loss(self.classes.probabilities(logits), target)
        return loss

    def _cross_entropy(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        if not self.classes.exclusive:
            return F.binary_cross_entropy_with_logits(logits, target, weight)
        background = (1 - target.sum(dim=1, keepdim=True)).clamp(min=0)
        entropy = -(torch.cat([background, target], dim=1) * logits.log_softmax(dim=1)).sum(dim=1)
        return entropy.mean() if weight is None else (entropy * weight.mean(dim=1)).mean()


def soft_dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """Compute the soft Dice loss Σ|p − t| / (Σp + Σt), computed over the batch, not per image.

    For binary targets this equals 1 − 2·Σpt / (Σp + Σt). For fractional targets that form is not lowest at p = t; this
    one is (Wang et al. 2023, https://arxiv.org/abs/2303.16296). Reimplemented because the import of
    segmentation_models_pytorch takes seconds, and its DiceLoss supports no fractional targets of exclusive classes.

    Args:
        probability: (n, classes, h, w) float32, 0 to 1.
        target: (n, classes, h, w) float32, 0 to 1.

    Returns:
        A float32 scalar, 0 to 1: the mean over the classes. A class without a pixel in the target counts as 0.
    """
    dims = (0, 2, 3)
    true = target.sum(dim=dims)
    loss = (probability - target).abs().sum(dim=dims) / (probability.sum(dim=dims) + true).clamp(min=_EPSILON)
    return (loss * (true > 0)).mean()


def boundary_weight(target: Tensor, extra: float) -> Tensor:
    """Compute a weight per pixel that is higher at the boundary of the mask, where most errors are.

    The weight is 1 + extra · 4p(1 − p). p is the local mean of the target in a 7×7 window: 1/2 on a straight edge, 0 or
    1 where the window holds no edge. Boundary weights were used by the 1st and the 3rd place of the Carvana challenge.

    Args:
        target: (n, c, h, w) float, 0 to 1.
        extra: additional weight on a straight edge.

    Returns:
        (n, c, h, w) float with mean 1, so that the terms of the loss keep their proportion.
    """
    p = F.avg_pool2d(target, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
    weight = 1 + extra * 4 * p * (1 - p)
    return weight / weight.mean()
