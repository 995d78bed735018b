"""The replacement of simplejpeg decodes as simplejpeg does."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from pipeline.kaggle.kernel.simplejpeg_fallback import decode_jpeg, decode_jpeg_header
from tests.helpers import draw_ellipse


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((0, 0), (96, 128)),
        ((12, 16), (12, 16)),
        ((13, 16), (24, 32)),
        ((24, 32), (24, 32)),
        ((24, 33), (48, 64)),
        ((49, 0), (96, 128)),
        ((100, 200), (96, 128)),
    ],
)
def test_the_smallest_sufficient_scale_is_decoded(size: tuple[int, int], shape: tuple[int, int]) -> None:
    image, _ = draw_ellipse(np.random.default_rng(0), (128, 96))
    content = simplejpeg.encode_jpeg(image, quality=95)
    decoded = decode_jpeg(content, "RGB", min_height=size[0], min_width=size[1])
    reference = simplejpeg.decode_jpeg(content, "RGB", min_height=size[0], min_width=size[1])
    assert decoded.dtype == np.uint8
    assert decoded.shape == (*shape, 3)
    assert np.abs(decoded.mean((0, 1)) - reference.mean((0, 1))).max() < 1.5
    if decoded.shape == reference.shape:
        assert np.abs(decoded.astype(int) - reference.astype(int)).mean() < 2


def test_other_formats_and_color_spaces_are_refused() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="PNG to RGB is not supported"):
        decode_jpeg(buffer.getvalue())
    with pytest.raises(ValueError, match="cannot identify"):
        decode_jpeg(b"not an image")
    image, _ = draw_ellipse(np.random.default_rng(0))
    with pytest.raises(ValueError, match="JPEG to BGR is not supported"):
        decode_jpeg(simplejpeg.encode_jpeg(image), "BGR")


def test_header_gives_the_size() -> None:
    content = simplejpeg.encode_jpeg(draw_ellipse(np.random.default_rng(0), (128, 96))[0])
    assert decode_jpeg_header(content)[:2] == simplejpeg.decode_jpeg_header(content)[:2] == (96, 128)
    with pytest.raises(ValueError, match="cannot identify"):
        decode_jpeg_header(b"not an image")


def test_the_scale_is_that_of_simplejpeg_for_odd_sides() -> None:
    """libjpeg-turbo rounds the sides up."""
    content = simplejpeg.encode_jpeg(draw_ellipse(np.random.default_rng(0), (150, 90))[0])
    for width, height in ((75, 45), (38, 23), (19, 12)):
        assert decode_jpeg(content, "RGB", height, width).shape == (height, width, 3)
