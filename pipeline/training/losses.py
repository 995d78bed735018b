"""The training loss: weighted sum of cross-entropy and soft Dice, in float32."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.models.classes import SINGLE_CLASS, Classes
from pipeline.recipe import LossConfig
from pipeline.training.ranks import ONE_PROCESS, Ranks

_EPSILON = 1e-7


class SegmentationLoss(nn.Module):
    """Compute ``bce × cross-entropy + dice × soft Dice loss``, the mean over the classes.

    The cross-entropy is binary for every class, or categorical for exclusive classes. The soft Dice of a class is
    computed over the batch, not per image; see `soft_dice_loss`.

    With several ranks, the batch is that of all ranks, each of which has as many images. The gradients, averaged over
    the ranks, are those of one process with the whole batch; the values too.

    Args:
        config: the weights; with ``boundary`` above 0 the cross-entropy is weighted by `boundary_weight`.
        classes: classes of the competition.
        ranks: the processes that train the model.
    """

    def __init__(self, config: LossConfig, classes: Classes = SINGLE_CLASS, ranks: Ranks = ONE_PROCESS) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.ranks = ranks

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
        weight = boundary_weight(target, self.config.boundary, self.ranks) if self.config.boundary else None
        if not self.classes.exclusive:
            binary: Tensor = _BinaryLoss.apply(logits, target, weight, self.config.bce, self.config.dice, self.ranks)
            return binary
        entropy = _categorical_cross_entropy(logits, target)
        if weight is not None:
            entropy = entropy * weight.mean(dim=1)
        dice = soft_dice_loss(self.classes.probabilities(logits), target, self.ranks)
        return self.config.bce * entropy.mean() + self.config.dice * dice


class _BinaryLoss(torch.autograd.Function):
    """Compute ``bce × binary cross-entropy + dice × soft Dice loss`` of independent classes.

    The gradient is computed together with the value, from one sigmoid: on a CPU in a third of the time that autograd
    needs for the two terms.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weight: Tensor | None, bce: float, dice: float, ranks: Ranks
    ) -> Tensor:
        p = logits.sigmoid()
        error, q = p - target, 1 - p
        gradient = torch.zeros_like(p)
        value = p.new_zeros(())
        if bce:
            # log(1 + e^x) = max(x, 0) - log(max(p, 1 - p)), and the maximum, from 1/2 to 1, is |p - 1/2| + 1/2.
            certainty = (p - 0.5).abs_().add_(0.5)
            entropy = logits.clamp(min=0).sub_(certainty.log_()).addcmul_(logits, target, value=-1)
            scaled = error if weight is None else error * weight
            value += bce * (entropy if weight is None else entropy.mul_(weight)).mean()
            gradient.add_(scaled, alpha=bce / p.numel())
        if dice:
            dims = (0, 2, 3)
            true = target.sum(dim=dims, keepdim=True)
            difference = torch.linalg.vector_norm(error, 1, dim=dims, keepdim=True)
            true, difference, total = ranks.sum(torch.stack([true, difference, p.sum(dim=dims, keepdim=True) + true]))
            total.clamp_(min=_EPSILON)
            factor = dice * (true > 0) / true.numel()
            value += (factor * difference / total).sum()
            # The average of the gradients over the ranks divides by their number.
            by_probability = error.sign_().sub_(difference / total).mul_(factor * ranks.world_size / total)
            gradient.addcmul_(by_probability, p.mul_(q))
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None, None, None, None, None


def _categorical_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return (n, h, w): the cross-entropy of background and exclusive classes."""
    background = (1 - target.sum(dim=1, keepdim=True)).clamp(min=0)
    return -(torch.cat([background, target], dim=1) * logits.log_softmax(dim=1)).sum(dim=1)


def soft_dice_loss(probability: Tensor, target: Tensor, ranks: Ranks = ONE_PROCESS) -> Tensor:
    """Compute the soft Dice loss Σ|p − t| / (Σp + Σt), computed over the batch, not per image.

    For binary targets this equals 1 − 2·Σpt / (Σp + Σt). For fractional targets that form is not lowest at p = t; this
    one is (Wang et al. 2023, https://arxiv.org/abs/2303.16296). Reimplemented because the import of
    segmentation_models_pytorch takes seconds, and its DiceLoss supports no fractional targets of exclusive classes.

    Args:
        probability: (n, classes, h, w) float32, 0 to 1.
        target: (n, classes, h, w) float32, 0 to 1.
        ranks: the processes that share the batch.

    Returns:
        A float32 scalar, 0 to 1: the mean over the classes. A class without a pixel in the target counts as 0.
    """
    dims = (0, 2, 3)
    true = target.sum(dim=dims)
    difference = (probability - target).abs().sum(dim=dims)
    true, difference, total = ranks.sum(torch.stack([true, difference, probability.sum(dim=dims) + true]))
    loss = difference / total.clamp(min=_EPSILON)
    mean: Tensor = (loss * (true > 0)).mean()
    return mean


def boundary_weight(target: Tensor, extra: float, ranks: Ranks = ONE_PROCESS) -> Tensor:
    """Compute a weight per pixel that is higher at the boundary of the mask, where most errors are.

    The weight is 1 + extra · 4p(1 − p). p is the local mean of the target in a 7×7 window: 1/2 on a straight edge, 0 or
    1 where the window holds no edge. Boundary weights were used by the 1st and the 3rd place of the Carvana challenge.

    Args:
        target: (n, c, h, w) float, 0 to 1.
        extra: additional weight on a straight edge.
        ranks: the processes that share the batch.

    Returns:
        (n, c, h, w) float with mean 1, so that the terms of the loss keep their proportion.
    """
    p = box_mean(target)
    weight = torch.addcmul(p, p, p, value=-1).mul_(4 * extra).add_(1)
    return weight.div_(ranks.mean(weight.mean()))


def box_mean(x: Tensor) -> Tensor:
    """Compute the mean of the 7×7 window around each pixel; padding is not counted.

    Equals an average pooling with stride 1, which takes nine times as long on a CPU: a window of 7 is the sum of
    windows of 4, 2 and 1, and the axes are independent.

    Args:
        x: (n, c, h, w) float.

    Returns:
        The same shape.
    """
    for axis in (-1, -2):
        size = x.shape[axis]
        padded = F.pad(x, (3, 3) if axis == -1 else (0, 0, 3, 3))
        two = padded.narrow(axis, 0, size + 5) + padded.narrow(axis, 1, size + 5)
        seven = two.narrow(axis, 0, size) + two.narrow(axis, 2, size)
        seven += two.narrow(axis, 4, size)
        seven += padded.narrow(axis, 6, size)
        position = torch.arange(size, device=x.device)
        count = (position + 4).clamp(max=size) - (position - 3).clamp(min=0)
        x = seven.div_(count if axis == -1 else count[:, None])
    return x
