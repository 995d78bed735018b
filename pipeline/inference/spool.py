"""Finished rows of an unfinished submission, kept on disk so that an interrupted prediction resumes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from pipeline.data.samples import RowKey
from pipeline.files import write_text
from pipeline.inference.rows import ImageRows


class RowSpool:
    """The rows of one image per line in a text file whose first line says what made them.

    A context manager that keeps the file open. Rows made by other weights, flips, ensemble weights or thresholds are
    deleted, and so is an incomplete last line. Of several lines for one image the last one counts; a damaged line, such
    as one that two processes have mixed, does not.

    Args:
        path: the file.
        made_by: what determines the rows; JSON values.
    """

    def __init__(self, path: Path, made_by: Mapping[str, object]) -> None:
        self.path = path
        self.done: dict[str, int] = {}
        """Id -> position of its line, for finished images."""
        self.doubts: dict[str, list[float]] = {}
        """Id -> doubt of each class, for finished images where it is known."""
        self.filled: dict[str, ImageRows] = {}
        """Rows of images that cannot be predicted. They are not written, so that the next call tries again."""
        self._first_line = first_line(made_by)
        if not self._resume():
            write_text(self.path, self._first_line.decode())

    def __enter__(self) -> "RowSpool":
        self._file = self.path.open("ab")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, id: str, rows: ImageRows, doubts: Sequence[float] = ()) -> None:
        """Append the rows of one image, and the doubt of each class."""
        self.done[id], self.doubts[id] = self._file.tell(), [round(doubt, 6) for doubt in doubts]
        line = json.dumps([id, rows, self.doubts[id]], ensure_ascii=False, separators=(",", ":"))
        self._file.write(line.encode() + b"\n")
        self._file.flush()  # the rows of a slide may be the work of hours

    def rows(self, ids: Sequence[str], keys: Sequence[RowKey] | None = None) -> Iterator[tuple[str, int, str]]:
        """Read the rows back as (id, index of the class, RLE).

        Args:
            ids: order of the images.
            keys: order of single rows, for a sample submission that orders the classes of an image differently.
        """
        with self.path.open("rb") as file:
            if keys is None:
                for id in ids:
                    yield from ((id, class_index, rle) for class_index, rle in self._read(file, id))
                return
            last_id, by_class = "", {}
            for id, class_index in keys:
                if id != last_id:
                    last_id, by_class = id, dict(self._read(file, id))
                yield id, class_index, by_class[class_index]

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink()

    def _read(self, file: BinaryIO, id: str) -> ImageRows:
        if id not in self.done:
            return self.filled[id]
        file.seek(self.done[id])
        return [(class_index, rle) for class_index, rle in json.loads(file.readline())[1]]

    def _resume(self) -> bool:
        """Find the finished rows; return False if there are none or they were made by something else."""
        if not self.path.exists():
            return False
        with self.path.open("rb+") as file:
            if file.readline() != self._first_line:
                return False
            end = file.tell()
            for line in file:
                if line.endswith(b"\n"):
                    if (parsed := _parse_line(line)) is not None:
                        self.done[parsed[0]], self.doubts[parsed[0]] = end, parsed[1]
                    end += len(line)
            file.truncate(end)
        return True


def first_line(made_by: Mapping[str, object]) -> bytes:
    """Return the first line of a spool whose rows are made by these values."""
    return ("# " + json.dumps(made_by) + "\n").encode()


def _parse_line(line: bytes) -> tuple[str, list[float]] | None:
    """Return the id and the doubts of a line, which older versions did not write; None if the line is damaged."""
    try:
        id, rows, *rest = json.loads(line)
        complete = all(isinstance(number, int) and isinstance(rle, str) for number, rle in rows)
        doubts = [float(doubt) for part in rest for doubt in part]
    except (ValueError, TypeError):
        return None
    return (id, doubts) if complete and len(rest) < 2 and isinstance(id, str) else None
