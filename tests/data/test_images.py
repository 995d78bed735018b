"""Images of every common format are decoded; files that cannot be read are named."""

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipeline.data.images import image_size, read_image
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


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
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


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_exif_orientation_out_of_range_is_ignored(tmp_path, picture, orientation):
    """Image and size must agree, or masks get the wrong shape."""
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert image_size(tmp_path / "a.jpg") == (200, 120)
    assert similar(read_image(tmp_path / "a.jpg"), np.asarray(picture))


def test_exif_orientation_as_text_is_ignored(tmp_path, picture, monkeypatch):
    picture.save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "getexif", lambda _: {0x0112: "sideways"})
    assert image_size(tmp_path / "a.png") == (200, 120)


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


def test_decompression_bomb_is_refused_by_name(tmp_path):
    """A TIFF header that claims 70,000 × 70,000 pixels."""
    Image.new("L", (8, 8)).save(tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    tags = {256: 70_000, 257: 70_000}
    offset = int.from_bytes(data[4:8], "little")
    patched = bytearray(data)
    for number in range(int.from_bytes(data[offset : offset + 2], "little")):
        entry = offset + 2 + 12 * number
        if (tag := int.from_bytes(data[entry : entry + 2], "little")) in tags:
            patched[entry + 2 : entry + 4] = (4).to_bytes(2, "little")
            patched[entry + 8 : entry + 12] = tags[tag].to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(patched)
    with pytest.raises(UserError, match=r"a\.tif: cannot be opened"):
        image_size(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: cannot be decoded"):
        read_image(tmp_path / "a.tif")


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
