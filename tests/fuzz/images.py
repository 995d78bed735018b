"""Images of every format: an array of the size that the header promises, or a UserError."""

import contextlib
import warnings

import numpy as np

from pipeline.data.images import decode_image, image_size
from pipeline.errors import UserError
from tests.fuzz.files import encode_images, write

warnings.simplefilter("ignore")  # of Pillow, about damaged metadata
SEEDS = encode_images()


def check(data: bytes) -> None:
    """Decode at full size and at another size."""
    path = write("a.jpg", data)
    with contextlib.suppress(UserError):
        image = decode_image(data, path)
        assert image.dtype == np.uint8
        assert image_size(path) == image.shape[1::-1]
        del image
        assert decode_image(data, path, (5, 4)).shape == (4, 5, 3)
