"""The vote on runs equals the vote on pixels, for files in any order."""

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.competition import load_competition
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.rle import mask_to_rle, mask_to_runs, parse_rle, rle_to_mask, runs_to_rle
from pipeline.errors import UserError
from pipeline.submission.blend import blend_submissions, integer_weights, majority_vote
from tests.helpers import TINY_FORMAT, changed_competition

CARVANA = load_competition("carvana")


@st.composite
def votes(draw: st.DrawFn) -> tuple[list[np.ndarray], list[int]]:
    shape = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    masks = draw(st.lists(hnp.arrays(bool, shape), min_size=1, max_size=5))
    weights = draw(st.lists(st.integers(1, 6), min_size=len(masks), max_size=len(masks)))
    return masks, weights


def pixel_vote(masks: list[np.ndarray], weights: list[int]) -> np.ndarray:
    return 2 * sum(weight * mask.astype(int) for mask, weight in zip(masks, weights, strict=True)) > sum(weights)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(vote=votes(), order=st.sampled_from(["row", "column"]))
def test_vote_on_runs_equals_the_vote_on_pixels(vote: tuple[list[np.ndarray], list[int]], order: str) -> None:
    masks, weights = vote
    runs = majority_vote([mask_to_runs(mask, order) for mask in masks], weights)
    expected = mask_to_runs(pixel_vote(masks, weights), order)
    assert runs.tolist() == expected.tolist()


def test_exactly_half_is_background() -> None:
    first, second, third = (parse_rle(text, 20) for text in ("1 4", "3 4", "11 1"))
    assert runs_to_rle(majority_vote([first, second], [1, 1])) == "3 2"
    assert runs_to_rle(majority_vote([first, second, third], [2, 1, 1])) == "3 2", "2 of 4 is half"
    assert runs_to_rle(majority_vote([first, second, third], [3, 1, 1])) == "1 4", "3 of 5 is more"


def test_touching_runs_are_merged() -> None:
    assert runs_to_rle(majority_vote([parse_rle("1 2 3 2 9 1", 20), parse_rle("1 20", 20)], [1, 1])) == "1 4 9 1"


@pytest.mark.parametrize(
    ("weights", "whole"),
    [
        ([1, 1, 1], [1, 1, 1]),
        ([0.1, 0.2, 0.3], [1, 2, 3]),
        ([2.0, 4.0], [1, 2]),
        ([0.9971, 0.9968], [9971, 9968]),
        ([1e-3, 1e3], [1, 1_000_000]),
    ],
)
def test_decimal_weights_become_integers_in_the_same_ratio(weights: list[float], whole: list[int]) -> None:
    result = integer_weights(weights, len(weights))
    assert result == whole
    assert {type(number) for number in result} == {int}


def test_twice_the_sum_of_the_weights_fits_into_64_bits() -> None:
    largest = [4.6e18, 1.1e16, 686018427387902.0, 1.0]
    assert sum(integer_weights(largest, 4)) == 2**62 - 1
    with pytest.raises(UserError, match="differ too much"):
        integer_weights([4.6e18, 1.1e16, 686018427387903.0, 1.0], 4)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ([1], "has 1 numbers for 2 files; give one number per file"),
        ([1, 1, 1], "has 3 numbers for 2 files; give one number per file"),
        ([1, 0], "has 0, which is not above 0; give positive numbers"),
        ([1, -0.5], "has -0.5, which is not above 0; give positive numbers"),
        ([1, float("nan")], "has nan, which is not above 0; give positive numbers"),
        ([1, float("inf")], "has inf, which is not above 0; give positive numbers"),
        ([1, 1e-300], "differ too much: 1, 1e-300; give numbers with fewer digits"),
    ],
)
def test_wrong_weights_are_refused(weights: list[float], reason: str) -> None:
    with pytest.raises(UserError) as error:
        integer_weights(weights, 2)
    assert str(error.value) == f"WEIGHTS: {reason}"


def make(path: Path, masks: dict[str, np.ndarray], shuffle: int | None = None) -> Path:
    rows = [(id, 0, mask_to_rle(mask)) for id, mask in masks.items()]
    if shuffle is not None:
        random.Random(shuffle).shuffle(rows)
    write_mask_csv(path, TINY_FORMAT, rows)
    return path


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 12), prefix=st.integers(0, 12))
def test_files_may_have_any_order(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, prefix: int) -> None:
    folder, rng = tmp_path_factory.mktemp("blend"), np.random.default_rng(seed)
    voters = [{f"{i}.jpg": rng.random((4, 7)) < 0.5 for i in range(count)} for _ in range(3)]
    files = [make(folder / f"{number}.csv.gz", masks) for number, masks in enumerate(voters)]
    # The same order up to some row, then another one: errors are likely at the transition.
    ids = list(voters[1])
    mixed = ids[:prefix] + random.Random(seed).sample(ids[prefix:], len(ids[prefix:]))
    other = make(folder / "other.csv", {id: voters[1][id] for id in mixed})
    for number, paths in enumerate((files, [files[0], other, files[2]])):
        assert blend_submissions(paths, folder / f"out{number}.csv", CARVANA, [0.6, 0.2, 0.2]) == count
    expected = [(id, mask_to_rle(pixel_vote([masks[id] for masks in voters], [3, 1, 1]))) for id in ids]
    assert [(row.id, row.rle) for row in read_mask_csv(folder / "out0.csv", TINY_FORMAT)] == expected
    assert (folder / "out0.csv").read_bytes() == (folder / "out1.csv").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["0.csv.gz", "1.csv.gz", "2.csv.gz", "other.csv", "out0.csv", "out1.csv"]
    ), "no temporary file is left"


def test_files_that_do_not_match_are_refused(tmp_path: Path) -> None:
    mask = np.ones((2, 3), dtype=bool)
    good = make(tmp_path / "good.csv", {"a": mask, "b": mask, "c": mask})
    header = tmp_path / "header.csv"
    header.write_text(good.read_text().replace("img", "id"))
    twice = tmp_path / "twice.csv"
    twice.write_text(good.read_text() + "a,1 1\n")
    twice_early = tmp_path / "early.csv"
    twice_early.write_text("img,rle_mask\nb,1 1\nb,1 1\na,1 1\nc,1 1\n")
    faulty = tmp_path / "faulty.csv"
    faulty.write_text("img,rle_mask\na,1 6\nb,1 1 1\nc,1 6\n")
    out = tmp_path / "out.csv.gz"
    for paths, reason in (
        ([good], 'FILES: names 1 files; give two or more: FILES="a.csv.gz b.csv.gz"$'),
        ([good, make(tmp_path / "less.csv", {"a": mask, "b": mask})], r"less\.csv: has no row for c"),
        ([tmp_path / "less.csv", good], r"good\.csv: has a row for c that the others do not have"),
        ([good, make(tmp_path / "other.csv", {"a": mask, "x": mask, "c": mask})], r"other\.csv: has no row for b"),
        ([good, header], r"header\.csv: has the header 'id,rle_mask'; the header must be img,rle_mask"),
        ([good, twice], r"twice\.csv: has a row for a"),
        ([twice, good], r"twice\.csv: line 5 repeats a; remove one of its rows$"),
        ([good, twice_early], r"early\.csv: line 3 repeats b"),
        ([good, faulty], r"faulty\.csv: line 3 \(b\): 3 numbers are not pairs"),
        ([good, tmp_path / "gone.csv"], r"gone\.csv: cannot be read"),
    ):
        with pytest.raises(UserError, match=reason):
            blend_submissions(paths, out, CARVANA)
        assert not out.exists()
    with pytest.raises(UserError, match=r"/good\.csv: is one of the files to blend; write the blend to another name$"):
        blend_submissions([good, faulty], tmp_path / "good.csv", CARVANA)
    instances = changed_competition(CARVANA, csv__rows="instance")
    message = r"^blend: cannot blend rows that are objects; average the models with RECIPE=one\+other$"
    with pytest.raises(UserError, match=message):
        blend_submissions([good, good], out, instances)


def test_the_vote_is_in_the_competition_s_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("img,rle_mask\na,0 2\nb,5 1\n")
    (tmp_path / "b.csv").write_text("img,rle_mask\na,1 3\nb,0 2\n")
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    other = changed_competition(CARVANA, csv__base=0, csv__empty="-1")
    assert blend_submissions(paths, tmp_path / "out.csv", other) == 2
    assert (tmp_path / "out.csv").read_text() == "img,rle_mask\na,1 1\nb,-1\n"


def test_temporary_files_are_next_to_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's folder may be in memory, or full."""
    masks = {"a": np.ones((2, 3), bool), "b": np.zeros((2, 3), bool)}
    paths = [make(tmp_path / "a.csv", masks), make(tmp_path / "b.csv", dict(reversed(masks.items())))]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert blend_submissions(paths, tmp_path / "out.csv", CARVANA) == 2


@pytest.mark.slow
def test_blend_of_real_masks_equals_the_vote_on_pixels(shared_carvana: Path, tmp_path: Path) -> None:
    truth = {}
    for row, _ in zip(read_mask_csv(shared_carvana / "solution.csv", TINY_FORMAT), range(64), strict=False):
        truth[row.id] = rle_to_mask(row.rle, (1280, 1918))
    shifts, weights = ((0, 0), (4, -3), (-6, 9), (11, 2)), [4, 3, 2, 1]
    voters = [{id: np.roll(mask, shift, (0, 1)) for id, mask in truth.items()} for shift in shifts]
    files = [make(tmp_path / f"{n}.csv.gz", masks, shuffle=n or None) for n, masks in enumerate(voters)]
    assert blend_submissions(files, tmp_path / "out.csv.gz", CARVANA, [0.4, 0.3, 0.2, 0.1]) == len(truth)
    for row in read_mask_csv(tmp_path / "out.csv.gz", TINY_FORMAT):
        assert row.rle == mask_to_rle(pixel_vote([masks[row.id] for masks in voters], weights))
