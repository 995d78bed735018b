"""Replace simplejpeg in kernels whose image lacks it. OpenCV also scales while it decodes, but by powers of 2 only."""

import io

import cv2
import numpy as np
from PIL import Image

_SCALES = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))


def decode_jpeg(data: bytes, colorspace: str = "RGB", min_height: int = 0, min_width: int = 0) -> np.ndarray:
    """Decode a JPEG at the smallest scale that is not smaller than a given size.

    Args:
        data: the file's bytes.
        colorspace: "RGB" only.
        min_height: in pixels.
        min_width: in pixels. If both are 0, the scale is 1.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        ValueError: the data is not a JPEG, or another color space is wanted; the caller then uses another decoder.
    """
    width, height, kind = _read_header(data)
    if kind != "JPEG" or colorspace != "RGB":
        raise ValueError(f"decoding {kind} to {colorspace} is not supported")
    flag = cv2.IMREAD_COLOR
    if min_height or min_width:
        fitting = (
            scaled for scale, scaled in _SCALES if -(-height // scale) >= min_height and -(-width // scale) >= min_width
        )
        flag = next(fitting, cv2.IMREAD_COLOR)
    image_bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if image_bgr is None:
        raise ValueError("the JPEG cannot be decoded")
    return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)


def decode_jpeg_header(data: bytes) -> tuple[int, int, str, str]:
    """Return (height, width, color space, subsampling) of a JPEG; the last two are empty here.

    Raises:
        ValueError: the data is not a JPEG.
    """
    width, height, kind = _read_header(data)
    if kind != "JPEG":
        raise ValueError(f"{kind} is not JPEG")
    return height, width, "", ""


def _read_header(data: bytes) -> tuple[int, int, str | None]:
    """Return width, height and format."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return *image.size, image.format
    except OSError as error:
        raise ValueError(str(error)) from None
