"""The submission check accepts correct files and names every fault of broken ones."""

import gzip
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.competition import Competition, load_competition
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.rle import RleFormat, mask_to_rle, mask_to_runs, rle_format, rle_to_mask, runs_to_rle
from pipeline.data.row_format import submission_format
from pipeline.errors import UserError
from pipeline.submission.check import check_submission, reference_ratios
from pipeline.submission.pixel_order import count_breaks, true_line_ratios
from pipeline.submission.report import MAX_PROBLEMS, SubmissionReport
from pipeline.submission.shapes import expected_shapes
from tests.helpers import SIZE, TINY_FORMAT, changed_competition, draw_ellipse

COLUMNS = RleFormat("column")
IDS = [f"omega_{view:02d}.jpg" for view in range(1, 13)]
KEYS = [(id, 0) for id in IDS]
SHAPES = dict.fromkeys(KEYS, SIZE[::-1])
PIXELS = SIZE[0] * SIZE[1]
HEADER = "img,rle_mask"
_RNG = np.random.default_rng(7)
MASKS = {id: draw_ellipse(_RNG)[1] for id in IDS}
ROWS = [(id, 0, mask_to_rle(mask)) for id, mask in MASKS.items()]
LINES = [HEADER, *(f"{id},{text}" for id, _, text in ROWS)]
TRUE = true_line_ratios([(mask_to_runs(mask), mask.shape) for mask in MASKS.values()], "row")


def check(path: Path, content: str | bytes, competition: Competition) -> SubmissionReport:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return check_submission(path, competition, SHAPES, TRUE)


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def with_mask(mask: str) -> str:
    """The good file with another mask in line 5."""
    return text([*LINES[:4], f"{IDS[3]},{mask}", *LINES[5:]])


def with_masks(encode: Callable[[np.ndarray], str]) -> str:
    return text([LINES[0], *(f"{id},{encode(mask)}" for id, mask in MASKS.items())])


def encode_padded(mask: np.ndarray) -> str:
    """Encode at a width that is a multiple of 32: the mistake of 1920 for 1918."""
    return mask_to_rle(np.pad(mask, ((0, 0), (0, 2))))


def repeat_last_run(runs: str) -> str:
    """Append the last run once more, one pixel later."""
    start, length = runs.split()[-2:]
    return f"{runs} {int(start) + 1} {length}"


GOOD = ROWS[3][2]

BROKEN: dict[str, tuple[str | bytes, str]] = {
    "empty file": ("", "is empty; the header must be img,rle_mask"),
    "no header": (text(LINES[1:]), "has the header 'omega_01.jpg,"),
    "other header": (text(["id,rle_mask", *LINES[1:]]), "has the header 'id,rle_mask'; the header must be img,rle_mask"),
    "header in capitals": (text(["IMG,RLE_MASK", *LINES[1:]]), "has the header 'IMG,RLE_MASK'"),
    "columns swapped": (text(["rle_mask,img", *LINES[1:]]), "has the header 'rle_mask,img'"),
    "semicolons": (text(LINES).replace(",", ";"), "has the header 'img;rle_mask'"),
    "byte order mark": ("\ufeff" + text(LINES), "starts with a byte order mark"),
    "index column": (text([f"{i},{line}" for i, line in enumerate(LINES)]), "has 3 fields instead of 2"),
    "header alone": (text(LINES[:1]), "omega_01.jpg: has no row"),
    "row missing": (text(LINES[:-1]), "omega_12.jpg: has no row"),
    "row twice": (text([*LINES, LINES[4]]), "line 14 (omega_04.jpg): repeats line 5"),
    "id over two lines": (text([*LINES, f'"zeta\n{"x" * 200}",1 1']), "('zeta\\nxxx"),
    "unknown id": (text([*LINES, "zeta_01.jpg,1 1"]), "line 14 (zeta_01.jpg): the id is unknown"),
    "id without ending": (text(LINES).replace("omega_04.jpg", "omega_04"), "(omega_04): the id is unknown; did you mean"),
    "id of the mask": (text(LINES).replace("_04.jpg", "_04.gif"), "(omega_04.gif): the id is unknown; did you mean"),
    "id in capitals": (text(LINES).replace("omega_04.jpg", "OMEGA_04.JPG"), "did you mean 'omega_04.jpg'?"),
    "id with folder": (text(LINES).replace("omega_04.jpg", "test/omega_04.jpg"), "did you mean 'omega_04.jpg'?"),
    "id with space": (text(LINES).replace("omega_04.jpg", "omega_04.jpg "), "did you mean 'omega_04.jpg'?"),
    "no mask field": (text([*LINES[:4], IDS[3], *LINES[5:]]), "line 5: has 1 fields instead of 2"),
    "blank line": (text([*LINES[:4], "", *LINES[4:]]), "line 5: is blank"),
    "commas in the mask": (with_mask(GOOD.replace(" ", ",")), "fields instead of 2"),
    "odd count": (with_mask(GOOD + " 5"), "numbers are not pairs of start and length"),
    "start 0": (with_mask(f"0 1 {GOOD}"), "line 5 (omega_04.jpg): run 1 (0 1) starts before pixel 1"),
    "length 0": (with_mask(f"1 0 {GOOD}"), "run 1 (1 0) has length 0"),
    "runs too far": (with_mask(f"{GOOD} {PIXELS} 2"), f"leaves the image of {PIXELS} pixels"),
    "starts outside": (with_mask(f"{GOOD} {PIXELS + 1} 1"), f"leaves the image of {PIXELS} pixels"),
    "runs overlap": (with_mask(repeat_last_run(GOOD)), "starts before the previous run ends"),
    "runs unsorted": (with_mask(f"{GOOD} 1 1"), "starts before the previous run ends"),
    "negative": (with_mask("-5 3"), "'-5' is not an integer"),
    "decimal": (with_mask("5.0 3.0"), "'5.0' is not an integer"),
    "nan": (with_mask("nan"), "'nan' is not an integer"),
    "a list": (with_mask(f"[{GOOD}]"), "is not an integer"),
    "other digits": (with_mask("١ ٢"), "is not an integer"),
    "number too large": (with_mask(f"1 {10**30}"), "a number is too large"),
    "two spaces": (with_mask(GOOD.replace(" ", "  ", 1)), "line 5 (omega_04.jpg): has stray spaces"),
    "space at the end": (with_mask(GOOD + " "), "has stray spaces"),
    "tabs": (with_mask(GOOD.replace(" ", "\t")), "has stray spaces"),
    "empty mask": (with_mask(""), "line 5 (omega_04.jpg): the mask is empty, which no mask of this competition is"),
    "one mask too large": (with_mask(f"1 {PIXELS}"), "line 5 (omega_04.jpg): the mask covers 100.00% of the image"),
    "one mask too small": (with_mask("1 1"), "line 5 (omega_04.jpg): the mask covers 0.02% of the image"),
    "untouched sample": (with_masks(lambda mask: "1 1"), "all 12 masks are '1 1', the placeholder of a sample"),
    "untrained model": (with_masks(lambda mask: f"1 {PIXELS}"), "all 12 masks cover the whole image"),
    "constant model": (with_masks(lambda mask: "1 900"), "all 12 masks are the same, '1 900'"),
    "column order": (with_masks(lambda mask: mask_to_rle(mask, COLUMNS)), "are numbered along the columns; expected along the rows"),
    "other width": (with_masks(encode_padded), "are made for rows of 96 pixels; expected 94"),
}  # fmt: skip

UNREADABLE: dict[str, tuple[str, bytes, str]] = {
    "not UTF-8": ("a.csv", text(LINES).replace("omega_04", "öl").encode("latin-1"), "is not UTF-8 text"),
    "open quote": ("a.csv", text([*LINES[:4], f'"{LINES[4]}', *LINES[5:]]).encode(), "line 5 is not CSV"),
    "gzip under another name": ("a.csv", gzip.compress(text(LINES).encode()), "is gzip, but has no suffix .gz"),
    "text named .gz": ("a.csv.gz", text(LINES).encode(), "has the suffix .gz, but is not gzip"),
    "empty .gz": ("a.csv.gz", b"", "has the suffix .gz, but is not gzip"),
    "gzip truncated": ("a.csv.gz", gzip.compress(text(LINES).encode())[:-20], "is incomplete or damaged after line"),
    "gzip without its sum": (
        "a.csv.gz",
        gzip.compress(text(LINES).encode())[:-4],
        "is incomplete or damaged after line",
    ),
    "gzip damaged": ("a.csv.gz", gzip.compress(text(LINES).encode())[:-8] + bytes(8), "is incomplete or damaged"),
    "other suffix": ("a.txt", text(LINES).encode(), "ends neither in .csv nor in .csv.gz"),
    "zip": ("a.zip", b"PK\x03\x04", "ends neither in .csv nor in .csv.gz"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_faults_are_refused_with_their_reason(name: str, tmp_path: Path, competition: Competition) -> None:
    content, reason = BROKEN[name]
    report = check(tmp_path / "broken.csv", content, competition)
    assert not report.good
    assert any(reason in str(problem) for problem in report.problems), [str(problem) for problem in report.problems]
    with pytest.raises(UserError) as error:
        report.raise_if_bad()
    assert str(error.value).startswith(f"{tmp_path / 'broken.csv'}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_are_refused(name: str, tmp_path: Path, competition: Competition) -> None:
    file, content, reason = UNREADABLE[name]
    with pytest.raises(UserError, match=reason) as error:
        check(tmp_path / file, content, competition)
    assert str(error.value).startswith(str(tmp_path / file))


def test_missing_files_and_folders_are_refused(tmp_path: Path, competition: Competition) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("missing.csv", "folder.csv", "missing.csv.gz"):
        with pytest.raises(UserError, match=f"{name}: cannot be read"):
            check_submission(tmp_path / name, competition, IDS, SHAPES)


GOOD_FILES = {
    "as written": text(LINES),
    "another order": text([LINES[0], *random.Random(1).sample(LINES[1:], len(IDS))]),
    "Windows line ends": "\r\n".join(LINES) + "\r\n",
    "quoted": text([",".join(f'"{field}"' for field in line.split(",")) for line in LINES]),
    "runs that touch": with_mask(runs_to_rle(np.array([[i, 1] for i in range(1000, 1400)]))),
    "first and last pixel": with_mask(f"1 1 {GOOD} {PIXELS} 1"),
}


@pytest.mark.parametrize("name", GOOD_FILES)
@pytest.mark.parametrize("packed", [False, True])
def test_correct_files_are_accepted(name: str, packed: bool, tmp_path: Path, competition: Competition) -> None:
    content = GOOD_FILES[name].encode()
    path = tmp_path / ("good.csv.gz" if packed else "good.csv")
    report = check(path, gzip.compress(content) if packed else content, competition)
    assert report.good, report.problems
    assert report.rows == len(IDS)
    assert not report.warnings
    report.raise_if_bad()


def test_missing_last_newline_is_a_warning(tmp_path: Path, competition: Competition) -> None:
    report = check(tmp_path / "a.csv", "\n".join(LINES), competition)
    assert report.good
    assert "its last row may be incomplete" in str(report.warnings[0])


def test_empty_masks_are_accepted_where_they_may_be(tmp_path: Path, competition: Competition) -> None:
    relaxed = changed_competition(competition, masks__may_be_empty=True)
    assert check(tmp_path / "a.csv", with_mask(""), relaxed).good
    report = check(tmp_path / "a.csv", with_masks(lambda mask: ""), relaxed)
    assert report.good
    assert "all 12 masks are empty: the model predicts only background" in str(report.warnings[0])


def test_a_few_implausible_areas_are_warnings(tmp_path: Path, competition: Competition) -> None:
    ids = [f"i{number:03}.jpg" for number in range(300)]
    rows = [(id, 0, ROWS[number % len(ROWS)][2]) for number, id in enumerate(ids)]
    shapes = dict.fromkeys([(id, 0) for id in ids], SIZE[::-1])
    for implausible, good in ((3, True), (4, False)):
        few = [(id, 0, "1 1") for id in ids[:implausible]]
        write_mask_csv(tmp_path / "a.csv", TINY_FORMAT, [*few, *rows[implausible:]])
        report = check_submission(tmp_path / "a.csv", competition, shapes)
        assert report.good == good
        assert len(report.warnings if good else report.problems) == implausible


def test_problems_are_counted_and_the_first_are_listed(tmp_path: Path, competition: Competition) -> None:
    rows = text([LINES[0], *(f"{id},1 0" for id in IDS), *(f"other{i}.jpg,1 1" for i in range(500))])
    report = check(tmp_path / "a.csv", rows, competition)
    assert report.count == 512
    assert len(report.problems) == MAX_PROBLEMS
    with pytest.raises(UserError, match=r"line 2 \(omega_01.jpg\): run 1 \(1 0\) has length 0 \(511 more problems\)"):
        report.raise_if_bad()


def test_expected_keys_and_shapes(data: Path, competition: Competition) -> None:
    expected = expected_shapes(competition, data)
    assert list(expected) == [("omega_03.jpg", 0), ("omega_02.jpg", 0), ("omega_01.jpg", 0)], "the sample's order"
    assert set(expected.values()) == {SIZE[::-1]}
    measured = changed_competition(competition, images__size=None)
    assert expected_shapes(measured, data) == expected, "from the headers of the images"
    assert set(expected_shapes(changed_competition(competition, csv__size=(5, 4)), data).values()) == {(4, 5)}
    (data / "sample_submission.csv").unlink()
    assert sorted(expected_shapes(measured, data)) == sorted(expected)
    write_mask_csv(data / "other.csv", TINY_FORMAT, [("lost.jpg", 0, "1 1")])
    with pytest.raises(UserError, match=r"has the id 'lost\.jpg', which is no test image"):
        expected_shapes(measured, data, data / "other.csv")


def test_reference_comes_from_the_training_masks(data: Path, competition: Competition) -> None:
    ratios = reference_ratios(competition, data)
    assert len(ratios.values["order"]) == 12
    assert reference_ratios(competition, data / "nowhere").values == {"order": [], "width": []}


def test_wrong_order_is_only_a_warning_without_true_masks(tmp_path: Path, competition: Competition) -> None:
    (tmp_path / "a.csv").write_text(with_masks(lambda mask: mask_to_rle(mask, COLUMNS)))
    report = check_submission(tmp_path / "a.csv", competition, SHAPES)
    assert report.good
    assert "may be numbered along the columns" in str(report.warnings[0])


class TestInstances:
    """Rows that are objects: several per image, which must not overlap."""

    SHAPES = {("a", 0): (4, 6), ("b", 0): (4, 6)}

    def check(self, path: Path, competition: Competition, *rows: str) -> list[str]:
        objects = changed_competition(competition, csv__rows="instance", masks__may_be_empty=True, masks__area=(0, 1))
        path.write_text(text([HEADER, *rows]))
        return [str(problem) for problem in check_submission(path, objects, self.SHAPES).problems]

    def test_several_rows_of_an_image_are_accepted(self, tmp_path, competition):
        assert self.check(tmp_path / "a.csv", competition, "a,1 2", "b,", "a,5 1") == []

    def test_overlapping_objects_are_refused(self, tmp_path, competition):
        problems = self.check(tmp_path / "a.csv", competition, "a,1 3", "b,1 1", "a,3 2")
        assert problems == ["line 4 (a): overlaps another object of the same image"]

    def test_an_empty_row_must_be_the_only_one(self, tmp_path, competition):
        problems = self.check(tmp_path / "a.csv", competition, "a,1 3", "a,", "b,1 1")
        assert problems == ["line 3 (a): is one of several rows of the image, and one of them is empty"]

    def test_every_image_needs_a_row(self, tmp_path, competition):
        assert self.check(tmp_path / "a.csv", competition, "a,1 3") == ["b: has no row"]


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(end=st.integers(0, len(text(LINES)) - 1))
def test_a_truncated_file_is_noticed(tmp_path_factory: pytest.TempPathFactory, end: int) -> None:
    report = check(tmp_path_factory.mktemp("cut") / "a.csv", text(LINES)[:end], load_competition("carvana"))
    # Truncated within the last row, the rest may be a valid mask; then only the missing newline shows it.
    assert not report.good or "incomplete" in report.warnings[0].reason


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(mask=hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), data=st.data())
def test_breaks_equal_those_of_pixels(mask: np.ndarray, data: st.DataObject) -> None:
    line = data.draw(st.integers(0, mask.size))
    pixels = mask.ravel()
    assert count_breaks(mask_to_runs(mask), line, mask.size) == (pixels & ~np.roll(pixels, -line)).sum()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["carvana", "nuclei"])
def test_real_masks_are_accepted_and_in_the_wrong_order_refused(name: str, request, tmp_path: Path) -> None:
    data: Path = request.getfixturevalue(f"shared_{name}")
    competition = load_competition(name)
    format, right = submission_format(competition), rle_format(competition)
    shapes, reference = expected_shapes(competition, data), reference_ratios(competition, data)
    report = check_submission(data / "solution.csv", competition, shapes, reference)
    assert report.good, report.describe()
    assert not report.warnings
    wrong = replace(right, order="column" if right.order == "row" else "row")
    rows = list(read_mask_csv(data / "solution.csv", format))
    texts = (mask_to_rle(rle_to_mask(row.rle, shapes[row.key], right), wrong) for row in rows)
    write_mask_csv(tmp_path / "wrong.csv.gz", format, ((row.id, 0, rle) for row, rle in zip(rows, texts, strict=True)))
    report = check_submission(tmp_path / "wrong.csv.gz", competition, shapes, reference)
    assert "are numbered along" in str(report.problems[0])
    if name == "carvana":
        wide = ((row.id, 0, encode_padded(rle_to_mask(row.rle, (1280, 1918)))) for row in rows)
        write_mask_csv(tmp_path / "wide.csv", format, wide)
        report = check_submission(tmp_path / "wide.csv", competition, shapes, reference)
        assert any("are made for rows of 1920 pixels" in str(problem) for problem in report.problems)
