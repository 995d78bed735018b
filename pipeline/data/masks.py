"""Read mask files and resize masks."""

from pathlib import Path

import cv2
import numpy as np

from pipeline.data.gif import decode_gif
from pipeline.data.images import MAX_PIXELS, image_to_array, open_image, read_bytes, resize_by_area
from pipeline.errors import UserError

Size = tuple[int, int]
"""(width, height) in pixels, as in Pillow, OpenCV and the TOML files."""
Shape = tuple[int, int]
"""(height, width) in pixels, as in NumPy and torch."""
_MAX_LARGE_PIXELS = 1_000_000_000
"""Largest mask file of a competition with windows. It is decoded as a whole, one byte per pixel."""


def read_mask(path: Path, positive: int | str, *, large: bool = False) -> np.ndarray:
    """Read a mask file at its own size.

    Args:
        path: a GIF, PNG or other lossless file; in a palette image the indices count, not the colors.
        positive: value of the object, 1 or 255, beside 0 for the background; "nonzero" for any value.
        large: whether it may have 1 billion pixels, as where a competition has windows, instead of 100 million.

    Returns:
        (h, w) bool.

    Raises:
        UserError: the file cannot be decoded, is too large, has colors, or has other values than 0 and `positive`.
    """
    values = read_mask_values(path, large=large)
    if values.dtype == np.uint8 and positive == 1 and values.max() <= 1:
        return values.view(bool)
    mask: np.ndarray = values != 0
    if values.dtype == bool or positive == "nonzero":
        return mask
    if np.count_nonzero(values == positive) != np.count_nonzero(mask):
        found = np.unique(values)[:6].tolist()
        other = {1: 255, 255: 1}[int(positive)]
        fix = f"set masks.positive = {other}" if set(found) <= {0, other} else "save it without interpolated values"
        what = f"has the values {', '.join(map(str, found))}; expected only 0 and {positive}"
        raise UserError(path, what, fix)
    return mask


def read_mask_values(path: Path, *, large: bool = False) -> np.ndarray:
    """Read the values of a mask file, (h, w) of the file's integer type; bool for a file with one bit per pixel.

    Raises:
        UserError: the file cannot be decoded, is too large (see `read_mask`) or has colors.
    """
    data = read_bytes(path)
    with open_image(data, path, _MAX_LARGE_PIXELS if large else MAX_PIXELS) as pil_image:
        if (indices := decode_gif(data, pil_image)) is not None:
            return indices
        values = image_to_array(pil_image)
        mode = pil_image.mode
    if values.ndim == 3:
        # A grayscale mask saved as RGB or RGBA has equal channels; the alpha channel is ignored.
        channels = values[..., :1] if mode in ("LA", "PA") else values[..., :3]
        if any((channels[..., 0] != channels[..., other]).any() for other in range(1, channels.shape[2])):
            raise UserError(path, "is a color image, not a mask", "save it with one channel")
        values = channels[..., 0]
    return values


def mask_size(path: Path, *, large: bool = False) -> Size:
    """Return the (width, height) of a mask file from its header.

    Raises:
        UserError: it cannot be opened or is too large, see `read_mask`.
    """
    with open_image(path, path, _MAX_LARGE_PIXELS if large else MAX_PIXELS) as pil_image:
        return pil_image.size


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask for training, without rounding.

    Args:
        mask: (h, w) bool.
        size: (width, height).

    Returns:
        (height, width) uint8: 255 × the fraction of each new pixel that the mask covers. Rounded to 0 and 1, the Dice
        at native size could not exceed 0.998 at half scale.
    """
    return resize_by_area(mask.view(np.uint8) * np.uint8(255), size)


def resize_mask_binary(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask (h, w) bool to `size` = (width, height), bool, by nearest neighbor."""
    if mask.shape == size[::-1]:
        return mask
    resized = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return resized > 0
