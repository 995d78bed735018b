"""How much of a mask is in doubt, by its own probabilities: a measure of its quality that needs no ground truth."""

import torch
from torch import Tensor

_PIXELS = 2**17
"""More pixels than this are sampled on a grid: a thirtieth of the time, and the same number to two digits."""


def expected_dice_loss(probability: Tensor, masks: Tensor) -> Tensor:
    """Estimate 1 - Dice of predicted masks as if the probabilities were right.

    The mean of several models is in doubt where one of them is, and also where they disagree.

    Args:
        probability: (classes, h, w) float32, 0 to 1.
        masks: (classes, h, w) bool, made from them.

    Returns:
        (classes,) float32, 0 to 1: the expected number of missed and added pixels over the expected sum of both
        areas; 0 where there is neither a mask nor a probability.
    """
    wrong, total = expected_dice_terms(probability, masks)
    return torch.where(total > 0, wrong / total.clamp(min=1e-6), 0)


def expected_dice_terms(probability: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers of each class whose quotient is `expected_dice_loss`; those of parts of an image add up."""
    step = max(1, int((probability.shape[-2] * probability.shape[-1] / _PIXELS) ** 0.5))
    probability, masks = probability[:, ::step, ::step], masks[:, ::step, ::step].float()
    scale = step**2  # parts of an image may be sampled with other steps
    return scale * (probability - masks).abs().sum(dim=(1, 2)), scale * (probability + masks).sum(dim=(1, 2))
