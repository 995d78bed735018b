"""Split a mask into objects: connected components, or a watershed of the distance transform."""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from pipeline.competition import Competition

Splitter = Callable[[np.ndarray], tuple[np.ndarray, int]]
"""Map a mask (h, w) bool to labels (h, w) int32, 0 background and 1 to n the objects, and n."""


def label_components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Label the connected components of a mask (8-connectivity).

    Args:
        mask: (h, w) bool.

    Returns:
        labels (h, w) int32 (0 background), and the number of components.
    """
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return labels, count - 1


def split_touching(mask: np.ndarray, min_distance: int) -> tuple[np.ndarray, int]:
    """Label objects that touch: a watershed of the distance transform, one object per peak.

    Args:
        mask: (h, w) bool.
        min_distance: smallest distance in pixels between two peaks.

    Returns:
        As `label_components`.
    """
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    components, count = label_components(mask)
    if not count:
        return components, 0
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    # Smoothed, so that a ragged border does not give several peaks.
    distance = cv2.GaussianBlur(distance, (0, 0), max(0.5, min_distance / 4))
    peaks = peak_local_max(distance, min_distance=min_distance, labels=components, exclude_border=False)
    markers = np.zeros(mask.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, markers, mask=mask, connectivity=2).astype(np.int32)
    # A component too small for a peak of its own is an object too.
    missed = mask & (labels == 0)
    if missed.any():
        more, more_count = label_components(missed)
        labels[missed] = more[missed] + len(peaks)
        return labels, len(peaks) + more_count
    return labels, len(peaks)


def label_whole_mask(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Label the whole mask as one object; none if it is empty."""
    return mask.astype(np.int32), int(mask.any())


def splitter(competition: Competition) -> Splitter:
    """Return how the masks of a competition are split into objects: not at all, unless each object has a row."""
    if competition.csv.rows != "instance":
        return label_whole_mask
    if competition.instances.split == "watershed":
        return partial(split_touching, min_distance=competition.instances.min_distance)
    return label_components
