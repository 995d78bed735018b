"""Probabilities are upsampled between pixel centers and binarized by the competition's rules."""

import numpy as np
import pytest
import torch

from pipeline.data.rle import mask_to_rle, rle_format, rle_to_mask
from pipeline.inference.postprocess import Postprocess, binarize, default_postprocess, make_postprocess, upsample
from pipeline.inference.rows import RowEncoder
from tests.helpers import changed_competition


def slow_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Interpolate between pixel centers, pixel by pixel (corners not aligned)."""
    result = np.empty((height, width))
    for y, x in np.ndindex(height, width):
        v = np.clip((y + 0.5) * image.shape[0] / height - 0.5, 0, image.shape[0] - 1)
        u = np.clip((x + 0.5) * image.shape[1] / width - 0.5, 0, image.shape[1] - 1)
        top, left = int(v), int(u)
        bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
        a, b = v - top, u - left
        result[y, x] = (
            (1 - a) * ((1 - b) * image[top, left] + b * image[top, right])
            + a * ((1 - b) * image[bottom, left] + b * image[bottom, right])
        )  # fmt: skip
    return result


@pytest.mark.parametrize("size", [(14, 18), (9, 31), (7, 9)])
def test_upsampling_equals_a_slow_loop(size):
    small = np.random.default_rng(0).random((7, 9))
    large = upsample(torch.from_numpy(small)[None, None], size)[0, 0].numpy()
    assert large == pytest.approx(slow_bilinear(small, *size))


def test_probabilities_of_native_size_are_not_copied():
    probability = torch.rand(1, 2, 7, 9)
    assert upsample(probability, (7, 9)) is probability


def test_upsampling_before_thresholding_is_better():
    y, x = np.mgrid[:256, :256]
    truth = torch.from_numpy((x - 130) ** 2 + (y - 120) ** 2 < 80**2)
    soft = torch.nn.functional.avg_pool2d(truth.float()[None, None], 4)
    after = upsample(soft, (256, 256))[0, 0] >= 0.5
    before = upsample((soft >= 0.5).float(), (256, 256))[0, 0] >= 0.5
    assert (after ^ truth).sum() < 0.5 * (before ^ truth).sum()


def maps(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, -1)


def test_threshold_is_inclusive():
    assert binarize(maps(0.25, 0.5, 0.75), Postprocess((0.5,), (0.0,), may_be_empty=True)).tolist() == [
        [[False, True, True]]
    ]


def test_where_no_mask_may_be_empty_the_highest_bin_is_used():
    rule = Postprocess((0.9,), (0.0,), may_be_empty=False)
    assert binarize(maps(0.1, 0.5, 0.5 + 1e-4), rule).tolist() == [[[False, True, True]]]
    assert binarize(maps(1.0, 0.95, 0.2), rule).tolist() == [[[True, True, False]]]
    assert not binarize(maps(0.1, 0.5, 0.6), Postprocess((0.9,), (0.0,), may_be_empty=True)).any()
    # The highest bin, from 255/256 on, includes 1.
    last = Postprocess((0.999,), (0.0,), may_be_empty=False)
    assert binarize(maps(0.995, 0.997, 1.0), last).tolist() == [[[False, True, True]]]


def test_masks_below_the_smallest_area_are_removed_per_class():
    probability = torch.tensor([[[0.9, 0.9, 0.1, 0.1]], [[0.9, 0.1, 0.1, 0.1]]])
    rule = Postprocess((0.5, 0.5), (0.5, 0.5), may_be_empty=True)
    assert binarize(probability, rule).sum(dim=(1, 2)).tolist() == [2, 0]


def test_a_mask_of_exactly_the_smallest_area_stays_and_a_fraction_of_a_pixel_counts_as_one():
    probability = maps(0.9, 0.9, 0.1, 0.1)
    for min_area, left in ((0.5, 2), (0.500001, 0), (0.25, 2)):
        assert binarize(probability, Postprocess((0.5,), (min_area,), may_be_empty=True)).sum() == left


def test_smallest_areas_of_objects_are_left_to_the_rows():
    rule = Postprocess((0.5,), (0.9,), may_be_empty=True, instances=True)
    assert binarize(maps(0.9, 0.1), rule).tolist() == [[[True, False]]]


def test_exclusive_classes_do_not_overlap():
    probability = torch.tensor([[[0.6, 0.3, 0.5]], [[0.3, 0.4, 0.55]]])
    rule = Postprocess((0.2, 0.2), (0.0, 0.0), may_be_empty=True, exclusive=True)
    assert binarize(probability, rule).tolist() == [[[True, False, False]], [[False, True, True]]]
    higher = Postprocess((0.5, 0.5), (0.0, 0.0), may_be_empty=True, exclusive=True)
    assert binarize(probability, higher).tolist() == [[[True, False, False]], [[False, False, True]]]


def test_rules_come_from_the_competition(competition):
    rule = default_postprocess(competition, 0.4)
    assert rule == Postprocess((0.4,), (0.0,), may_be_empty=False)
    objects = changed_competition(competition, csv__rows="instance", masks__may_be_empty=True)
    assert make_postprocess(objects, [0.3], [0.1]) == Postprocess((0.3,), (0.1,), may_be_empty=True, instances=True)
    two = competition.model_copy(update={"classes": ("a", "b"), "exclusive": True})
    assert default_postprocess(two, 0.4) == Postprocess((0.4, 0.4), (0.0, 0.0), may_be_empty=False, exclusive=True)


class TestRows:
    MASKS = np.zeros((1, 6, 8), dtype=bool)
    MASKS[0, 1:3, 1:4] = True
    MASKS[0, 4, 6] = True

    def test_a_row_per_image(self, competition):
        ((class_index, rle),) = RowEncoder(competition, default_postprocess(competition, 0.5)).encode(self.MASKS)
        assert class_index == 0
        assert np.array_equal(rle_to_mask(rle, (6, 8)), self.MASKS[0])

    def test_a_row_per_object_above_the_smallest_area(self, competition):
        objects = changed_competition(competition, csv__rows="instance", csv__empty="-1", masks__may_be_empty=True)
        for min_area, sizes in ((0.0, [6, 1]), (2 / 48, [6]), (6 / 48, [6]), (6.1 / 48, [])):
            encoder = RowEncoder(objects, make_postprocess(objects, [0.5], [min_area]))
            rows = encoder.encode(self.MASKS)
            if sizes:
                assert [rle_to_mask(rle, (6, 8)).sum() for _, rle in rows] == sizes
            else:
                assert rows == [(0, "-1")], "an image without objects has one empty row"

    def test_a_row_per_class_in_the_competition_s_format(self, competition):
        columns = changed_competition(competition, csv__order="column", csv__empty="-1", csv__base=0)
        masks = np.concatenate([np.zeros_like(self.MASKS), self.MASKS])
        rows = RowEncoder(columns, default_postprocess(columns, 0.5)).encode(masks)
        assert rows == [(0, "-1"), (1, mask_to_rle(self.MASKS[0], rle_format(columns)))]

    def test_objects_of_every_class_get_rows(self, competition):
        objects = changed_competition(competition, csv__rows="instance", csv__empty="-1", masks__may_be_empty=True)
        objects = changed_competition(objects, csv__order="column")
        masks = np.concatenate([self.MASKS, np.zeros_like(self.MASKS), self.MASKS])
        rows = RowEncoder(objects, make_postprocess(objects, [0.5] * 3, [0.0, 0.0, 2 / 48])).encode(masks)
        assert [class_index for class_index, _ in rows] == [0, 0, 1, 2]
        large = np.zeros((6, 8), dtype=bool)
        large[1:3, 1:4] = True
        assert rows[-1][1] == mask_to_rle(large, rle_format(objects))
