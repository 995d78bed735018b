"""Labels from mask files and from CSV rows are the same masks, merged per class and split into objects."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from PIL import Image

from pipeline.competition import Competition
from pipeline.data import labels as labels_module
from pipeline.data.instances import label_components, split_touching
from pipeline.data.labels import LabelReader
from pipeline.data.mask_areas import measure_mask_areas
from pipeline.data.rle import mask_to_rle
from pipeline.data.samples import Sample, load_training_samples
from pipeline.errors import UserError
from tests.helpers import SIZE, changed_competition


def test_mask_files_and_rows_give_the_same_masks(competition, data):
    from_csv = changed_competition(competition, masks__train=None)
    files, rows = (load_training_samples(each, data) for each in (competition, from_csv))
    for file_sample, row_sample in zip(files, rows, strict=True):
        one = LabelReader(competition).read_masks(file_sample)
        other = LabelReader(from_csv).read_masks(row_sample)
        assert one.shape == (1, *SIZE[::-1])
        assert np.array_equal(one, other)
    assert measure_mask_areas(files, competition) == measure_mask_areas(rows, from_csv)


@pytest.fixture
def instances() -> Competition:
    """Two classes, an object per row, images of 6×4 pixels."""
    return Competition.model_validate(
        {
            "name": "objects",
            "title": "Objects",
            "folds": 2,
            "classes": ["a", "b"],
            "images": {"train": "train", "suffixes": [".png"], "size": [6, 4]},
            "masks": {"may_be_empty": True},
            "csv": {
                "columns": {"id": "{id}", "class": "{class}", "rle": "{rle}"},
                "rows": "instance",
                "order": "row",
                "train": "train.csv",
            },
        }
    )


def test_objects_are_merged_per_class_and_listed(instances, tmp_path):
    sample = Sample("x", tmp_path / "x.png", "x", rows=((0, "1 2"), (0, "7 2"), (1, "24 1")))
    truth = LabelReader(instances).read_truth(sample, instances=True)
    assert [np.flatnonzero(mask.ravel()).tolist() for mask in truth.masks] == [[0, 1, 6, 7], [23]]
    assert [[pixels.tolist() for pixels in objects] for objects in truth.instances] == [[[0, 1], [6, 7]], [[23]]]
    masks = LabelReader(instances).read_row_masks(sample)
    assert [mask.sum() for mask in masks] == [2, 2, 1]


def test_image_without_rows_has_empty_masks(instances, tmp_path):
    truth = LabelReader(instances).read_truth(Sample("x", tmp_path / "x.png", "x", rows=()), instances=True)
    assert truth.masks.shape == (2, 4, 6)
    assert not truth.masks.any()
    assert truth.instances == ((), ())


def test_truth_is_resized_to_the_size_of_submissions(instances, tmp_path):
    smaller = changed_competition(instances, csv__size=(3, 2))
    sample = Sample("x", tmp_path / "x.png", "x", rows=((0, "1 3 7 3"),))
    truth = LabelReader(smaller).read_truth(sample, instances=False)
    assert truth.masks.shape == (2, 2, 3)
    assert truth.masks[0].tolist() == [[True, True, False], [False, False, False]]


def test_faulty_row_and_wrong_size_are_named(instances, competition, data, tmp_path):
    sample = Sample("x", tmp_path / "x.png", "x", rows=((0, "1 99"),))
    with pytest.raises(UserError, match=r"train\.csv: a row of x: run 1 \(1 99\) leaves the image of 24 pixels"):
        LabelReader(instances).read_masks(sample)
    Image.fromarray(np.ones((5, 5), np.uint8)).save(tmp_path / "m.png")
    sample = Sample("x", tmp_path / "x.png", "x", masks=((0, tmp_path / "m.png"), (1, tmp_path / "m.png")))
    with pytest.raises(UserError, match=r"m\.png: is 5×5, but its image is 6×4"):
        LabelReader(instances).read_masks(sample)


@given(arrays(bool, (8, 9)))
def test_components_cover_the_mask_and_touch_no_other(mask):
    labels, count = label_components(mask)
    assert np.array_equal(labels > 0, mask)
    assert set(np.unique(labels)) - {0} == set(range(1, count + 1))
    for y, x in np.argwhere(mask):
        around = labels[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        assert set(around.ravel()) <= {0, labels[y, x]}, "8-connectivity"


def test_watershed_splits_touching_disks_and_covers_the_mask():
    y, x = np.mgrid[:40, :60]
    mask = ((x - 20) ** 2 + (y - 20) ** 2 < 121) | ((x - 39) ** 2 + (y - 20) ** 2 < 121)
    mask[0, 0] = True
    assert label_components(mask)[1] == 2
    labels, count = split_touching(mask, min_distance=5)
    assert count == 3
    assert np.array_equal(labels > 0, mask)
    assert labels[20, 15] != labels[20, 44]
    assert split_touching(np.zeros((5, 5), bool), 5)[1] == 0


def test_rle_of_every_object_decodes_to_it(instances):
    """The round trip of an object through a submission."""
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    sample = Sample("x", None, "x", rows=((1, mask_to_rle(mask)),))
    assert np.array_equal(LabelReader(instances).read_masks(sample)[1], mask)


class TestCache:
    """The cache of masks with many parts."""

    @pytest.fixture
    def nucleus_files(self, tmp_path):
        """Five files of one object each, and their union."""
        masks = [np.zeros((20, 30), bool) for _ in range(5)]
        for number, mask in enumerate(masks):
            mask[number : number + 3, 4 * number : 4 * number + 6] = True
            Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f"{number}.png")
        Image.new("RGB", (30, 20)).save(tmp_path / "x.jpg")
        files = tuple((0, tmp_path / f"{number}.png") for number in range(5))
        return Sample("x", tmp_path / "x.jpg", "x", masks=files), np.logical_or.reduce(masks)[None]

    @pytest.fixture
    def reader(self, competition, tmp_path):
        nuclei = changed_competition(competition, masks__positive=255, images__size=None)
        return LabelReader(nuclei, tmp_path / "cache")

    def test_masks_are_decoded_once(self, reader, nucleus_files, monkeypatch):
        sample, union = nucleus_files
        assert np.array_equal(reader.read_masks(sample), union)
        monkeypatch.setattr(labels_module, "read_mask", None)
        again = reader.read_masks(sample)
        assert np.array_equal(again, union)
        assert again.dtype == bool

    def test_a_changed_file_or_setting_is_decoded_again(self, reader, competition, nucleus_files, tmp_path):
        sample, _ = nucleus_files
        reader.read_masks(sample)
        Image.fromarray(np.full((20, 30), 255, np.uint8)).save(tmp_path / "3.png")
        assert reader.read_masks(sample).all()
        other = LabelReader(changed_competition(competition, images__size=None), tmp_path / "cache")
        with pytest.raises(UserError, match="expected only 0 and 1"):
            other.read_masks(sample)

    def test_a_damaged_or_unwritable_entry_is_ignored(self, reader, competition, nucleus_files, tmp_path):
        sample, union = nucleus_files
        reader.read_masks(sample)
        (entry,) = (tmp_path / "cache").rglob("*.npy")
        for content in (b"", b"x" * 50, entry.read_bytes()[:-20]):
            entry.write_bytes(content)
            assert np.array_equal(reader.read_masks(sample), union)
        blocked = LabelReader(
            changed_competition(competition, masks__positive=255, images__size=None), tmp_path / "x.jpg"
        )
        assert np.array_equal(blocked.read_masks(sample), union)

    def test_single_files_are_not_cached(self, reader, nucleus_files, tmp_path):
        sample, _ = nucleus_files
        reader.read_masks(replace(sample, masks=sample.masks[:1]))
        assert not (tmp_path / "cache").exists()
