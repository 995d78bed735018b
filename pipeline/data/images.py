"""Read images: decode files to RGB arrays at the scale that is needed."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError, read_fix

TOLERANCE = 0.98
"""Accept a decoded JPEG whose sides are at least 0.98 of the requested ones (959 for 960); it is then resized. The
decoder downsamples by eighths at a fraction of the cost of a full decode."""

# Pillow refuses images of more than 179 million pixels as attacks; panoramas and slides have more.
Image.MAX_IMAGE_PIXELS = 2**31

_ORIENTATION = 0x0112  # EXIF tag
_DIRECT_MODES = ("RGB", "L")
DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    UnidentifiedImageError,
    Image.DecompressionBombError,
)
"""Exceptions of Pillow's readers on damaged files."""


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image of any common format.

    Grayscale becomes three equal channels, transparency is blended with white, CMYK is converted, and the EXIF
    orientation is applied.

    Args:
        path: the file.
        size: (width, height) of the result; None keeps the file's.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        UserError: the file is missing, truncated, or not an image.
    """
    return decode_image(read_bytes(path), path, size)


def decode_image(
    data: bytes, path: Path, size: tuple[int, int] | None = None, on_damage: Callable[[str], None] | None = None
) -> np.ndarray:
    """Decode an image from the bytes of a file. See `read_image`.

    Args:
        data: the bytes.
        path: for messages.
        size: see `read_image`.
        on_damage: called with the decoder's complaint about a JPEG that decodes nevertheless, with wrong pixels.
    """
    complaint = None
    try:
        with Image.open(io.BytesIO(data)) as pil_image:
            image = None
            if pil_image.format == "JPEG" and pil_image.mode in _DIRECT_MODES and _orientation(pil_image) == 1:
                try:
                    image = _decode_jpeg(data, size)
                except ValueError as error:
                    complaint = str(error)  # of a strict decoder; Pillow's may read the file
            if image is None:
                image = _to_rgb(pil_image)
    except DECODER_ERRORS as error:
        raise UserError(path, f"cannot be decoded ({error})", "download the file again, or remove it") from None
    if on_damage is not None and complaint is not None and complaint.startswith("Corrupt JPEG data"):
        on_damage(complaint)
    return image if size is None else resize_image(image, size)


def image_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) that `read_image` would return, from the file's header.

    Raises:
        UserError: the file is missing or not an image.
    """
    try:
        with Image.open(path) as pil_image:
            width, height = pil_image.size
            # Orientations 5 to 8 exchange the axes.
            return (height, width) if _orientation(pil_image) >= 5 else (width, height)
    except DECODER_ERRORS as error:
        raise UserError(path, f"cannot be opened ({error})", "download the file again, or remove it") from None


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (h, w[, c]) uint8 to `size` = (width, height): mean of areas when shrinking, else bilinear."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    shrinks = size[0] <= width and size[1] <= height
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        UserError: it is missing, a folder, or not readable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", read_fix(error)) from None


def _orientation(pil_image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8. Values outside that range, and text, mean 1: no reader applies them."""
    value = pil_image.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decode_jpeg(data: bytes, size: tuple[int, int] | None) -> np.ndarray:
    """Decode at the smallest sufficient scale; raise a ValueError if the decoder has a warning."""
    width, height = (int(side * TOLERANCE) for side in size or (0, 0))
    image: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
    return image


def _to_rgb(pil_image: Image.Image) -> np.ndarray:
    """Convert any image that Pillow can open to (h, w, 3) uint8 RGB, upright."""
    pil_image = ImageOps.exif_transpose(pil_image)
    if pil_image.mode.startswith(("I", "F")):
        # 16-bit grayscale: `convert` would clip at 255 instead of scaling.
        values = np.asarray(pil_image, dtype=np.float32)
        pil_image = Image.fromarray((values / max(values.max(), 1) * 255).astype(np.uint8))
    if pil_image.mode in ("RGBA", "LA", "PA") or "transparency" in pil_image.info:
        pil_image = pil_image.convert("RGBA")
        white = Image.new("RGBA", pil_image.size, "white")
        pil_image = Image.alpha_composite(white, pil_image)
    return np.asarray(pil_image.convert("RGB"))
