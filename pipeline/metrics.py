"""Dice and accuracy of one image, at one threshold or at all thresholds at once. Pure functions."""

import numpy as np
import torch
from torch import Tensor

NUM_BINS = 256
"""Bins of a probability histogram. The thresholds between them are k / NUM_BINS."""


def dice_score(mask: Tensor, truth: Tensor) -> float:
    """Compute 2·|X∩Y| / (|X|+|Y|) of two bool masks of the same shape; 1 if both are empty."""
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else 1.0


def pixel_accuracy(mask: Tensor, truth: Tensor) -> float:
    """Compute the fraction of pixels on which two bool masks of the same shape agree."""
    return float((mask == truth).double().mean())


def probability_histogram(probability: Tensor, truth: Tensor) -> np.ndarray:
    """Count the pixels of an image by truth and probability, which determines the Dice at every threshold.

    Args:
        probability: (h, w) float, 0 to 1.
        truth: (h, w) bool, on the same device.

    Returns:
        (2, NUM_BINS) int64: background, object. Bin k holds probabilities from k / NUM_BINS to below
        (k + 1) / NUM_BINS; the last one also 1.
    """
    bins = (probability * NUM_BINS).clamp_(0, NUM_BINS - 1).int()
    counts = torch.bincount((bins + truth * NUM_BINS).flatten(), minlength=2 * NUM_BINS)
    return counts.view(2, NUM_BINS).cpu().numpy()


def counts_by_threshold(histograms: np.ndarray, *, may_be_empty: bool) -> np.ndarray:
    """Count the predicted pixels by truth at every threshold k / NUM_BINS.

    Args:
        histograms: (..., 2, NUM_BINS) from `probability_histogram`.
        may_be_empty: if False, thresholds above every probability count the highest bin that has a pixel, as
            `pipeline.inference.postprocess.binarize` does.

    Returns:
        (..., 2, NUM_BINS) int64: predicted pixels that are background, object, with at least that probability.
    """
    counts = np.cumsum(histograms[..., ::-1], axis=-1, dtype=np.int64)[..., ::-1]
    if may_be_empty:
        return counts
    highest = (counts.sum(axis=-2) > 0).sum(axis=-1) - 1
    bins = np.minimum(np.arange(NUM_BINS), highest[..., None])
    return np.take_along_axis(counts, np.broadcast_to(bins[..., None, :], counts.shape), axis=-1)


def dice_by_threshold(histograms: np.ndarray, *, may_be_empty: bool = True) -> np.ndarray:
    """Compute the Dice at every threshold k / NUM_BINS.

    Args:
        histograms: (..., 2, NUM_BINS) from `probability_histogram`.
        may_be_empty: see `counts_by_threshold`.

    Returns:
        (..., NUM_BINS) float64; index k is the threshold k / NUM_BINS.
    """
    predicted = counts_by_threshold(histograms, may_be_empty=may_be_empty)
    overlap = predicted[..., 1, :]
    total = predicted.sum(axis=-2) + histograms[..., 1, :].sum(axis=-1, keepdims=True)
    dice: np.ndarray = np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)
    return dice


def accuracy_by_threshold(histograms: np.ndarray, *, may_be_empty: bool = True) -> np.ndarray:
    """Compute the pixel accuracy at every threshold k / NUM_BINS; shapes as in `dice_by_threshold`."""
    predicted = counts_by_threshold(histograms, may_be_empty=may_be_empty)
    true_background = histograms[..., 0, :].sum(axis=-1, keepdims=True) - predicted[..., 0, :]
    accuracy: np.ndarray = (predicted[..., 1, :] + true_background) / histograms.sum(axis=(-2, -1))[..., None]
    return accuracy
