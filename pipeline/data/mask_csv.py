"""CSV files of masks as run-length encoding, read and written row by row in constant memory.

A full Carvana submission has 100,064 rows and about 0.9 GB of text, or 0.4 GB as ``.csv.gz``.
"""

import csv
import gzip
import io
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from pipeline.data.row_format import RowFormat
from pipeline.errors import UserError, read_fix
from pipeline.files import atomic_write

CSV_SUFFIXES = (".csv", ".csv.gz")

MAX_RECORD = 1 << 26
"""Longest record of a CSV in characters. The worst mask of a 12-megapixel image, a checkerboard, has fewer. Without a
limit, 9 MB of gzip can unpack to one line of 2 GB, and a quote that is never closed pulls in the rest of the file."""

_GZIP_MAGIC = b"\x1f\x8b"
# Measured on real masks: level 6 takes 3.7 times as long as level 4 and makes the file 3 % smaller.
_COMPRESSION_LEVEL = 4


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

    The same rows give the same bytes with the same zlib: a ``.csv.gz`` has no time and no name inside.

    Returns:
        The number of rows without the header.

    Raises:
        UserError: `path` ends neither in .csv nor in .csv.gz, an id is not valid text, or the file cannot be written.
    """
    _require_suffix(path)
    count = 0
    with atomic_write(path) as temporary, temporary.open("wb") as raw:
        stream = gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, raw, mtime=0) if path.name.endswith(".gz") else raw
        with io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(format.header)
            for id, class_index, rle in rows:
                try:
                    id.encode()
                except UnicodeEncodeError:
                    raise UserError(path, f"the id {id!r} cannot be written as UTF-8", "rename its image") from None
                writer.writerow(format.render(id, class_index, rle))
                count += 1
    return count


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


def read_csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read all records of a file as (line, fields), the header first.

    Raises:
        UserError: the file is missing or a folder, has another suffix than .csv or .csv.gz, is not what its suffix
            says, is incomplete or damaged, is not UTF-8, or has broken quotes.
    """
    _require_suffix(path)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD))
    again = "write or download it again"
    line = 0
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP_MAGIC
            if packed != path.name.endswith(".gz"):
                what = "is gzip, but has no suffix .gz" if packed else "has the suffix .gz, but is not gzip"
                raise UserError(path, what, f"rename it, or {again}")
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            with io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
                lines = _BoundedLines(text)
                reader = csv.reader(lines, strict=True)
                for fields in reader:
                    line = reader.line_num
                    lines.length = 0
                    yield line, fields
    except _TooLongError:
        what = f"line {line + 1} has more than {MAX_RECORD:,} characters"
        raise UserError(path, what, "it is no mask; correct it, or download the file again") from None
    except UnicodeDecodeError:
        raise UserError(path, f"is not UTF-8 text after line {line}", again) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(path, f"is incomplete or damaged after line {line} ({error})", again) from None
    except csv.Error as error:
        raise UserError(path, f"line {line + 1} is not CSV ({error})", again) from None
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", read_fix(error)) from None


class _TooLongError(Exception):
    """A record is longer than `MAX_RECORD`."""


class _BoundedLines:
    """The lines of a file. `length` counts the characters since it was last set to 0.

    Args:
        text: the file.

    Raises:
        _TooLongError: `length` would exceed `MAX_RECORD`.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_RECORD + 1 - self.length)
        if not line:
            raise StopIteration
        self.length += len(line)
        if self.length > MAX_RECORD:
            raise _TooLongError
        return line


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


def _require_suffix(path: Path) -> None:
    if not path.name.endswith(CSV_SUFFIXES):
        raise UserError(path, "ends neither in .csv nor in .csv.gz", "rename it")
