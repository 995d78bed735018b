"""Records are written and read as the csv module does, at its slow pace only where there are special characters."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.data.csv_records import read_csv_records, write_csv_records
from pipeline.errors import UserError

FIELD = st.text('a1 ,"\n\rü', max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@settings(deadline=None)
@given(
    records=st.lists(st.lists(FIELD, min_size=1, max_size=3), max_size=4), ending=st.sampled_from([".csv", ".csv.gz"])
)
@example(records=[["a", "b"], [""], ["", ""], ["a,b"]], ending=".csv")
def test_records_are_those_of_the_csv_module(folder: Path, records: list[list[str]], ending: str) -> None:
    path = folder / f"a{ending}"
    assert write_csv_records(path, records) == len(records)
    assert [fields for _, fields in read_csv_records(path)] == records
    if ending == ".csv" and not any("\r" in field for fields in records for field in fields):
        expected = io.StringIO(newline="")
        csv.writer(expected, lineterminator="\n").writerows(records)
        assert path.read_bytes().decode() == expected.getvalue()


@settings(deadline=None)
@given(text=st.text('a1,"\n\r', max_size=20))
@example(text="a,b\r\nc,d\re,f\n\n")
def test_any_text_is_read_as_by_the_csv_module(folder: Path, text: str) -> None:
    path = folder / "text.csv"
    path.write_bytes(text.encode())
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        expected = [(reader.line_num, fields) for fields in reader]
    except csv.Error:
        with pytest.raises(UserError, match="is not CSV"):
            list(read_csv_records(path))
        return
    assert list(read_csv_records(path)) == expected
