"""Masks laid over pictures, as arrays."""

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.data.images import resize_image

_TINT = (255, 40, 110)
_MISSED = (255, 200, 0)
_EXTRA = (0, 220, 255)


def draw_overlay(image: np.ndarray, mask: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Tint the masked part of a picture and draw its edge.

    Args:
        image: (height, width, 3) uint8 RGB.
        mask: (height, width) bool.
        opacity: of the tint, 0 to 1.

    Returns:
        A new (height, width, 3) uint8 RGB picture.
    """
    tinted = cv2.addWeighted(image, 1 - opacity, np.full_like(image, _TINT), opacity, 0)
    result = np.where(mask[..., None], tinted, image)
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(result, edges, -1, _TINT, max(1, round(image.shape[1] / 960)))
    return result


def draw_errors(image: np.ndarray, mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Show where a mask is wrong: yellow what it missed, cyan what it added, on a darkened picture.

    Args:
        image: (height, width, 3) uint8 RGB.
        mask: (height, width) bool, predicted.
        truth: (height, width) bool.
    """
    result = (image * 0.6).astype(np.uint8)
    result[truth & ~mask] = _MISSED
    result[mask & ~truth] = _EXTRA
    return result


def tile_images(rows: Sequence[Sequence[np.ndarray]], width: int = 480) -> np.ndarray:
    """Tile pictures (h, w, 3) of any sizes into one, each as wide as `width` and as high as the first one then is."""
    height = round(rows[0][0].shape[0] * width / rows[0][0].shape[1])
    return np.vstack([np.hstack([resize_image(picture, (width, height)) for picture in row]) for row in rows])
