"""Submissions are scored with the competition's metric, by id, and files that do not match are refused."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.competition import Competition, load_competition
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.rle import mask_to_rle, rle_format, rle_to_mask
from pipeline.data.row_format import RowFormat, submission_format
from pipeline.errors import UserError
from pipeline.evaluation.statistics import paired_gain
from pipeline.submission.score import describe_scores, save_scores, score_submission, solution_csv
from pipeline.submission.shapes import expected_shapes
from tests.helpers import TINY_FORMAT, changed_competition, write_csv


def pixel_dice(first: np.ndarray, second: np.ndarray) -> float:
    total = first.sum() + second.sum()
    return 2 * (first & second).sum() / total if total else 1.0


def test_scores_are_by_id_in_the_order_of_the_solution(data: Path, competition: Competition) -> None:
    shapes = expected_shapes(competition, data)
    truth = {row.id: row.rle for row in read_mask_csv(data / "solution.csv", TINY_FORMAT)}
    first, second, third = truth
    write_csv(data / "mine.csv", [(third, "1 1"), (first, truth[first]), (second, "")])
    scores = score_submission(data / "mine.csv", data / "solution.csv", competition, shapes)
    assert scores.id.tolist() == [first, second, third]
    assert scores.score.tolist()[:2] == [1, 0]
    assert 0 <= scores.score[2] < 0.01
    text = describe_scores(scores, competition, data / "mine.csv", worst=1)
    assert text.splitlines() == [
        f"0.000000  {second}",
        f"{data / 'mine.csv'}: Dice {scores.score.mean():.6f}, mean of 3 images",
    ]


def test_files_that_do_not_match_are_refused(data: Path, competition: Competition) -> None:
    shapes = expected_shapes(competition, data)
    rows = [(row.id, row.rle) for row in read_mask_csv(data / "solution.csv", TINY_FORMAT)]
    mine, truth = data / "mine.csv", data / "solution.csv"
    for wrong, reason in (
        (rows[1:], "has no row for"),
        ([*rows, ("other.jpg", "1 1")], r"mine\.csv: has a row for other\.jpg"),
        ([*rows, rows[0]], "has a row for"),
        ([rows[1], rows[0], rows[0]], "repeats omega_01.jpg; remove one"),
        ([rows[0], (rows[1][0], "1 0"), rows[2]], r"mine\.csv: line 3 \(omega_02\.jpg\): run 1 \(1 0\) has length 0"),
    ):
        write_csv(mine, wrong)
        with pytest.raises(UserError, match=reason):
            score_submission(mine, truth, competition, shapes)
    write_csv(mine, rows)
    write_csv(truth, [*rows, rows[0]])
    with pytest.raises(UserError, match=r"solution\.csv: line 5 repeats omega_01\.jpg"):
        score_submission(mine, truth, competition, shapes)
    write_csv(truth, [])
    write_csv(mine, [])
    with pytest.raises(UserError, match="has no rows"):
        score_submission(mine, truth, competition, shapes)


def test_missing_solution_is_named(data: Path, competition: Competition) -> None:
    assert solution_csv(competition, data) == data / "solution.csv"
    with pytest.raises(UserError, match=r"tiny\.toml: has no csv\.solution; give one with --solution"):
        solution_csv(changed_competition(competition, csv__solution=None), data)


def test_objects_are_matched_by_iou(data: Path, competition: Competition) -> None:
    """Two of two objects found, one of them with an IoU of 3/4, and one that is not there."""
    objects = changed_competition(competition, csv__rows="instance", metric="map_iou", masks__may_be_empty=True)
    shapes = {("a", 0): (4, 6), ("b", 0): (4, 6)}
    write_csv(data / "true.csv", [("a", "1 4"), ("a", "13 2"), ("b", "")])
    write_csv(data / "mine.csv", [("b", ""), ("a", "13 2"), ("a", "1 3"), ("a", "23 1")])
    scores = score_submission(data / "mine.csv", data / "true.csv", objects, shapes).set_index("id").score
    # IoU 3/4 is above the thresholds 0.5 to 0.7: five of ten have two hits of three objects, five one of four.
    assert scores["a"] == pytest.approx((5 * 2 / 3 + 5 * 1 / 4) / 10)
    assert scores["b"] == 1


def test_classes_are_scored_apart(data: Path, competition: Competition) -> None:
    columns = {"id": "{id}", "class": "{class}", "rle": "{rle}"}
    classes = changed_competition(
        competition, classes=("x", "y"), csv__columns=columns, csv__rows="class", masks__may_be_empty=True
    )
    format, shapes = RowFormat(columns, ["x", "y"]), {("a", 0): (2, 2), ("a", 1): (2, 2)}
    write_mask_csv(data / "true.csv", format, [("a", 0, "1 2"), ("a", 1, "")])
    write_mask_csv(data / "mine.csv", format, [("a", 1, ""), ("a", 0, "1 1")])
    scores = score_submission(data / "mine.csv", data / "true.csv", classes, shapes)
    assert scores.values.tolist() == [["a", "x", pytest.approx(2 / 3)], ["a", "y", 1.0]]
    assert "x: Dice 0.666667\ny: Dice 1.000000" in describe_scores(scores, classes, data / "mine.csv", 0)


def test_saved_scores_have_groups_and_can_be_compared(data: Path, competition: Competition) -> None:
    shapes = expected_shapes(competition, data)
    scores = score_submission(data / "solution.csv", data / "solution.csv", competition, shapes)
    save_scores(scores, competition, data, data / "scores.csv")
    lines = (data / "scores.csv").read_text().splitlines()
    assert lines[:2] == ["id,group,class,score", "omega_01.jpg,omega,,1.000000"]
    assert paired_gain(data / "scores.csv", data / "scores.csv").groups == 1
    (data / "test" / "omega_01.jpg").unlink()
    with pytest.raises(UserError, match=r"omega_01\.jpg: was scored, but its image is missing"):
        save_scores(scores, competition, data, data / "scores.csv")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["carvana", "nuclei"])
def test_real_masks_score_as_their_pixels(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    data: Path = request.getfixturevalue(f"shared_{name}")
    competition = load_competition(name)
    rle, format, shapes = rle_format(competition), submission_format(competition), expected_shapes(competition, data)
    rows = read_mask_csv(data / "solution.csv", format)
    truth = {row.id: rle_to_mask(row.rle, shapes[row.key], rle) for row in rows}
    moved = {id: np.roll(mask, (3, -5), (0, 1)) for id, mask in reversed(truth.items())}
    mine = tmp_path / "mine.csv.gz"
    write_mask_csv(mine, format, ((id, 0, mask_to_rle(mask, rle)) for id, mask in moved.items()))
    scores = score_submission(mine, data / "solution.csv", competition, shapes)
    assert dict(zip(scores.id, scores.score, strict=True)) == {id: pixel_dice(truth[id], moved[id]) for id in truth}
