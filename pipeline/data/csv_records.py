"""Records of .csv and .csv.gz files, read and written one by one in constant memory."""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from isal import igzip
from isal.igzip_lib import IsalError

from pipeline.errors import UserError, read_fix
from pipeline.files import atomic_write

CSV_SUFFIXES = (".csv", ".csv.gz")

MAX_RECORD = 1 << 28
"""Longest record of a CSV in bytes: 18 million runs of a slide, or a checkerboard of 30 megapixels. Without a limit, 9
MB of gzip can unpack to one line of 2 GB, and a quote that is never closed pulls in the rest of the file."""

_GZIP_MAGIC = b"\x1f\x8b"
# Measured on real masks: seven times as fast as zlib at its level 4, for a file of the same size.
_COMPRESSION_LEVEL = 2
_BUFFER = 1 << 18


def write_csv_records(path: Path, records: Iterable[Sequence[str]]) -> int:
    """Write records as they come, in constant memory, atomically.

    The same records give the same bytes with the same ISA-L: a ``.csv.gz`` has no time and no name inside.

    Returns:
        The number of records.

    Raises:
        UserError: `path` ends neither in .csv nor in .csv.gz, or the file cannot be written.
        UnicodeEncodeError: a field is not valid text.
    """
    _require_suffix(path)
    count = 0
    with atomic_write(path) as temporary, temporary.open("wb") as raw:
        packed = path.name.endswith(".gz")
        with igzip.IGzipFile("", "wb", _COMPRESSION_LEVEL, raw, mtime=0) if packed else nullcontext(raw) as stream:
            for fields in records:
                stream.write(render_record(fields).encode())
                count += 1
    return count


def read_csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read all records of a file as (line, fields), the header first.

    Raises:
        UserError: the file is missing or a folder, has another suffix than .csv or .csv.gz, is not what its suffix
            says, is incomplete or damaged, is not UTF-8, or has broken quotes.
    """
    _require_suffix(path)
    again = "write or download it again"
    line = 0
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP_MAGIC
            if packed != path.name.endswith(".gz"):
                what = "is gzip, but has no suffix .gz" if packed else "has the suffix .gz, but is not gzip"
                raise UserError(path, what, f"rename it, or {again}")
            stream = io.BufferedReader(igzip.IGzipFile(fileobj=raw), _BUFFER) if packed else raw
            for line, fields in _split_records(_BoundedLines(cast(BinaryIO, stream))):
                yield line, fields
    except _TooLongError:
        what = f"line {line + 1} has more than {MAX_RECORD:,} characters"
        raise UserError(path, what, "it is no mask; correct it, or download the file again") from None
    except UnicodeDecodeError:
        raise UserError(path, f"is not UTF-8 text after line {line}", again) from None
    # The stub of isal declares the exception as an instance.
    except (EOFError, IsalError, gzip.BadGzipFile) as error:  # type: ignore[misc]
        raise UserError(path, f"is incomplete or damaged after line {line} ({error})", again) from None
    except csv.Error as error:
        raise UserError(path, f"line {line + 1} is not CSV ({error})", again) from None
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", read_fix(error)) from None


def render_record(fields: Sequence[str]) -> str:
    """Return the text of a record. Only records with special characters need the csv module, which is slow."""
    text = ",".join(fields)
    if text and '"' not in text and "\n" not in text and "\r" not in text and text.count(",") == len(fields) - 1:
        return f"{text}\n"
    buffer = io.StringIO(newline="")
    # It quotes what its line terminator contains: both, since a reader may end lines at either.
    csv.writer(buffer, lineterminator="\r\n").writerow(fields)
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def _split_records(lines: "_BoundedLines") -> Iterator[tuple[int, list[str]]]:
    """Split lines into records as the csv module does, which is slow and starts at the first special character."""
    number = 0
    for data in lines:
        content = data.removesuffix(b"\n").removesuffix(b"\r")
        if b'"' in content or b"\r" in content:
            break
        number += 1
        lines.length = 0
        text = content.decode()
        yield number, text.split(",") if text else []
    else:
        return
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD))
    texts = (text for line in chain([data], lines) for text in io.StringIO(line.decode(), newline=""))
    reader = csv.reader(texts, strict=True)
    for fields in reader:
        lines.length = 0
        yield number + reader.line_num, fields


class _TooLongError(Exception):
    """A record is longer than `MAX_RECORD`."""


class _BoundedLines:
    """The lines of a file. `length` counts the bytes since it was last set to 0.

    Args:
        stream: the file.

    Raises:
        _TooLongError: `length` would exceed `MAX_RECORD`.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.length = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self._stream.readline(MAX_RECORD + 1 - self.length)
        if not line:
            raise StopIteration
        self.length += len(line)
        if self.length > MAX_RECORD:
            raise _TooLongError
        return line


def _require_suffix(path: Path) -> None:
    if not path.name.endswith(CSV_SUFFIXES):
        raise UserError(path, "ends neither in .csv nor in .csv.gz", "rename it")
