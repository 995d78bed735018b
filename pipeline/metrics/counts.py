"""Histograms of probabilities, which determine a mask's pixel counts at every threshold at once."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

NUM_BINS = 256
"""Bins of a probability histogram. The thresholds between them are k / NUM_BINS."""


def probability_histogram(probability: "Tensor", truth: "Tensor") -> np.ndarray:
    """Count the pixels of an image by ground truth and probability.

    Args:
        probability: (c, h, w) float, 0 to 1: one map per class.
        truth: (c, h, w) bool, on the same device.

    Returns:
        (c, 2, NUM_BINS) int64: background, object. Bin k holds probabilities from k / NUM_BINS to below
        (k + 1) / NUM_BINS; the last one also 1.
    """
    import torch

    classes = len(probability)
    bins = (probability * NUM_BINS).clamp_(0, NUM_BINS - 1).int()
    offsets = torch.arange(classes, device=bins.device, dtype=bins.dtype).view(-1, 1, 1) * (2 * NUM_BINS)
    counts = torch.bincount((bins + truth * NUM_BINS + offsets).flatten(), minlength=classes * 2 * NUM_BINS)
    return counts.view(classes, 2, NUM_BINS).cpu().numpy()


def counts_by_threshold(histograms: np.ndarray, *, may_be_empty: bool) -> np.ndarray:
    """Count the predicted pixels by ground truth at every threshold k / NUM_BINS.

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
