"""Files to arrays: every kind that turns up, and a sentence for what cannot be read."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipeline.data.images import image_size, read_image
from pipeline.data.masks import read_mask, resize_mask
from pipeline.errors import UserError
from tests.helpers import draw_ellipse


@pytest.fixture
def picture():
    return Image.fromarray(draw_ellipse(np.random.default_rng(1), (200, 120))[0]).filter(ImageFilter.GaussianBlur(2))


def close(left, right):
    return np.abs(left.astype(float) - right).mean() < 4


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_formats(tmp_path, picture, suffix):
    path = tmp_path / f"a{suffix}"
    picture.save(path, quality=95)
    image = read_image(path)
    assert image.shape == (120, 200, 3)
    assert image.dtype == np.uint8
    assert close(image, np.asarray(picture))
    assert image_size(path) == (200, 120)


def test_grayscale_has_three_equal_channels(tmp_path, picture):
    picture.convert("L").save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (120, 200, 3)
    assert (image == image[..., :1]).all()


def test_cmyk_keeps_its_colours(tmp_path, picture):
    picture.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert close(read_image(tmp_path / "a.jpg"), np.asarray(picture))


def test_transparency_lies_on_white(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 255).all()


def test_sixteen_bits_are_scaled(tmp_path):
    Image.fromarray(np.linspace(0, 60000, 64).reshape(8, 8).astype(np.uint16)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.max() == 255
    assert len(np.unique(image)) > 50


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_rotation_is_applied(tmp_path, picture, suffix):
    exif = picture.getexif()
    exif[0x0112] = 6
    path = tmp_path / f"a{suffix}"
    picture.save(path, exif=exif, quality=95)
    assert image_size(path) == (120, 200)
    assert close(read_image(path), np.rot90(np.asarray(picture), -1))


@pytest.mark.parametrize("size", [(100, 60), (99, 61), (50, 30), (200, 120), (320, 240)])
def test_size_is_exact_and_the_picture_the_same(tmp_path, picture, size):
    picture.save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg", size)
    assert image.shape == (size[1], size[0], 3)
    assert close(image, np.asarray(picture.resize(size, Image.Resampling.BOX)))


def test_real_photo_at_half_scale(shared_carvana):
    path = next((shared_carvana / "train").iterdir())
    full = read_image(path)
    assert full.shape == (1280, 1918, 3)
    half = np.asarray(Image.fromarray(full).resize((960, 640), Image.Resampling.BOX))
    assert close(read_image(path, (960, 640)), half)


@pytest.mark.parametrize("keep", [0, 2, 100, 0.5, 0.98])
def test_broken_jpeg_is_refused_by_name(tmp_path, picture, keep):
    picture.save(tmp_path / "whole.jpg", quality=95)
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "broken.jpg").write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match=r"broken\.jpg: cannot be decoded"):
        read_image(tmp_path / "broken.jpg")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.jpg: cannot be read"):
        read_image(tmp_path / "nothing.jpg")
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB", "RGBA"])
def test_masks_of_every_mode(tmp_path, mode):
    mask = np.eye(9, 12, dtype=bool)
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    if mode == "P":
        picture = Image.fromarray(mask.astype(np.uint8), mode="P")
        picture.putpalette([7, 7, 7, 200, 0, 0])
    picture = picture if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", 1 if mode == "P" else 255), mask)
    assert np.array_equal(read_mask(tmp_path / "m.png", "nonzero"), mask)


def test_mask_of_other_values_names_the_mend(tmp_path):
    Image.fromarray(np.eye(4, dtype=np.uint8) * 255).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"\{0, 255\}; expected \{0, 1\}: set masks.positive = 255"):
        read_mask(tmp_path / "m.png", 1)
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match="without smoothing"):
        read_mask(tmp_path / "m.png", 255)


def test_colour_picture_is_no_mask(tmp_path, picture):
    picture.save(tmp_path / "m.png")
    with pytest.raises(UserError, match="colour picture"):
        read_mask(tmp_path / "m.png", "nonzero")


def test_masks_shrink_softly():
    mask = np.zeros((4, 4), bool)
    mask[:, :1] = True
    assert resize_mask(mask, (2, 2)).tolist() == [[128, 0], [128, 0]]
