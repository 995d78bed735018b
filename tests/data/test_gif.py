"""GIF files give the same pixels as with Pillow, or none, so that Pillow reads them or says what is wrong."""

import io

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.gif import decode_gif


def gif_bytes(pixels: np.ndarray, **options: object) -> bytes:
    image = Image.fromarray(pixels, mode="P")
    image.putpalette([value for color in range(256) for value in (color, 255 - color, color // 2)])
    image.save(file := io.BytesIO(), "GIF", **options)
    return file.getvalue()


def decode(data: bytes) -> np.ndarray | None:
    with Image.open(io.BytesIO(data)) as pil_image:
        return decode_gif(data, pil_image)


@st.composite
def pixels(draw: st.DrawFn) -> np.ndarray:
    """Runs of any length in few or many colors: short and long codes, full tables, codes that follow themselves."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    colors, longest = draw(st.sampled_from([1, 2, 3, 17, 256])), draw(st.sampled_from([1, 5, 400, 9000]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    runs = random.integers(1, longest, height * width, endpoint=True)
    values = np.repeat(random.integers(0, colors, len(runs)), runs)[: height * width]
    return values.reshape(height, width).astype(np.uint8)


@given(pixels(), st.booleans())
@settings(deadline=None)  # the first call compiles
def test_same_pixels_as_pillow(pixels, interlace):
    decoded = decode(gif_bytes(pixels, interlace=interlace, optimize=False))
    assert decoded is not None
    assert np.array_equal(decoded, pixels)


INTACT = gif_bytes(np.tile(np.arange(0, 250, 5, dtype=np.uint8).repeat(20), (30, 1)), optimize=False)
START = len(INTACT) - 500


@given(st.integers(START + 1, len(INTACT)), st.integers(0, 10**6), st.integers(0, 255))
@example(4129, 4110 - START, 0)  # all pixels are there, but the last sub-block is cut
@settings(max_examples=500, deadline=None)
def test_damaged_files_are_read_as_pillow_does_or_left_to_it(length, place, value):
    damaged = bytearray(INTACT[:length])
    damaged[START + place % (length - START)] = value
    if (decoded := decode(bytes(damaged))) is not None:
        with Image.open(io.BytesIO(damaged)) as pil_image:
            assert np.array_equal(decoded, np.asarray(pil_image))


def test_transparency_changes_no_index():
    frame = np.eye(20, dtype=np.uint8)
    assert np.array_equal(decode(gif_bytes(frame, transparency=0)), frame)


def test_frame_smaller_than_the_image_is_left_to_pillow():
    frame = np.eye(20, dtype=np.uint8)
    data = bytearray(gif_bytes(frame, optimize=False))
    descriptor = data.index(b"," + bytes(4) + b"\x14\x00\x14\x00")
    data[descriptor + 5] = 19
    assert decode(bytes(data)) is None


def test_real_masks(shared_carvana):
    for path in sorted((shared_carvana / "train_masks").glob("*.gif"))[::50]:
        decoded = decode(path.read_bytes())
        assert decoded is not None
        assert np.array_equal(decoded, np.asarray(Image.open(path)))
