"""Split the Dice that a mask loses by the distance of its wrong pixels to the true edge."""

import cv2
import numpy as np

EDGE_DISTANCES = (1, 2, 4, 8)
"""Upper bounds, in pixels, of all parts but the last one."""


def dice_lost_by_distance(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Split 1 - Dice = wrong pixels / (predicted + true pixels) by the distance of each wrong pixel to the true edge.

    The distance is that between the centers of the wrong pixel and the nearest pixel of the other kind in the ground
    truth: 1 for a pixel that touches the edge. The border of the image is not an edge.

    Args:
        mask: (h, w) bool, the predicted mask.
        truth: (h, w) bool.

    Returns:
        (len(EDGE_DISTANCES) + 1,) float64: at most 1 pixel, above 1 to 2, ... above 8. Their sum is 1 - Dice, 0 where
        both masks are empty. Without any edge, all is in the last part.
    """
    parts = len(EDGE_DISTANCES) + 1
    wrong = mask != truth
    x, y, width, height = cv2.boundingRect(wrong.view(np.uint8))
    if not width:
        return np.zeros(parts)
    # Only an edge this near matters, so the distances of most of the image are not needed.
    near = EDGE_DISTANCES[-1] + 1
    box = np.s_[max(0, y - near) : y + height + near, max(0, x - near) : x + width + near]
    inside = truth[box].astype(np.uint8)
    # Each of the two is 0 where the other one is not. OpenCV's faster, approximate distances would move some pixels.
    distances = _distances(inside) + _distances(1 - inside)
    counts = np.bincount(np.searchsorted(EDGE_DISTANCES, distances[wrong[box]]), minlength=parts)
    return counts / (np.count_nonzero(mask) + np.count_nonzero(truth))


def _distances(mask: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel of a mask (h, w) uint8 to the nearest pixel outside of it; huge if none is."""
    return cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
