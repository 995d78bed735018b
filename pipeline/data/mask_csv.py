"""CSV files of ids and run-length encoded masks: streamed in, streamed out, never whole in memory.

A full Carvana submission is 100,064 rows and about 0.9 GB of text, or 0.4 GB as `.csv.gz`.
"""

import csv
import gzip
import io
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.files import atomic_write

CSV_SUFFIXES = (".csv", ".csv.gz")

# The csv module stops at 131,072 characters a field, which a ragged mask of a large image has. A limit is still wanted:
# a quote that is never closed would otherwise pull the rest of the file into memory.
_LONGEST_FIELD = 2**27

_GZIP_MAGIC = b"\x1f\x8b"
# Measured on real masks: level 6 takes 3.7 times as long as level 4 and makes the file 3 % smaller.
_LEVEL = 4


class MaskRow(NamedTuple):
    """One mask of a file."""

    line: int
    """Where it stands, counted from 1; the header is line 1."""
    id: str
    rle: str


def write_mask_csv(path: Path, columns: tuple[str, str], rows: Iterable[tuple[str, str]]) -> int:
    """Write (id, rle) rows as they come, in constant memory; the file is whole or not there.

    The same rows give the same bytes wherever the same zlib is installed: a `.csv.gz` holds no time and no name.

    Returns:
        The number of rows without the header.

    Raises:
        UserError: `path` ends neither in .csv nor in .csv.gz, an id is no valid text, or the file cannot be written.
    """
    _require_ending(path)
    count = 0
    with atomic_write(path) as temporary, temporary.open("wb") as raw:
        stream = gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) if path.name.endswith(".gz") else raw
        with io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(columns)
            for id, rle in rows:
                try:
                    id.encode()
                except UnicodeEncodeError:
                    raise UserError(path, f"the id {id!r} cannot be written as UTF-8", "rename its image") from None
                writer.writerow((id, rle))
                count += 1
    return count


def read_mask_csv(path: Path, columns: tuple[str, str] | None = None) -> Iterator[MaskRow]:
    """Read a file row by row; the masks are not looked at.

    Args:
        path: a .csv or .csv.gz file.
        columns: the header it must have; None takes any two.

    Raises:
        UserError: the file cannot be read, is damaged, has another header, or a row that is not an id and a mask.
    """
    lines = read_csv_records(path)
    _, header = next(lines, (1, []))
    if len(header) != 2 or (columns and tuple(header) != columns):
        raise UserError(path, f"{header_fault(header, columns)}")
    for line, fields in lines:
        if len(fields) != 2:
            raise UserError(path, f"line {line} has {len(fields)} fields", "expected an id and a mask")
        yield MaskRow(line, *fields)


def read_header(path: Path) -> tuple[str, str]:
    """The header of a file; UserError as in `read`."""
    _, header = next(read_csv_records(path), (1, []))
    if len(header) != 2:
        raise UserError(path, f"{header_fault(header, None)}")
    return header[0], header[1]


def read_csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """All lines of a file as (number of the line, fields), the header first, whatever they hold.

    Raises:
        UserError: the file is missing or a folder, ends otherwise than .csv or .csv.gz, is not what its ending says,
            is cut off or damaged, is not UTF-8, or has broken quotes.
    """
    _require_ending(path)
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    again = "write or fetch it again"
    line = 0
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP_MAGIC
            if packed != path.name.endswith(".gz"):
                raise UserError(
                    path, f"{'is' if packed else 'is not'} gzip, unlike its name says", f"rename it or {again}"
                )
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            with io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
                reader = csv.reader(text, strict=True)
                for fields in reader:
                    line = reader.line_num
                    yield line, fields
    except UnicodeDecodeError:
        raise UserError(path, f"is not UTF-8 text after line {line}", again) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(path, f"is cut off or damaged after line {line} ({error})", again) from None
    except csv.Error as error:
        raise UserError(path, f"line {line + 1} is not CSV ({error})", again) from None
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "check the path") from None


def header_fault(header: list[str], columns: tuple[str, str] | None) -> str:
    """What is wrong with the first line of a file."""
    expected = ",".join(columns) if columns else "two columns, the id and the mask"
    if not header:
        return f"is empty; expected the header {expected}"
    if header[0].startswith("\ufeff"):
        return f"begins with a byte order mark; save it as UTF-8 without one, the header being {expected}"
    return f"its header is {','.join(header)[:80]!r}; expected {expected}"


class MaskCsvLookup:
    """The rows of one file in the order in which another file wants them; a context manager.

    As long as both files have the same order, rows are passed on as they are read. At the first row out of order the
    rest of the file goes to a temporary file, with the place of each id in memory: a gzip stream cannot be sought in,
    and the text of a full submission is 0.9 GB, which would be needed once for each file of a blend.
    """

    def __init__(self, path: Path, columns: tuple[str, str] | None = None, spool: Path | None = None) -> None:
        """Open `path`; `spool` is the folder for the temporary file, None the system's."""
        self.path = path
        self._rows = read_mask_csv(path, columns)
        self._spool_folder = spool
        self._places: dict[str, tuple[int, int, int]] = {}
        self._file: tempfile._TemporaryFileWrapper[bytes] | None = None

    def __enter__(self) -> "MaskCsvLookup":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file:
            self._file.close()

    def take(self, id: str) -> MaskRow:
        """The row of `id`, which may be taken once.

        Raises:
            UserError: there is no such row (any more), or the file has an id twice or cannot be read.
        """
        if not self._file:
            row = next(self._rows, None)
            if row and row.id == id:
                return row
            self._spool(row)
        if id not in self._places:
            raise UserError(self.path, f"has no row for {id}", "all files need the same ids, each once")
        line, start, length = self._places.pop(id)
        self._file.seek(start)
        return MaskRow(line, id, self._file.read(length).decode())

    def finish(self) -> None:
        """Raise a UserError if a row was not taken."""
        row = next(self._rows, None)
        left = next(iter(self._places), row.id if row else None)
        if left is not None:
            raise UserError(self.path, f"has a row for {left} that the others do not", "all files need the same ids")

    def _spool(self, row: MaskRow | None) -> None:
        self._file = tempfile.TemporaryFile(dir=self._spool_folder)  # noqa: SIM115 - closed by __exit__
        start = 0
        while row:
            if row.id in self._places:
                raise UserError(self.path, f"line {row.line} has {row.id} again", "remove one of its rows")
            text = row.rle.encode()
            self._file.write(text)
            self._places[row.id] = (row.line, start, len(text))
            start += len(text)
            row = next(self._rows, None)


def _require_ending(path: Path) -> None:
    if not path.name.endswith(CSV_SUFFIXES):
        raise UserError(path, "ends neither in .csv nor in .csv.gz", "rename it")
