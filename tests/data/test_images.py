"""Images of every common format are decoded; files that cannot be read are named."""

import contextlib
import errno
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps
from PIL.TiffImagePlugin import IFDRational

from pipeline.data.images import MAX_PIXELS, decode_image, image_size, read_image
from pipeline.data.masks import read_mask_values
from pipeline.errors import UserError
from tests.helpers import draw_ellipse


@pytest.fixture
def picture():
    return Image.fromarray(draw_ellipse(np.random.default_rng(1), (200, 120))[0]).filter(ImageFilter.GaussianBlur(2))


def similar(left, right):
    return np.abs(left.astype(float) - right).mean() < 4


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_formats_give_the_same_array(tmp_path, picture, suffix):
    path = tmp_path / f"a{suffix}"
    picture.save(path, quality=95)
    image = read_image(path)
    assert image.shape == (120, 200, 3)
    assert image.dtype == np.uint8
    assert similar(image, np.asarray(picture))
    assert image_size(path) == (200, 120)


def test_grayscale_gets_three_equal_channels(tmp_path, picture):
    picture.convert("L").save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (120, 200, 3)
    assert (image == image[..., :1]).all()


def test_cmyk_keeps_its_colors(tmp_path, picture):
    picture.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert similar(read_image(tmp_path / "a.jpg"), np.asarray(picture))


def test_transparency_is_blended_with_white(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 255).all()


def test_sixteen_bits_are_scaled(tmp_path):
    Image.fromarray(np.linspace(0, 60000, 64).reshape(8, 8).astype(np.uint16)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.max() == 255
    assert len(np.unique(image)) > 50


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_exif_orientation_is_applied(tmp_path, picture, suffix, orientation):
    exif = picture.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    picture.save(path, exif=exif, quality=95)
    pixels = np.asarray(picture)
    expected = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }[orientation]
    assert image_size(path) == expected.shape[1::-1]
    assert similar(read_image(path), expected)


ORIENTATIONS = [
    *range(100),
    "sideways",
    "6",
    "",
    b"6",
    (6, 1),
    6.0,
    6.5,
    float("nan"),
    IFDRational(6, 1),
    IFDRational(13, 2),
    IFDRational(1, 0),
    None,
]
"""Values of the EXIF orientation; None leaves it out."""


SMALL = Image.fromarray(np.arange(7 * 5 * 3, dtype=np.uint8).reshape(5, 7, 3))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_image_and_size_agree_for_any_exif_orientation(tmp_path, monkeypatch, suffix):
    """Image and size must agree, or masks get the wrong shape; both must agree with Pillow."""
    path = tmp_path / f"a{suffix}"
    SMALL.save(path, lossless=True)
    # Pillow does not write every value that a file may hold.
    monkeypatch.setattr(Image.Image, "getexif", lambda _: {0x0112: orientation} if orientation is not None else {})
    for orientation in ORIENTATIONS:
        image = read_image(path)
        assert image_size(path) == image.shape[1::-1], orientation
        with Image.open(path) as opened:
            expected = np.asarray(ImageOps.exif_transpose(opened))
        assert image.shape == expected.shape, orientation
        assert suffix == ".jpg" or np.array_equal(image, expected), orientation


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_written_exif_orientation_is_read_as_pillow_does(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for orientation in range(100):
        exif = Image.Exif()
        exif[0x0112] = orientation
        SMALL.save(path, exif=exif)
        with Image.open(path) as expected:
            upright = ImageOps.exif_transpose(expected).size
        assert image_size(path) == upright == read_image(path).shape[1::-1]


@pytest.mark.parametrize("orientation", range(10))
def test_orientation_in_xmp_is_read_as_pillow_does(tmp_path, orientation):
    SMALL.save(tmp_path / "a.tif", tiffinfo={700: f'<x:xmpmeta tiff:Orientation="{orientation}">'.encode()})
    with Image.open(tmp_path / "a.tif") as expected:
        expected.load()
        assert image_size(tmp_path / "a.tif") == expected.size
        assert np.array_equal(read_image(tmp_path / "a.tif"), np.asarray(expected))


@pytest.mark.parametrize("size", [(100, 60), (99, 61), (50, 30), (200, 120), (320, 240)])
def test_resized_images_have_the_exact_size_and_content(tmp_path, picture, size):
    picture.save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg", size)
    assert image.shape == (size[1], size[0], 3)
    assert similar(image, np.asarray(picture.resize(size, Image.Resampling.BOX)))


def test_real_image_at_half_scale(shared_carvana):
    path = next((shared_carvana / "train").iterdir())
    full = read_image(path)
    assert full.shape == (1280, 1918, 3)
    half = np.asarray(Image.fromarray(full).resize((960, 640), Image.Resampling.BOX))
    assert similar(read_image(path, (960, 640)), half)


@pytest.mark.parametrize("length", [0, 2, 100, 0.5, 0.98])
def test_truncated_jpeg_is_refused_by_name(tmp_path, picture, length):
    picture.save(tmp_path / "complete.jpg", quality=95)
    data = (tmp_path / "complete.jpg").read_bytes()
    (tmp_path / "broken.jpg").write_bytes(data[: int(length * len(data)) if isinstance(length, float) else length])
    with pytest.raises(UserError, match=r"broken\.jpg: cannot be decoded"):
        read_image(tmp_path / "broken.jpg")


def png_claiming(width: int, height: int, mode: int = 2) -> bytes:
    """Return a PNG that claims a size and holds almost no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_claiming(width: int, height: int) -> bytes:
    """Return an uncompressed TIFF that claims a size and holds one byte."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IIH", 12, 0, len(tags)) + entries + bytes(4)


BOMBS = {
    "tif": tiff_claiming(70_000, 70_000),
    "png": png_claiming(70_000, 70_000),
    "over": png_claiming(10_001, 10_000),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x00;",
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 154, 0, 54, 40, 70_000, 70_000, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100),
    "ppm": b"P6 70000 70000 255\n" + bytes(100),
}


@pytest.mark.parametrize("name", BOMBS)
def test_image_that_claims_too_many_pixels_is_refused_with_the_limit(tmp_path, name):
    path = tmp_path / f"a.{name}"
    path.write_bytes(BOMBS[name])
    for read in (image_size, read_image, read_mask_values):
        with pytest.raises(UserError, match=r"claims \d+ × \d+ pixels; the limit is 100 million; split it into tiles"):
            read(path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0, 2, 3, 4, 6])
def test_largest_claim_takes_less_than_a_gigabyte(tmp_path, mode):
    """A damaged file may claim the limit."""
    (tmp_path / "a.png").write_bytes(png_claiming(10_000, MAX_PIXELS // 10_000, mode))
    code = """
import re, sys
from pathlib import Path
from pipeline.data.images import read_image
from pipeline.data.masks import read_mask_values
from pipeline.errors import UserError
for read in (read_image, read_mask_values):
    try:
        read(Path(sys.argv[1]))
    except UserError:
        pass
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1024


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "orientation"), [("RGBA", 1), ("RGB", 6), ("I;16", 1)])
def test_largest_image_is_decoded_in_a_gigabyte(tmp_path, mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} if orientation > 1 else {}
    Image.new(mode, (10_000, MAX_PIXELS // 10_000)).save(tmp_path / "a", "PNG", compress_level=1, **options)
    code = """
import re, sys
from pathlib import Path
from pipeline.data.images import read_image
print(read_image(Path(sys.argv[1])).size, int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    size, megabytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(size) == 3 * MAX_PIXELS
    assert int(megabytes) < 1024


def test_tiff_without_all_strips_is_refused(tmp_path):
    SMALL.save(tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    height = struct.pack("<HHI", 257, 3, 1)
    assert height + struct.pack("<I", 5) in data or struct.pack("<HHII", 257, 4, 1, 5) in data
    data = data.replace(height + struct.pack("<I", 5), height + struct.pack("<I", 50))
    data = data.replace(struct.pack("<HHII", 257, 4, 1, 5), struct.pack("<HHII", 257, 4, 1, 50))
    (tmp_path / "a.tif").write_bytes(data)
    for read in (image_size, read_image, read_mask_values):
        with pytest.raises(UserError, match="its strips do not cover it"):
            read(tmp_path / "a.tif")


def test_only_image_formats_are_read(tmp_path):
    """Pillow runs Ghostscript for EPS."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg: cannot be decoded \(it is not BMP, GIF, .* or WEBP\); download"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg: cannot be opened \(it is not BMP"):
        image_size(tmp_path / "a.jpg")


def test_jpeg_with_very_many_scans_is_refused(tmp_path, picture):
    picture.save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    read_image(tmp_path / "a.jpg")
    last = data.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:last] + data[last:-2] * 300 + data[-2:])
    with pytest.raises(UserError, match=r"a\.jpg: cannot be decoded \(it has \d+ scans\)"):
        read_image(tmp_path / "a.jpg")


def test_numbers_that_are_not_finite_or_negative_become_zero(tmp_path):
    Image.fromarray(np.array([[np.nan, -5, np.inf, 50, 100]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 0, 0, 127, 255]


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(draw_ellipse(np.random.default_rng(1), (24, 16))[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(buffer, kind, **({} if kind in ("GIF", "BMP", "PPM") else {"exif": exif}))
    return buffer.getvalue()


FILES = {kind: encoded(kind) for kind in ("JPEG", "GIF", "PNG", "TIFF", "BMP", "WEBP", "PPM")}


@pytest.mark.slow
@settings(deadline=2000, max_examples=300)
@given(
    kind=st.sampled_from(sorted(FILES)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4)), max_size=6),
    cut=st.floats(0.5, 1.5),
)
def test_damaged_file_is_decoded_to_its_size_or_refused(tmp_path_factory, kind, changes, cut):
    data = bytearray(FILES[kind])
    for position, replacement in changes:
        start = int(position * len(data))
        data[start : start + len(replacement)] = replacement
    data = bytes(data[: int(cut * len(data))])
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    for read in (read_mask_values, lambda path: decode_image(path.read_bytes(), path, (9, 7))):
        with contextlib.suppress(UserError):
            read(path)
    try:
        image = read_image(path)
    except UserError:
        return
    assert image.dtype == np.uint8
    assert image_size(path) == image.shape[1::-1]


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.jpg: cannot be read .*; check the path"):
        read_image(tmp_path / "nothing.jpg")
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path)


def test_unreadable_file_asks_for_permission(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read \(Permission denied\); grant read permission"):
        read_image(tmp_path / "a.jpg")
