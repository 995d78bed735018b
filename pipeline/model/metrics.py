"""Dice and accuracy of one image, at one threshold or at all of them at once."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 256
"""A probability is counted in one of this many equal bins; the thresholds between them are k / LEVELS."""


def dice(mask: Tensor, truth: Tensor) -> float:
    """2·|X∩Y| / (|X|+|Y|) of two bool masks of one shape; 1 when both are empty."""
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else 1.0


def accuracy(mask: Tensor, truth: Tensor) -> float:
    """Share of pixels on which two bool masks of one shape agree."""
    return float((mask == truth).double().mean())


def enlarge(probability: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize probabilities (n, 1, h, w) to `size` = (height, width), bilinear.

    Probabilities are enlarged and then cut, never the other way round: a mask cut at half scale and then enlarged
    has stairs for edges and cannot score above 0.9986 on Carvana; cut after enlarging, the limit is 0.99977.
    """
    if tuple(probability.shape[-2:]) == tuple(size):
        return probability
    return F.interpolate(probability, size, mode="bilinear", align_corners=False)


def histogram(probability: Tensor, truth: Tensor) -> np.ndarray:
    """Count the pixels of an image by truth and probability: enough for the Dice at any threshold.

    Args:
        probability: (h, w) float, 0 to 1.
        truth: (h, w) bool, on the same device.

    Returns:
        (2, LEVELS) int64: background, object; bin k holds probabilities from k / LEVELS to below (k + 1) / LEVELS.
    """
    bins = (probability * LEVELS).clamp_(0, LEVELS - 1).int()
    counts = torch.bincount((bins + truth * LEVELS).flatten(), minlength=2 * LEVELS)
    return counts.view(2, LEVELS).cpu().numpy()


def dice_by_threshold(histograms: np.ndarray) -> np.ndarray:
    """Dice at every threshold k / LEVELS, where a pixel belongs to the mask if its probability is at least that.

    Args:
        histograms: (..., 2, LEVELS) from `histogram`.

    Returns:
        (..., LEVELS) float64; index k is the threshold k / LEVELS.
    """
    at_least = np.cumsum(histograms[..., ::-1], axis=-1)[..., ::-1]
    overlap = at_least[..., 1, :]
    total = at_least.sum(axis=-2) + histograms[..., 1, :].sum(axis=-1, keepdims=True)
    return np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)


def accuracy_by_threshold(histograms: np.ndarray) -> np.ndarray:
    """Pixel accuracy at every threshold k / LEVELS; shapes as in `dice_by_threshold`."""
    at_least = np.cumsum(histograms[..., ::-1], axis=-1)[..., ::-1]
    background = histograms[..., 0, :].sum(axis=-1, keepdims=True) - at_least[..., 0, :]
    return (at_least[..., 1, :] + background) / histograms.sum(axis=(-2, -1))[..., None]
