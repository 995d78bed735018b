"""Mask files of every mode are read; wrong values are named with their fix; resizing keeps fractions."""

import numpy as np
import pytest
from PIL import Image

from pipeline.data import masks
from pipeline.data.masks import read_mask, resize_mask, resize_mask_binary
from pipeline.errors import UserError


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB", "RGBA", "LA"])
def test_modes_give_the_same_mask(tmp_path, mode):
    mask = np.eye(9, 12, dtype=bool)
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    if mode == "P":
        picture = Image.fromarray(mask.astype(np.uint8), mode="P")
        picture.putpalette([7, 7, 7, 200, 0, 0])
    picture = picture if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", 1 if mode == "P" else 255), mask)
    assert np.array_equal(read_mask(tmp_path / "m.png", "nonzero"), mask)


def test_other_values_are_refused_with_the_setting_that_fits(tmp_path):
    Image.fromarray(np.eye(4, dtype=np.uint8) * 255).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"has the values 0, 255; expected only 0 and 1; set masks.positive = 255"):
        read_mask(tmp_path / "m.png", 1)
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"has the values 0, 1; expected only 0 and 255; set masks.positive = 1"):
        read_mask(tmp_path / "m.png", 255)
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match="without interpolated values"):
        read_mask(tmp_path / "m.png", 255)


def test_masks_of_windows_may_be_larger(tmp_path, monkeypatch):
    monkeypatch.setattr(masks, "MAX_PIXELS", 99)
    Image.fromarray(np.eye(10, dtype=np.uint8) * 255).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", 255, large=True).sum() == 10
    with pytest.raises(UserError, match=r"m\.png: claims 10 × 10 pixels"):
        read_mask(tmp_path / "m.png", 255)


def test_color_image_is_refused(tmp_path):
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match="color image"):
        read_mask(tmp_path / "m.png", "nonzero")


def test_resizing_for_training_keeps_fractions():
    mask = np.zeros((4, 4), bool)
    mask[:, :1] = True
    assert resize_mask(mask, (2, 2)).tolist() == [[128, 0], [128, 0]]


def test_binary_resizing_gives_bool_of_the_exact_size():
    mask = np.zeros((8, 12), bool)
    mask[2:6, 3:9] = True
    assert np.array_equal(resize_mask_binary(mask, (6, 4)), mask[::2, ::2])
    assert resize_mask_binary(mask, (12, 8)) is mask
