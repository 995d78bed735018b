"""Finished rows of an unfinished submission, kept on disk so that an interrupted prediction resumes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from pipeline.files import write_text


class RowSpool:
    """Rows in a text file whose first line says what made them. A context manager that keeps the file open.

    Rows made by other weights, flips, ensemble weights or thresholds are deleted, and so is an incomplete last line.

    Args:
        path: the file.
        made_by: what determines the rows; JSON values.
    """

    def __init__(self, path: Path, made_by: Mapping[str, object]) -> None:
        self.path = path
        self.done: set[str] = set()
        """Ids of the finished rows."""
        first_line = "# " + json.dumps(made_by) + "\n"
        if self.path.exists() and (length := self._valid_bytes(first_line.encode())):
            with self.path.open("rb+") as file:
                file.truncate(length)
            self.done = {id for id, _ in self.rows()}
        else:
            write_text(self.path, first_line)

    def __enter__(self) -> "RowSpool":
        self._file = self.path.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, row: tuple[str, str]) -> None:
        """Append one (id, RLE) row."""
        self._file.write(f"{row[0]},{row[1]}\n")
        self.done.add(row[0])

    def rows(self) -> Iterator[tuple[str, str]]:
        """Read the rows back."""
        with self.path.open(encoding="utf-8", newline="") as file:
            next(file)
            # Not the csv module: a ragged mask can be longer than its longest field. An id has no comma.
            for line in file:
                id, _, text = line.rstrip("\n").partition(",")
                yield id, text

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink()

    def _valid_bytes(self, first_line: bytes) -> int:
        """Return the length up to the last complete line; 0 if the rows were made by something else."""
        with self.path.open("rb") as file:
            if file.readline() != first_line:
                return 0
            end = file.tell()
            for line in file:
                if line.endswith(b"\n"):
                    end += len(line)
            return end
