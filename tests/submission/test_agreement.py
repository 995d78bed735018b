"""Submissions are measured and compared mask by mask, whatever a row is; files that do not fit are refused."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.competition import Competition
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.rle import mask_to_rle, rle_to_mask
from pipeline.data.row_format import submission_format
from pipeline.errors import UserError
from pipeline.submission.agreement import compare_submissions
from pipeline.submission.measure import measure_submission
from pipeline.submission.shapes import expected_shapes
from tests.helpers import TINY_FORMAT, changed_competition, write_csv

SHAPE = (62, 94)


def test_dice_between_two_files_in_any_order(data: Path, competition: Competition):
    shapes = expected_shapes(competition, data)
    truth = {row.id: row.rle for row in read_mask_csv(data / "solution.csv", TINY_FORMAT)}
    first, second, third = truth
    moved = np.roll(rle_to_mask(truth[second], SHAPE), 5, axis=1)
    write_csv(data / "mine.csv", [(third, ""), (second, mask_to_rle(moved)), (first, truth[first])])
    table = compare_submissions(data / "solution.csv", data / "mine.csv", competition, shapes)
    assert table.id.tolist() == [third, second, first]
    masks = rle_to_mask(truth[second], SHAPE), moved
    dice = 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum())
    assert table.dice.tolist() == pytest.approx([0, dice, 1])
    assert table.other_area[0] == 0 < table.area[0]
    write_csv(data / "empty.csv", [(id, "") for id in truth])
    assert (compare_submissions(data / "empty.csv", data / "empty.csv", competition, shapes).dice == 1).all()


def test_measures_are_those_of_the_masks(data: Path, competition: Competition):
    shapes = expected_shapes(competition, data)
    table = measure_submission(data / "solution.csv", competition, shapes)
    for row, measured in zip(read_mask_csv(data / "solution.csv", TINY_FORMAT), table.itertuples(), strict=True):
        mask = rle_to_mask(row.rle, SHAPE)
        assert (measured.id, measured.area, measured.pieces, measured.holes) == (row.id, mask.sum(), 1, 0)
        assert (measured.height, measured.width) == SHAPE
        assert mask[measured.y0 : measured.y1, measured.x0 : measured.x1].sum() == mask.sum()


def test_objects_of_an_image_are_one_mask(data: Path, competition: Competition):
    objects = changed_competition(competition, csv__rows="instance", masks__may_be_empty=True)
    shapes = expected_shapes(objects, data)
    first, second, third = [id for id, _ in shapes]
    format = submission_format(objects)
    # The rows of an image may lie apart, and objects may overlap.
    rows = [(first, 0, "1 4"), (second, 0, ""), (first, 0, "3 4"), (third, 0, "10 2"), (first, 0, "900 1")]
    write_mask_csv(data / "a.csv", format, rows)
    write_mask_csv(data / "b.csv", format, [(third, 0, "10 2"), (second, 0, ""), (first, 0, "1 6")])
    table = measure_submission(data / "a.csv", objects, shapes)
    assert table.set_index("id").area.to_dict() == {first: 7, second: 0, third: 2}
    assert table.set_index("id").pieces.to_dict() == {first: 2, second: 0, third: 1}
    compared = compare_submissions(data / "a.csv", data / "b.csv", objects, shapes)
    assert compared.id[0] == first
    assert compared.dice.tolist() == pytest.approx([12 / 13, 1, 1])
    write_mask_csv(data / "b.csv", format, rows[1:])
    write_mask_csv(data / "c.csv", format, rows[:3])
    for pair in (("a.csv", "c.csv"), ("c.csv", "a.csv")):
        with pytest.raises(UserError, match=rf"c\.csv: has no row for {third}; give two submissions of the same"):
            compare_submissions(data / pair[0], data / pair[1], objects, shapes)


def test_files_that_do_not_fit_are_refused(data: Path, competition: Competition):
    shapes = expected_shapes(competition, data)
    rows = [(row.id, row.rle) for row in read_mask_csv(data / "solution.csv", TINY_FORMAT)]
    for wrong, reason in (
        ([*rows, rows[0]], "line 5 repeats omega_01.jpg"),
        ([("other.jpg", "1 1")], "line 2 has the id 'other.jpg', which is no image"),
        ([(rows[0][0], "1 0")], "run 1 .* has length 0"),
        ([], "has no rows"),
    ):
        write_csv(data / "wrong.csv", wrong)
        with pytest.raises(UserError, match=reason):
            measure_submission(data / "wrong.csv", competition, shapes)
    write_csv(data / "short.csv", rows[1:])
    with pytest.raises(UserError, match=r"short\.csv: has no row for"):
        compare_submissions(data / "solution.csv", data / "short.csv", competition, shapes)
    with pytest.raises(UserError, match=r"solution\.csv: has a row for"):
        compare_submissions(data / "short.csv", data / "solution.csv", competition, shapes)
