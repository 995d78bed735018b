"""The masks of one image at many thresholds, in one byte per pixel and class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pipeline.inference.postprocess import Postprocess
from pipeline.metrics.counts import NUM_BINS

_STRIP_PIXELS = 2**20  # np.searchsorted returns eight bytes per pixel, so it gets a part of the image at a time


@dataclass(frozen=True)
class Levels:
    """How many thresholds each pixel reaches. Gives the masks of `pipeline.inference.postprocess.binarize`."""

    counts: np.ndarray
    """(classes, h, w) uint8."""
    thresholds: tuple[float, ...]
    """Ascending."""
    needed: tuple[tuple[int, ...], ...]
    """(classes, thresholds) A pixel is in the mask of a class at a threshold if its count is at least this."""

    def masks(self, threshold: float) -> np.ndarray:
        """Return the masks (classes, h, w) bool at one of the thresholds."""
        index = self.thresholds.index(threshold)
        return self.counts >= np.array([levels[index] for levels in self.needed])[:, None, None]

    def areas(self) -> list[list[int]]:
        """Return the number of pixels in the mask of each class at each threshold: (classes, thresholds)."""
        result = []
        for counts, needed in zip(self.counts, self.needed, strict=True):
            histogram = np.bincount(counts.ravel(), minlength=max(needed) + 1)
            result.append([int(histogram[level:].sum()) for level in needed])
        return result


def count_levels(probability: Tensor, thresholds: Sequence[float], postprocess: Postprocess) -> Levels:
    """Count the thresholds that each pixel reaches.

    Args:
        probability: (classes, h, w) float32, 0 to 1.
        thresholds: up to 254 different thresholds of all classes, ascending.
        postprocess: its rules for empty masks and exclusive classes are used; its thresholds and minimum areas are not.

    Returns:
        The levels; ``levels.masks(t)`` are the masks of `binarize` with the threshold t and without minimum areas.
    """
    values = probability.cpu().numpy()
    counts = np.empty(values.shape, dtype=np.uint8)
    needed = []
    for plane, target in zip(values, counts, strict=True):
        limit = 1.0 if postprocess.may_be_empty else _limit(plane)
        cuts = sorted({min(threshold, limit) for threshold in thresholds})
        needed.append(tuple(1 + cuts.index(min(threshold, limit)) for threshold in thresholds))
        rows = max(1, _STRIP_PIXELS // plane.shape[1])
        for top in range(0, len(plane), rows):
            strip = slice(top, top + rows)
            target[strip] = np.searchsorted(np.array(cuts, dtype=np.float32), plane[strip], side="right")
    if postprocess.exclusive:
        counts[values < values.max(axis=0)] = 0
    return Levels(counts, tuple(thresholds), tuple(needed))


def _limit(plane: np.ndarray) -> float:
    """Return the highest threshold that `binarize` uses for a class whose mask must not be empty."""
    return float(min(np.floor(plane.max() * NUM_BINS), NUM_BINS - 1) / NUM_BINS)
