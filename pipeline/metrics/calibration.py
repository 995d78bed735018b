"""Calibration: how often a pixel of a given probability belongs to the mask."""

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.metrics.counts import NUM_BINS

CALIBRATION_BINS = 16
"""Bins of equal width, each of several bins of `probability_histogram`."""


def clamped_sums(probability: Tensor) -> np.ndarray:
    """Sum the probabilities clamped to the first bin of `probability_histogram`, and to the last one.

    Nearly all pixels are in these two bins, where the center of a bin is far from their mean. Together with the
    histogram, the sums determine the mean of either bin.

    Args:
        probability: (classes, h, w) float, 0 to 1.

    Returns:
        (classes, 2) float64: the sums of min(p, 1 / NUM_BINS) and of max(p, 1 - 1 / NUM_BINS).
    """
    first, last = np.float32(1 / NUM_BINS), np.float32(1 - 1 / NUM_BINS)
    if probability.device.type == "cpu":
        # OpenCV sums in float64 four times as fast as torch.
        pairs = [(np.minimum(map_hw, first), np.maximum(map_hw, last)) for map_hw in probability.numpy()]
        return np.array([[cv2.sumElems(clamped)[0] for clamped in pair] for pair in pairs])
    clamped = probability.clamp(max=float(first)), probability.clamp(min=float(last))
    sums: np.ndarray = torch.stack([each.sum((1, 2), dtype=torch.float64) for each in clamped], dim=1).cpu().numpy()
    return sums


def calibration_curve(histogram: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Compare the mean probability with the fraction of true pixels, bin by bin.

    Args:
        histogram: (2, NUM_BINS) integer from `probability_histogram`, one class; that of several images is their sum.
        sums: (2,) from `clamped_sums`, likewise.

    Returns:
        (CALIBRATION_BINS, 3) float64: mean probability, fraction of true pixels, number of pixels. The mean is exact in
        the first and the last bin of the histogram, and elsewhere taken from the centers of its bins. Both figures of a
        bin without pixels are 0.
    """
    pixels = histogram.sum(axis=0)
    totals = pixels * (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    outside = pixels.sum() - pixels[[0, -1]]
    totals[[0, -1]] = sums - outside * [1 / NUM_BINS, 1 - 1 / NUM_BINS]
    fine = np.stack([totals, histogram[1], pixels], axis=1)
    columns: np.ndarray = fine.reshape(CALIBRATION_BINS, -1, 3).sum(axis=1)
    columns[:, :2] /= np.maximum(columns[:, 2:], 1)
    return columns
