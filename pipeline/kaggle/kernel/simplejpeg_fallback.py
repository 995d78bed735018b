"""Stands in for simplejpeg where a notebook's image lacks it: OpenCV shrinks while decoding too, if only by halves."""

import io

import cv2
import numpy as np
from PIL import Image

_SCALES = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))


def decode_jpeg(data: bytes, colorspace: str = "RGB", min_height: int = 0, min_width: int = 0) -> np.ndarray:
    """Decode at the smallest scale that is large enough, or at its own where both are 0.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        ValueError: it is no JPEG that this decoder takes; the caller has another one.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            (width, height), kind = picture.size, picture.format
    except OSError as error:
        raise ValueError(str(error)) from None
    if kind != "JPEG" or colorspace != "RGB":
        raise ValueError(f"{kind} to {colorspace} is not done here")
    fitting = (flag for scale, flag in _SCALES if height // scale >= min_height and width // scale >= min_width)
    flag = next(fitting, cv2.IMREAD_COLOR) if min_height or min_width else cv2.IMREAD_COLOR
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError("cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
