"""Records of a data folder: which files of the competition are downloaded and unpacked, and what is still incoming.

::

    data/carvana/.download/train.json            what train.zip became: {"train/a_01.jpg": size in bytes, ...}
    data/carvana/.download/incoming/train.zip/   the folder into which the client writes train.zip
    data/carvana/.download/lock                  held during a download
    data/carvana/.download/checked               the data was checked after the last download, without errors
"""

import json
import os
import shutil
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path

from pipeline.competition import DownloadFile
from pipeline.files import write_text

_NOT_OFFERED: dict[str, int] = {}
"""The record of a replacement file that Kaggle does not list."""


def is_archive(file: DownloadFile) -> bool:
    """Return whether a file is an archive; the others replace single files of an archive."""
    return file.name.endswith(".zip")


class DownloadRecords:
    """The records of one data folder.

    Args:
        data: the data folder; need not exist.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self.folder = data / ".download"

    @property
    def lock(self) -> Path:
        """The lock file of a download."""
        return self.folder / "lock"

    @property
    def checked_marker(self) -> Path:
        """A file that exists if the data was checked after the last download, without errors."""
        return self.folder / "checked"

    def incoming(self, file: DownloadFile) -> Path:
        """Return where the client writes a file: in a folder for this file only."""
        return self.folder / "incoming" / file.name / Path(file.name).name

    def remove_incoming(self) -> None:
        """Delete what the client has written. Call it when everything is unpacked."""
        shutil.rmtree(self.folder / "incoming", ignore_errors=True)

    def write(self, file: DownloadFile, unpacked: Collection[Path]) -> None:
        """Record the files that `file` was unpacked to, with their sizes."""
        record = {str(path.relative_to(self.data)): path.stat().st_size for path in unpacked}
        write_text(self._path(file), json.dumps(record, indent=0))

    def write_not_offered(self, file: DownloadFile) -> None:
        """Record that Kaggle does not list a replacement file."""
        write_text(self._path(file), json.dumps(_NOT_OFFERED))

    def is_not_offered(self, file: DownloadFile) -> bool:
        """Return whether Kaggle did not list this replacement file."""
        return self._read(file) == _NOT_OFFERED

    def is_complete(self, file: DownloadFile, replaced: Collection[Path]) -> bool:
        """Return whether everything that `file` was unpacked to exists with its size.

        Args:
            file: a file of the competition.
            replaced: files that come from another file of the competition, and are not looked for in an archive.
        """
        record = self._read(file)
        if not record:
            return record == _NOT_OFFERED and not is_archive(file)
        sizes: dict[Path, dict[str, int]] = {}
        for name, size in record.items():
            path = self.data / name
            if path in replaced and is_archive(file):
                continue
            if path.parent not in sizes:
                sizes[path.parent] = _file_sizes(path.parent)
            if sizes[path.parent].get(path.name) != size:
                return False
        return True

    def _path(self, file: DownloadFile) -> Path:
        return self.folder / f"{file.to.replace('/', '__')}.json"

    def _read(self, file: DownloadFile) -> dict[str, int] | None:
        """Return the record of a file; None if there is none, or if it is damaged."""
        try:
            record: dict[str, int] = json.loads(self._path(file).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        return record


def _file_sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of the files in a folder by name; one scan instead of a hundred thousand calls of stat."""
    with os.scandir(folder) if folder.is_dir() else nullcontext(()) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
