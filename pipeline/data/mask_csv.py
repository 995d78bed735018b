"""CSV files of masks as run-length encoding, read and written row by row in constant memory.

A full Carvana submission has 100,064 rows and about 0.9 GB of text, or 0.4 GB as ``.csv.gz``.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from pipeline.data.csv_records import read_csv_records, render_record, write_csv_records
from pipeline.data.row_format import RowFormat
from pipeline.errors import UserError


class MaskRow(NamedTuple):
    """One row of a file."""

    line: int
    """Line in the file, from 1; the header is line 1."""
    id: str
    class_index: int
    """0 if the competition has no classes."""
    rle: str

    @property
    def key(self) -> tuple[str, int]:
        """(id, index of the class)."""
        return self.id, self.class_index


def write_mask_csv(path: Path, format: RowFormat, rows: Iterable[tuple[str, int, str]]) -> int:
    """Write (id, index of the class, RLE) rows as they come, in constant memory, atomically.

    The same rows give the same bytes with the same ISA-L: a ``.csv.gz`` has no time and no name inside.

    Returns:
        The number of rows without the header.

    Raises:
        UserError: `path` ends neither in .csv nor in .csv.gz, an id is not valid text, or the file cannot be written.
    """
    id = ""

    def records() -> Iterator[Sequence[str]]:
        nonlocal id
        yield format.header
        for id, class_index, rle in rows:
            yield format.render(id, class_index, rle)

    try:
        return write_csv_records(path, records()) - 1
    except UnicodeEncodeError:
        raise UserError(path, f"the id {id!r} cannot be written as UTF-8", "rename its image") from None


def render_mask_csv(format: RowFormat, rows: Iterable[tuple[str, int, str]]) -> bytes:
    """Return what `write_mask_csv` writes to a .csv."""
    return "".join(map(render_record, [format.header, *(format.render(*row) for row in rows)])).encode()


def read_mask_csv(path: Path, format: RowFormat, *, extra_columns: bool = False) -> Iterator[MaskRow]:
    """Read a file row by row. The RLE is not checked.

    Args:
        path: a .csv or .csv.gz file.
        format: the columns that it must have.
        extra_columns: accept other columns besides, and any order.

    Raises:
        UserError: the file cannot be read or is damaged, has another header, or a row does not fit the format.
    """
    records = read_csv_records(path)
    _, header = next(records, (1, []))
    if extra_columns and set(format.header) <= set(header):
        indexes = [header.index(column) for column in format.header]
    elif tuple(header) == format.header:
        indexes = []
    else:
        what, fix = describe_header(header, format.header)
        raise UserError(path, what, fix)
    for line, fields in records:
        if len(fields) != len(header):
            what = f"line {line} has {len(fields)} fields instead of {len(header)}"
            raise UserError(path, what, "correct it, or download the file again")
        if indexes:
            fields = [fields[index] for index in indexes]
        try:
            yield MaskRow(line, *format.parse(fields))
        except ValueError as error:
            raise UserError(path, f"line {line}: {error}", "correct it, or csv.columns") from None


def describe_header(header: Sequence[str], expected: Sequence[str]) -> tuple[str, str]:
    """Return what is wrong with a header and how to correct it."""
    wanted = f"the header must be {','.join(expected)}"
    if not header:
        return "is empty", wanted
    if header[0].startswith("\ufeff"):
        return "starts with a byte order mark", f"save it as UTF-8 without one; {wanted}"
    return f"has the header {','.join(header)[:80]!r}", wanted


class MaskCsvLookup:
    """The rows of one file in the order of another file; a context manager.

    As long as both files have the same order, rows are passed on as they are read. At the first difference the rest
    of the file is written to a temporary file, and the position of each row is kept in memory: a gzip stream cannot
    be searched, and a full submission has 0.9 GB of text, for each file of a blend.

    Args:
        path: the file to read.
        format: its columns.
        folder: where the temporary file goes; the system's folder if None.
    """

    def __init__(self, path: Path, format: RowFormat, folder: Path | None = None) -> None:
        self.path = path
        self.format = format
        self._rows = read_mask_csv(path, format)
        self._folder = folder
        self._places: dict[tuple[str, int], tuple[int, int, int]] = {}
        self._file: BinaryIO | None = None

    def __enter__(self) -> "MaskCsvLookup":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file:
            self._file.close()

    def take(self, key: tuple[str, int]) -> MaskRow:
        """Return the row of a key, which can be taken once.

        Raises:
            UserError: there is no such row (any more), or the file repeats a key or cannot be read.
        """
        if not self._file:
            row = next(self._rows, None)
            if row and row.key == key:
                return row
            self._file = self._spool(row)
        if key not in self._places:
            what = f"has no row for {self.format.describe_key(*key)}"
            raise UserError(self.path, what, "all files need the same ids, each once")
        line, start, length = self._places.pop(key)
        self._file.seek(start)
        return MaskRow(line, *key, self._file.read(length).decode())

    def finish(self) -> None:
        """Raise a UserError if a row was not taken."""
        row = next(self._rows, None)
        left = next(iter(self._places), row.key if row else None)
        if left is not None:
            what = f"has a row for {self.format.describe_key(*left)} that the others do not have"
            raise UserError(self.path, what, "all files need the same ids")

    def _spool(self, row: MaskRow | None) -> BinaryIO:
        """Write `row` and the rest of the file to a temporary file."""
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by __exit__
        start = 0
        while row:
            if row.key in self._places:
                what = f"line {row.line} repeats {self.format.describe_key(*row.key)}"
                raise UserError(self.path, what, "remove one of its rows")
            text = row.rle.encode()
            file.write(text)
            self._places[row.key] = (row.line, start, len(text))
            start += len(text)
            row = next(self._rows, None)
        return file
