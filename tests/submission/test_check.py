"""The submission file: what is written is read, what is good is accepted, and what is broken is refused by its name."""

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.competition import Competition, load_competition
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.rle import mask_to_rle, rle_to_mask, runs_to_rle
from pipeline.errors import UserError
from pipeline.submission.check import MAX_PROBLEMS, SubmissionReport, check_submission, expected_shapes
from tests.helpers import SIZE, draw_ellipse

IDS = [f"omega_{view:02d}.jpg" for view in range(1, 13)]
SHAPES = dict.fromkeys(IDS, SIZE[::-1])
PIXELS = SIZE[0] * SIZE[1]
COLUMNS = ("img", "rle_mask")
_RNG = np.random.default_rng(7)
MASKS = {id: draw_ellipse(_RNG)[1] for id in IDS}
ROWS = [(id, mask_to_rle(mask)) for id, mask in MASKS.items()]
LINES = [",".join(COLUMNS), *(f"{id},{text}" for id, text in ROWS)]


def judge(path: Path, content: str | bytes, competition: Competition) -> SubmissionReport:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return check_submission(path, competition, IDS, SHAPES)


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def with_mask(mask: str) -> str:
    """The good file with another mask in line 5."""
    return text([*LINES[:4], f"{IDS[3]},{mask}", *LINES[5:]])


def with_masks(encode: Callable[[np.ndarray], str]) -> str:
    return text([LINES[0], *(f"{id},{encode(mask)}" for id, mask in MASKS.items())])


def padded(mask: np.ndarray) -> str:
    """The mistake of 1920 for 1918: encoded at a width that is a multiple of 32."""
    return mask_to_rle(np.pad(mask, ((0, 0), (0, 2))))


def doubled(runs: str) -> str:
    """The last run once more, a pixel further."""
    start, length = runs.split()[-2:]
    return f"{runs} {int(start) + 1} {length}"


GOOD = ROWS[3][1]

BROKEN: dict[str, tuple[str | bytes, str]] = {
    "empty file": ("", "is empty; expected the header img,rle_mask"),
    "no header": (text(LINES[1:]), "its header is 'omega_01.jpg,"),
    "other header": (text(["id,rle_mask", *LINES[1:]]), "its header is 'id,rle_mask'; expected img,rle_mask"),
    "header in capitals": (text(["IMG,RLE_MASK", *LINES[1:]]), "its header is 'IMG,RLE_MASK'"),
    "columns swapped": (text(["rle_mask,img", *LINES[1:]]), "its header is 'rle_mask,img'"),
    "semicolons": (text(LINES).replace(",", ";"), "its header is 'img;rle_mask'"),
    "byte order mark": ("\ufeff" + text(LINES), "begins with a byte order mark"),
    "index column": (text([f"{i},{line}" for i, line in enumerate(LINES)]), "has 3 fields instead of an id and a mask"),
    "header alone": (text(LINES[:1]), "omega_01.jpg: has no row"),
    "row missing": (text(LINES[:-1]), "omega_12.jpg: has no row"),
    "row twice": (text([*LINES, LINES[4]]), "line 14 (omega_04.jpg): the id is there already, in line 5"),
    "id over two lines": (text([*LINES, f'"zeta\n{"x" * 200}",1 1']), "('zeta\\nxxx"),
    "unknown id": (text([*LINES, "zeta_01.jpg,1 1"]), "line 14 (zeta_01.jpg): the id is unknown"),
    "id without ending": (text(LINES).replace("omega_04.jpg", "omega_04"), "(omega_04): the id is unknown; is it"),
    "id of the mask": (text(LINES).replace("_04.jpg", "_04.gif"), "(omega_04.gif): the id is unknown; is it"),
    "id in capitals": (text(LINES).replace("omega_04.jpg", "OMEGA_04.JPG"), "is it 'omega_04.jpg', written otherwise?"),
    "id with folder": (text(LINES).replace("omega_04.jpg", "test/omega_04.jpg"), "is it 'omega_04.jpg', written"),
    "id with space": (text(LINES).replace("omega_04.jpg", "omega_04.jpg "), "is it 'omega_04.jpg', written otherwise?"),
    "no mask field": (text([*LINES[:4], IDS[3], *LINES[5:]]), "line 5: has 1 fields instead of an id and a mask"),
    "blank line": (text([*LINES[:4], "", *LINES[4:]]), "line 5: is blank"),
    "commas in the mask": (with_mask(GOOD.replace(" ", ",")), "fields instead of an id and a mask"),
    "odd count": (with_mask(GOOD + " 5"), "numbers do not make pairs of start and length"),
    "start 0": (with_mask(f"0 1 {GOOD}"), "line 5 (omega_04.jpg): run 1 (0 1) starts below pixel 1"),
    "length 0": (with_mask(f"1 0 {GOOD}"), "run 1 (1 0) has length 0"),
    "runs too far": (with_mask(f"{GOOD} {PIXELS} 2"), f"leaves the image of {PIXELS} pixels"),
    "starts outside": (with_mask(f"{GOOD} {PIXELS + 1} 1"), f"leaves the image of {PIXELS} pixels"),
    "runs overlap": (with_mask(doubled(GOOD)), "starts before the one ahead of it ends"),
    "runs unsorted": (with_mask(f"{GOOD} 1 1"), "starts before the one ahead of it ends"),
    "negative": (with_mask("-5 3"), "'-5' is not a whole number"),
    "decimal": (with_mask("5.0 3.0"), "'5.0' is not a whole number"),
    "nan": (with_mask("nan"), "'nan' is not a whole number"),
    "a list": (with_mask(f"[{GOOD}]"), "is not a whole number"),
    "other digits": (with_mask("١ ٢"), "is not a whole number"),
    "number too large": (with_mask(f"1 {10**30}"), "a number is too large"),
    "two spaces": (with_mask(GOOD.replace(" ", "  ", 1)), "line 5 (omega_04.jpg): has stray spaces"),
    "space at the end": (with_mask(GOOD + " "), "has stray spaces"),
    "tabs": (with_mask(GOOD.replace(" ", "\t")), "has stray spaces"),
    "empty mask": (with_mask(""), "line 5 (omega_04.jpg): the mask is empty, and no mask of this competition may be"),
    "one mask too large": (with_mask(f"1 {PIXELS}"), "line 5 (omega_04.jpg): the mask covers 100.00% of the image"),
    "one mask too small": (with_mask("1 1"), "line 5 (omega_04.jpg): the mask covers 0.02% of the image"),
    "untouched sample": (with_masks(lambda mask: "1 1"), "all 12 masks are the same, '1 1'"),
    "untrained network": (with_masks(lambda mask: f"1 {PIXELS}"), f"all 12 masks are the same, '1 {PIXELS}'"),
    "column order": (with_masks(lambda mask: mask_to_rle(mask, "column")), "are numbered along the columns"),
    "other width": (with_masks(padded), "are made for images of 96 pixels along the rows; expected 94"),
}  # fmt: skip

UNREADABLE: dict[str, tuple[str, bytes, str]] = {
    "not UTF-8": ("a.csv", text(LINES).replace("omega_04", "öl").encode("latin-1"), "is not UTF-8 text"),
    "open quote": ("a.csv", text([*LINES[:4], f'"{LINES[4]}', *LINES[5:]]).encode(), "line 5 is not CSV"),
    "gzip under another name": ("a.csv", gzip.compress(text(LINES).encode()), "is gzip, unlike its name says"),
    "text named .gz": ("a.csv.gz", text(LINES).encode(), "is not gzip, unlike its name says"),
    "empty .gz": ("a.csv.gz", b"", "is not gzip, unlike its name says"),
    "gzip cut off": ("a.csv.gz", gzip.compress(text(LINES).encode())[:-20], "is cut off or damaged after line"),
    "gzip without its sum": ("a.csv.gz", gzip.compress(text(LINES).encode())[:-4], "is cut off or damaged after line"),
    "gzip damaged": ("a.csv.gz", gzip.compress(text(LINES).encode())[:-8] + bytes(8), "is cut off or damaged"),
    "other ending": ("a.txt", text(LINES).encode(), "ends neither in .csv nor in .csv.gz"),
    "zip": ("a.zip", b"PK\x03\x04", "ends neither in .csv nor in .csv.gz"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_refuses_what_is_broken(name: str, tmp_path: Path, competition: Competition) -> None:
    content, reason = BROKEN[name]
    report = judge(tmp_path / "broken.csv", content, competition)
    assert not report.good
    assert any(reason in str(problem) for problem in report.problems), [str(problem) for problem in report.problems]
    with pytest.raises(UserError) as error:
        report.raise_if_bad()
    assert str(error.value).startswith(f"{tmp_path / 'broken.csv'}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", UNREADABLE)
def test_refuses_what_cannot_be_read(name: str, tmp_path: Path, competition: Competition) -> None:
    file, content, reason = UNREADABLE[name]
    with pytest.raises(UserError, match=reason) as error:
        judge(tmp_path / file, content, competition)
    assert str(error.value).startswith(str(tmp_path / file))


def test_refuses_what_is_no_file(tmp_path: Path, competition: Competition) -> None:
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
def test_accepts_what_is_good(name: str, packed: bool, tmp_path: Path, competition: Competition) -> None:
    content = GOOD_FILES[name].encode()
    path = tmp_path / ("good.csv.gz" if packed else "good.csv")
    report = judge(path, gzip.compress(content) if packed else content, competition)
    assert report.good, report.problems
    assert report.rows == len(IDS)
    assert not report.warnings
    report.raise_if_bad()


def test_no_last_line_end(tmp_path: Path, competition: Competition) -> None:
    report = judge(tmp_path / "a.csv", "\n".join(LINES), competition)
    assert report.good
    assert "its last row may be cut off" in str(report.warnings[0])


def test_empty_masks_where_they_may_be(tmp_path: Path, competition: Competition) -> None:
    masks = competition.masks.model_copy(update={"may_be_empty": True})
    competition = competition.model_copy(update={"masks": masks})
    assert judge(tmp_path / "a.csv", with_mask(""), competition).good
    # All of them empty is the sample file; without a sample it may be the truth about one's own pictures.
    empty = with_masks(lambda mask: "")
    assert "all 12 masks are empty" in str(judge(tmp_path / "a.csv", empty, competition).problems[0])
    csv = competition.csv.model_copy(update={"sample": None})
    assert judge(tmp_path / "a.csv", empty, competition.model_copy(update={"csv": csv})).good


def test_few_odd_masks_are_warnings(tmp_path: Path, competition: Competition) -> None:
    ids = [f"i{number:03}.jpg" for number in range(300)]
    rows = [(id, ROWS[number % len(ROWS)][1]) for number, id in enumerate(ids)]
    for odd, good in ((3, True), (4, False)):
        write_mask_csv(tmp_path / "a.csv", COLUMNS, [*((id, "1 1") for id in ids[:odd]), *rows[odd:]])
        report = check_submission(tmp_path / "a.csv", competition, ids, dict.fromkeys(ids, SIZE[::-1]))
        assert report.good == good
        assert len(report.warnings if good else report.problems) == odd


def test_keeps_some_problems_and_counts_all(tmp_path: Path, competition: Competition) -> None:
    rows = text([LINES[0], *(f"{id},1 0" for id in IDS), *(f"other{i}.jpg,1 1" for i in range(500))])
    report = judge(tmp_path / "a.csv", rows, competition)
    assert report.count == 512
    assert len(report.problems) == MAX_PROBLEMS
    with pytest.raises(UserError, match=r"line 2 \(omega_01.jpg\): run 1 \(1 0\) has length 0 \(511 more problems\)"):
        report.raise_if_bad()


def test_expected_ids_and_shapes(data: Path, competition: Competition) -> None:
    wanted = expected_shapes(competition, data)
    assert list(wanted) == ["omega_03.jpg", "omega_02.jpg", "omega_01.jpg"], "in the order of the sample"
    assert set(wanted.values()) == {SIZE[::-1]}
    images = competition.images.model_copy(update={"size": None})
    measured = competition.model_copy(update={"images": images})
    assert expected_shapes(measured, data) == wanted, "from the headers of the images"
    (data / "sample_submission.csv").unlink()
    assert sorted(expected_shapes(measured, data)) == sorted(wanted)
    write_mask_csv(data / "other.csv", COLUMNS, [("lost.jpg", "1 1")])
    with pytest.raises(UserError, match=r"names 'lost\.jpg', which is no test image"):
        expected_shapes(measured, data, data / "other.csv")


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    for ending in (".csv", ".csv.gz"):
        first, second = tmp_path / f"first{ending}", tmp_path / f"second{ending}"
        assert write_mask_csv(first, COLUMNS, ROWS) == write_mask_csv(second, COLUMNS, iter(ROWS)) == len(ROWS)
        assert first.read_bytes() == second.read_bytes()
        assert [(row.id, row.rle) for row in read_mask_csv(first, COLUMNS)] == ROWS
    assert gzip.decompress((tmp_path / "first.csv.gz").read_bytes()) == text(LINES).encode()
    assert (tmp_path / "first.csv.gz").read_bytes()[3:8] == bytes(5), "no name, no time"


def test_writes_all_or_nothing(tmp_path: Path) -> None:
    def broken_off():
        yield ROWS[0]
        raise UserError("", "the network is gone")

    for name in ("a.csv", "a.csv.gz"):
        with pytest.raises(UserError, match="the network is gone"):
            write_mask_csv(tmp_path / name, COLUMNS, broken_off())
    with pytest.raises(UserError, match="ends neither"):
        write_mask_csv(tmp_path / "a.txt", COLUMNS, ROWS)
    with pytest.raises(UserError, match="cannot be written as UTF-8; rename its image"):
        write_mask_csv(tmp_path / "a.csv", COLUMNS, [("\udcff.jpg", "1 1")])
    assert not list(tmp_path.iterdir())


def test_reading_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text([*LINES[:4], "alone"]))
    with pytest.raises(UserError, match="line 5 has 1 fields"):
        list(read_mask_csv(path))
    with pytest.raises(UserError, match="expected id,mask"):
        list(read_mask_csv(path, ("id", "mask")))


def test_fields_of_any_length(tmp_path: Path) -> None:
    comb = " ".join(f"{start} 1" for start in range(1, 100_000, 2))
    write_mask_csv(tmp_path / "a.csv", COLUMNS, [("a.jpg", comb)])
    assert next(read_mask_csv(tmp_path / "a.csv")).rle == comb


ANY_ROW = st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1), st.text("0123456789 "))


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(ANY_ROW), packed=st.booleans())
def test_any_row_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list, packed: bool) -> None:
    path = tmp_path_factory.mktemp("rows") / ("a.csv.gz" if packed else "a.csv")
    assert write_mask_csv(path, COLUMNS, rows) == len(rows)
    assert [(row.id, row.rle) for row in read_mask_csv(path, COLUMNS)] == rows


@settings(deadline=None, max_examples=100)
@given(end=st.integers(0, len(text(LINES)) - 1))
def test_a_file_cut_anywhere_is_noticed(tmp_path_factory: pytest.TempPathFactory, end: int) -> None:
    report = judge(tmp_path_factory.mktemp("cut") / "a.csv", text(LINES)[:end], load_competition("carvana"))
    # Cut within the last row, what is left may well be a mask; then only the missing line end gives it away.
    assert not report.good or "cut off" in report.warnings[0].reason


@pytest.mark.slow
def test_real_rows(shared_carvana: Path, shared_nuclei: Path, tmp_path: Path) -> None:
    for name, data in (("carvana", shared_carvana), ("nuclei", shared_nuclei)):
        competition = load_competition(name)
        wanted = expected_shapes(competition, data)
        report = check_submission(data / "solution.csv", competition, list(wanted), wanted)
        assert report.good, report.problems
        assert not report.warnings
        assert not check_submission(data / "sample_submission.csv", competition, list(wanted), wanted).good
        other = "column" if competition.csv.order == "row" else "row"
        wrong = (
            (row.id, mask_to_rle(rle_to_mask(row.rle, wanted[row.id], competition.csv.order), other))
            for row in read_mask_csv(data / "solution.csv")
        )
        write_mask_csv(tmp_path / "wrong.csv.gz", competition.csv.columns, wrong)
        report = check_submission(tmp_path / "wrong.csv.gz", competition, list(wanted), wanted)
        assert "are numbered along" in str(report.problems[0])
    competition, wanted = load_competition("carvana"), expected_shapes(load_competition("carvana"), shared_carvana)
    wide = (
        (row.id, padded(rle_to_mask(row.rle, (1280, 1918)))) for row in read_mask_csv(shared_carvana / "solution.csv")
    )
    write_mask_csv(tmp_path / "wide.csv", competition.csv.columns, wide)
    report = check_submission(tmp_path / "wide.csv", competition, list(wanted), wanted)
    assert any("are made for images of 1920 pixels" in str(problem) for problem in report.problems)
