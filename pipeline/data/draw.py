"""Draw masks over images, as arrays."""

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.data.images import resize_image

# Colors that color-blind people can tell apart (Okabe and Ito 2008), bright enough on a photograph.
MASK_COLORS = ((255, 40, 110), (0, 158, 115), (86, 180, 233), (230, 159, 0), (240, 228, 66), (0, 114, 178))
MISSED_COLOR = (255, 200, 0)
ADDED_COLOR = (0, 220, 255)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image (h, w, channels) as (h, w, 3), to be looked at: of other than three channels the middle one."""
    if image.shape[2] == 3:
        return image
    return np.repeat(image[..., image.shape[2] // 2, None], 3, axis=-1)


def draw_overlay(image: np.ndarray, masks: np.ndarray, opacity: float = 0.45) -> np.ndarray:
    """Tint the masked part of an image and draw its outline, in one color per class.

    Args:
        image: (h, w, 3) uint8 RGB.
        masks: (classes, h, w) bool.
        opacity: opacity of the tint, 0 to 1.

    Returns:
        A new (h, w, 3) uint8 RGB image.
    """
    result = image.copy()
    thickness = max(1, round(image.shape[1] / 960))
    for number, mask in enumerate(masks):
        color = MASK_COLORS[number % len(MASK_COLORS)]
        tinted = cv2.addWeighted(result, 1 - opacity, np.full_like(image, color), opacity, 0)
        result = np.where(mask[..., None], tinted, result)
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(result, outlines, -1, color, thickness)
    return result


def draw_errors(image: np.ndarray, masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mark missed pixels (yellow) and added pixels (cyan) on a darkened image.

    Args:
        image: (h, w, 3) uint8 RGB.
        masks: (classes, h, w) bool, predicted.
        truth: (classes, h, w) bool.
    """
    result = (image * 0.6).astype(np.uint8)
    result[(truth & ~masks).any(axis=0)] = MISSED_COLOR
    result[(masks & ~truth).any(axis=0)] = ADDED_COLOR
    return result


def tile_images(rows: Sequence[Sequence[np.ndarray]], width: int = 480) -> np.ndarray:
    """Tile images (h, w, 3) of any size, each resized to `width` and to the height that the first one then has."""
    height = round(rows[0][0].shape[0] * width / rows[0][0].shape[1])
    return np.vstack([np.hstack([resize_image(image, (width, height)) for image in row]) for row in rows])
