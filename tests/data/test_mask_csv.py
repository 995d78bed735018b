"""CSV files of masks are written atomically and deterministically, and read back exactly."""

import contextlib
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import csv_records
from pipeline.data.csv_records import read_csv_records
from pipeline.data.mask_csv import MaskCsvLookup, read_mask_csv, write_mask_csv
from pipeline.data.rle import mask_to_rle, parse_rle
from pipeline.data.row_format import RowFormat
from pipeline.errors import UserError
from tests.helpers import TINY_FORMAT as FORMAT
from tests.helpers import draw_ellipse

_RNG = np.random.default_rng(7)
ROWS = [(f"omega_{view:02d}.jpg", 0, mask_to_rle(draw_ellipse(_RNG)[1])) for view in range(1, 13)]
LINES = ["img,rle_mask", *(f"{id},{rle}" for id, _, rle in ROWS)]


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def test_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for ending in (".csv", ".csv.gz"):
        first, second = tmp_path / f"first{ending}", tmp_path / f"second{ending}"
        assert write_mask_csv(first, FORMAT, ROWS) == write_mask_csv(second, FORMAT, iter(ROWS)) == len(ROWS)
        assert first.read_bytes() == second.read_bytes()
        assert [row[1:] for row in read_mask_csv(first, FORMAT)] == ROWS
    assert gzip.decompress((tmp_path / "first.csv.gz").read_bytes()) == text(LINES).encode()
    assert (tmp_path / "first.csv.gz").read_bytes()[3:8] == bytes(5), "neither a name nor a time"


def test_an_interrupted_file_does_not_appear(tmp_path: Path) -> None:
    def interrupted():
        yield ROWS[0]
        raise UserError("", "the device is lost")

    for name in ("a.csv", "a.csv.gz"):
        with pytest.raises(UserError, match="the device is lost"):
            write_mask_csv(tmp_path / name, FORMAT, interrupted())
    with pytest.raises(UserError, match="ends neither"):
        write_mask_csv(tmp_path / "a.txt", FORMAT, ROWS)
    with pytest.raises(UserError, match="cannot be written as UTF-8; rename its image"):
        write_mask_csv(tmp_path / "a.csv", FORMAT, [("\udcff.jpg", 0, "1 1")])
    assert not list(tmp_path.iterdir())


def test_faulty_rows_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text([*LINES[:2], "alone"]))
    with pytest.raises(UserError, match="line 3 has 1 fields instead of 2"):
        list(read_mask_csv(path, FORMAT))
    with pytest.raises(UserError, match="has the header 'img,rle_mask'; the header must be id,mask"):
        list(read_mask_csv(path, RowFormat({"id": "{id}", "mask": "{rle}"})))


def test_extra_columns_in_any_order_are_accepted_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,rle_mask,img\n9,1 2,a\n")
    assert [row[1:] for row in read_mask_csv(path, FORMAT, extra_columns=True)] == [("a", 0, "1 2")]
    with pytest.raises(UserError, match="has the header"):
        list(read_mask_csv(path, FORMAT))


def test_classes_are_part_of_the_key(tmp_path: Path) -> None:
    format = RowFormat({"key": "{id}_{class}", "rle": "{rle}"}, ["x", "y"])
    rows = [("a_b", 1, "1 2"), ("a_b", 0, "")]
    write_mask_csv(tmp_path / "a.csv", format, rows)
    assert (tmp_path / "a.csv").read_text() == "key,rle\na_b_y,1 2\na_b_x,\n"
    assert [row.key for row in read_mask_csv(tmp_path / "a.csv", format)] == [("a_b", 1), ("a_b", 0)]
    with MaskCsvLookup(tmp_path / "a.csv", format) as lookup:
        assert lookup.take(("a_b", 0)).rle == ""
        assert lookup.take(("a_b", 1)) == (2, "a_b", 1, "1 2")
        lookup.finish()
        with pytest.raises(UserError, match=r"has no row for a_b, class y; all files need the same ids, each once"):
            lookup.take(("a_b", 1))


def test_long_fields_are_read(tmp_path: Path) -> None:
    comb = " ".join(f"{start} 1" for start in range(1, 100_000, 2))
    write_mask_csv(tmp_path / "a.csv", FORMAT, [("a.jpg", 0, comb)])
    assert next(read_mask_csv(tmp_path / "a.csv", FORMAT)).rle == comb


ANY_ROW = st.tuples(
    st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1), st.just(0), st.text("0123456789 ")
)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(rows=st.lists(ANY_ROW), packed=st.booleans())
def test_any_row_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list, packed: bool) -> None:
    path = tmp_path_factory.mktemp("rows") / ("a.csv.gz" if packed else "a.csv")
    assert write_mask_csv(path, FORMAT, rows) == len(rows)
    assert [row[1:] for row in read_mask_csv(path, FORMAT)] == rows


@pytest.mark.parametrize(
    "content",
    [
        b"a" * 5000,
        b'a,"' + b"1 1\n" * 2000,
        b'"\n",' * 2000,
        b"a,1 1\n" + b"1 1," * 2000 + b"\n",
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_record_without_end_is_refused_by_line(tmp_path: Path, monkeypatch, content: bytes, ending: str) -> None:
    monkeypatch.setattr(csv_records, "MAX_RECORD", 1000)
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(content) if ending == ".csv.gz" else content)
    with pytest.raises(UserError, match=r"line \d has more than 1,000 characters; it is no mask"):
        list(read_csv_records(path))


def test_records_up_to_the_limit_are_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(csv_records, "MAX_RECORD", 10)
    (tmp_path / "a.csv").write_text('123456789\n"2\n4\n6",9\n' * 3)
    assert len(list(read_csv_records(tmp_path / "a.csv"))) == 6


@pytest.mark.slow
def test_packed_line_of_two_gigabytes_takes_little_memory(tmp_path: Path) -> None:
    member = gzip.compress(b"1 " * (16 << 20), 1)
    (tmp_path / "a.csv.gz").write_bytes(member * 64)
    code = """
import re, sys
from pathlib import Path
from pipeline.data.csv_records import read_csv_records
from pipeline.errors import UserError
try:
    list(read_csv_records(Path(sys.argv[1])))
except UserError as error:
    assert "line 1 has more than 268,435,456 characters" in str(error)
    # Not ru_maxrss, which a child process inherits from the process that started it.
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a.csv.gz")]
    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) < 1024


PIECES = st.sampled_from(
    [b"img", b"rle_mask", b",", b"\n", b"\r", b'"', b"1 2", b"-1", b"\0", b"\xff", b"\xef\xbb\xbf", b" ", b"9" * 30]
)


@pytest.mark.slow
@settings(deadline=2000, max_examples=200)
@given(content=st.one_of(st.binary(), st.lists(PIECES, max_size=20).map(b"".join)), packed=st.booleans())
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, packed: bool) -> None:
    path = tmp_path_factory.getbasetemp() / ("any.csv.gz" if packed else "any.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    with contextlib.suppress(UserError):
        list(read_mask_csv(path, FORMAT))
    path.write_bytes(b"img,rle_mask\n" + content)
    with contextlib.suppress(UserError):
        for row in read_mask_csv(path, FORMAT):
            with contextlib.suppress(ValueError):
                parse_rle(row.rle, 100)
