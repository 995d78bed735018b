"""Dice on runs against Dice on pixels."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.competition import Competition, PixelOrder, load_competition
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.rle import count_breaks, count_overlap, mask_to_rle, mask_to_runs, parse_rle, rle_to_mask
from pipeline.errors import UserError
from pipeline.submission.check import expected_shapes
from pipeline.submission.score import dice_of_runs, score_submission
from tests.helpers import write_csv

SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def pixel_dice(first: np.ndarray, second: np.ndarray) -> float:
    total = first.sum() + second.sum()
    return 2 * (first & second).sum() / total if total else 1.0


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(SIDES)
    return draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))


@settings(deadline=None, max_examples=300)
@given(pair=pairs(), order=st.sampled_from(["row", "column"]))
def test_equals_pixels(pair: tuple[np.ndarray, np.ndarray], order: PixelOrder) -> None:
    first, second = (mask_to_runs(mask, order) for mask in pair)
    assert count_overlap(first, second) == (pair[0] & pair[1]).sum()
    assert dice_of_runs(first, second) == pixel_dice(*pair)


@settings(deadline=None, max_examples=300)
@given(mask=hnp.arrays(bool, SIDES), data=st.data())
def test_breaks_equal_pixels(mask: np.ndarray, data: st.DataObject) -> None:
    stride = data.draw(st.integers(0, mask.size))
    pixels = mask.ravel()
    expected = (pixels & ~np.roll(pixels, -stride)).sum()
    assert count_breaks(mask_to_runs(mask), stride, mask.size) == expected


def test_runs_that_touch_count_once() -> None:
    touching, one = parse_rle("1 2 3 2", 9), parse_rle("2 5", 9)
    assert count_overlap(touching, one) == count_overlap(one, touching) == 3


def test_two_empty_masks_agree() -> None:
    empty, one = parse_rle("", 9), parse_rle("1 1", 9)
    assert dice_of_runs(empty, empty) == 1
    assert dice_of_runs(empty, one) == dice_of_runs(one, empty) == 0


def test_scores_by_id(data: Path, competition: Competition) -> None:
    shapes = expected_shapes(competition, data)
    truth = {row.id: row.rle for row in read_mask_csv(data / "solution.csv")}
    first, second, third = truth
    write_csv(data / "mine.csv", [(third, "1 1"), (first, truth[first]), (second, "")])
    scores = score_submission(data / "mine.csv", data / "solution.csv", competition, shapes)
    assert list(scores.index) == [first, second, third], "the order of the solution"
    assert scores[first] == 1
    assert scores[second] == 0
    assert scores.mean() == pytest.approx(1 / 3)


def test_ids_must_agree(data: Path, competition: Competition) -> None:
    shapes = expected_shapes(competition, data)
    rows = [(row.id, row.rle) for row in read_mask_csv(data / "solution.csv")]
    mine, truth = data / "mine.csv", data / "solution.csv"
    for wrong, reason in (
        (rows[1:], "has no row for"),
        ([*rows, ("other.jpg", "1 1")], r"mine\.csv: has a row for other\.jpg"),
        ([*rows, rows[0]], "has a row for"),
        ([rows[1], rows[0], rows[0]], "again; remove one"),
        ([rows[0], (rows[1][0], "1 0"), rows[2]], r"mine\.csv: line 3 \(omega_02\.jpg\): run 1 \(1 0\) has length 0"),
    ):
        write_csv(mine, wrong)
        with pytest.raises(UserError, match=reason):
            score_submission(mine, truth, competition, shapes)
    write_csv(mine, rows)
    write_csv(truth, [*rows, rows[0]])
    with pytest.raises(UserError, match=r"solution\.csv: line 5 has omega_01\.jpg again"):
        score_submission(mine, truth, competition, shapes)
    write_csv(truth, [])
    write_csv(mine, [])
    with pytest.raises(UserError, match="has no rows"):
        score_submission(mine, truth, competition, shapes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["carvana", "nuclei"])
def test_real_rows(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    data: Path = request.getfixturevalue(f"shared_{name}")
    competition = load_competition(name)
    order, shapes = competition.csv.order, expected_shapes(competition, data)
    truth = {row.id: rle_to_mask(row.rle, shapes[row.id], order) for row in read_mask_csv(data / "solution.csv")}
    moved = {id: np.roll(mask, (3, -5), (0, 1)) for id, mask in reversed(truth.items())}
    mine = tmp_path / "mine.csv.gz"
    write_mask_csv(mine, competition.csv.columns, ((id, mask_to_rle(mask, order)) for id, mask in moved.items()))
    scores = score_submission(mine, data / "solution.csv", competition, shapes)
    assert scores.to_dict() == {id: pixel_dice(mask, moved[id]) for id, mask in truth.items()}
