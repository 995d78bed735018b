"""Files to arrays: photos at the scale they are needed, masks as they are."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError

# The JPEG decoder can shrink by eighths on its way, which costs a fraction of a full decode. Being this little
# below the wanted size is allowed, so that half of 1918 serves for 960.
TOLERANCE = 0.98

# Pillow refuses pictures of more than 179 million pixels as attacks; a panorama may have more.
Image.MAX_IMAGE_PIXELS = 2**31

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_DIRECT_MODES = ("RGB", "L")
# What Pillow's readers were seen to raise on damaged files.
DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    UnidentifiedImageError,
)


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a photo of any common format.

    Grayscale becomes three equal channels, transparency is laid on white, CMYK is converted, and a picture that
    its EXIF data calls rotated is turned upright.

    Args:
        path: the file.
        size: (width, height) of the result; None keeps the file's own.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        UserError: the file is missing, truncated, or no picture.
    """
    return decode_image(read_bytes(path), path, size)


def decode_image(data: bytes, path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Like `read_image`, from bytes already read; `path` is for the messages."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            upright = picture.getexif().get(_ORIENTATION, 1) == 1
            image = None
            if picture.format == "JPEG" and picture.mode in _DIRECT_MODES and upright:
                image = _decode_jpeg(data, size)
            if image is None:
                image = _convert(picture)
    except DECODER_ERRORS as error:
        raise UserError(path, f"cannot be decoded ({error})", "fetch the file again, or remove it") from None
    return image if size is None else resize_image(image, size)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture as `read_image` would return it, from its header alone.

    Raises:
        UserError: the file is missing or no picture.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # Orientations 5 to 8 lie on their side.
            return (height, width) if picture.getexif().get(_ORIENTATION, 1) >= 5 else (width, height)
    except DECODER_ERRORS as error:
        raise UserError(path, f"cannot be opened ({error})", "fetch the file again, or remove it") from None


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (height, width[, 3]) uint8 to `size` = (width, height): by area when shrinking, else linearly."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    shrinks = size[0] <= width and size[1] <= height
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        UserError: it is missing, a folder, or may not be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "check the path") from None


def _decode_jpeg(data: bytes, size: tuple[int, int] | None) -> np.ndarray | None:
    """Decode at the smallest scale that is enough; None if this decoder has any complaint, which Pillow then judges."""
    width, height = (int(side * TOLERANCE) for side in size or (0, 0))
    try:
        return simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
    except ValueError:
        return None


def _convert(picture: Image.Image) -> np.ndarray:
    """Any picture Pillow can open → (height, width, 3) uint8 RGB, upright."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        # 16-bit grayscale: `convert` would cut it off at 255 instead of scaling it.
        values = np.asarray(picture, dtype=np.float32)
        picture = Image.fromarray((values / max(values.max(), 1) * 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.asarray(picture.convert("RGB"))
