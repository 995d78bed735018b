"""Mask files of every format: a mask or a UserError."""

import contextlib
import warnings

from pipeline.data.masks import read_mask
from pipeline.errors import UserError
from tests.fuzz.files import encode_images, write

warnings.simplefilter("ignore")  # of Pillow, about damaged metadata
SEEDS = encode_images()


def check(data: bytes) -> None:
    """Read the file with every kind of positive value."""
    path = write("a.png", data)
    for positive in (1, 255, "nonzero"):
        with contextlib.suppress(UserError):
            mask = read_mask(path, positive)
            assert mask.dtype == bool
            assert mask.ndim == 2
