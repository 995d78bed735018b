"""The competition's files, fetched one by one, proved whole, unpacked, and not touched again.

Below the data folder `.download/` holds what is on its way and, for each file of the competition that is done, a record
of what it became. An archive is deleted when its record is written: the images fill the disk once, not twice. One that
lies in the data folder itself, put there by hand, is taken instead of fetched, and stays.
"""

import json
import logging
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

from tqdm import tqdm

from pipeline.competition import Competition, DownloadFile
from pipeline.errors import UserError
from pipeline.files import atomic_write, lock, require_space, write_text
from pipeline.kaggle.archive import (
    BrokenArchiveError,
    is_web_page,
    list_members,
    remove_temporary_files,
    unpack_members,
    verify_archive,
)
from pipeline.kaggle.client import KaggleClient, RetryPolicy
from pipeline.kaggle.errors import KaggleError

log = logging.getLogger(__name__)

_NOTES = ".download"
_UNPACKED = 1.1
"""Bytes on the disk for each byte of an archive of pictures; their file system's blocks included."""
_SPARE = 200 << 20
"""Bytes beyond that, for archives of text, which unpack to a few times their size."""
_NOT_OFFERED: dict[str, int] = {}
"""The record of a replacement that Kaggle does not list."""
UNPACK_WORKERS = min(8, os.cpu_count() or 1)


def required_files(competition: Competition) -> list[DownloadFile]:
    """The files of `competition.download` that its other tables read, archives first, then what replaces parts of them.

    Raises:
        UserError: the competition is not Kaggle's, or has no list of files.
    """
    if competition.slug is None or competition.download is None:
        raise UserError(
            f"competitions/{competition.name}.toml", "has no slug and download table", "there is nothing to download"
        )
    images, masks, csv = competition.images, competition.masks, competition.csv
    read = [images.train, images.val, images.test, masks.train, masks.val, csv.train, csv.sample]
    places = [Path(place) for place in read if place]
    files = [
        file
        for file in competition.download.files
        if any(place.is_relative_to(file.to) or Path(file.to).is_relative_to(place) for place in places)
    ]
    return sorted(files, key=lambda file: not file.name.endswith(".zip"))


def download_competition(competition: Competition, data: Path, patience: RetryPolicy | None = None) -> list[str]:
    """Bring every wanted file into the data folder; what is there is left alone, what was interrupted goes on.

    Args:
        competition: its slug and its list of files.
        data: the folder of the data.
        patience: how long to wait for the client.

    Returns:
        The names of the files that were not complete before; empty if there was nothing to do.

    Raises:
        UserError: Kaggle refuses (see `causes`), the disk is too small, or a file is not what it should be.
    """
    files = required_files(competition)
    records = {file: _read_record(file, data) for file in files}
    # Entries that another file replaces are neither unpacked nor looked for.
    replaced = {data / file.to for file in files if _is_loose(file) and records[file] != _NOT_OFFERED}
    missing = [file for file in files if not _is_done(file, records[file], data, replaced)]
    incoming = data / _NOTES / "incoming"
    if not missing:
        # Left by a run that was killed between its last record and its end.
        shutil.rmtree(incoming, ignore_errors=True)
        return []
    with lock(data / _NOTES / "lock", "another download is running here"):
        kaggle = KaggleClient(str(competition.slug), patience)
        sizes = {} if all((data / file.name).is_file() for file in missing) else _sizes(kaggle, missing)
        for file in [file for file in missing if sizes and file.name not in sizes]:
            log.warning("Kaggle lists no %s: %s stays as its archive has it", file.name, file.to)
            write_text(_record(file, data), json.dumps(_NOT_OFFERED))
            missing.remove(file)
            replaced.discard(data / file.to)
        _require_space(data, missing, sizes)
        for file in missing:
            _bring(kaggle, file, data, sizes.get(file.name, 0), replaced)
        shutil.rmtree(incoming, ignore_errors=True)
    return [file.name for file in missing]


def checked_marker(data: Path) -> Path:
    """The file that says that all of it was checked after the last download, and found good."""
    return data / _NOTES / "checked"


def _bring(kaggle: KaggleClient, file: DownloadFile, data: Path, size: int, replaced: set[Path]) -> None:
    """One file from Kaggle to its place, and the record that it is there."""
    target = data / file.to
    byhand = data / file.name
    found = byhand if byhand.is_file() and byhand != target else None
    for last in (False, True):
        path = found or _fetch(kaggle, file, data, size)
        try:
            became = _place(path, target, size, replaced)
            break
        except BrokenArchiveError as error:
            if found:
                raise UserError(found, f"is not a whole archive ({error})", "delete it and run again") from None
            arrived = path.stat().st_size
            shutil.rmtree(path.parent)
            if last:
                raise UserError(
                    file.name,
                    f"came twice as {arrived:,} bytes that are not whole ({error}; Kaggle lists {size:,} bytes)",
                    "run the same command later",
                ) from None
            log.warning("%s: arrived damaged (%s); fetching it once more", file.name, error)
    record = {str(path.relative_to(data)): path.stat().st_size for path in became}
    write_text(_record(file, data), json.dumps(record, indent=0))
    if not found:
        shutil.rmtree(path.parent)


def _fetch(kaggle: KaggleClient, file: DownloadFile, data: Path, size: int) -> Path:
    """The file as Kaggle sends it, in a folder of its own; at once if an earlier run has fetched it whole."""
    done = _incoming(file, data)
    folder = done.parent
    if size and done.is_file() and done.stat().st_size == size:
        return done
    # What earlier runs have fetched must not count into the rate.
    before = done.stat().st_size if done.is_file() else 0
    with tqdm(total=size or None, initial=before, desc=file.name, unit="B", unit_scale=True, delay=1) as bar:
        path = kaggle.download(file.name, folder, size, grown=lambda arrived: bar.update(arrived - bar.n))
    if is_web_page(path):
        shutil.rmtree(folder)
        raise KaggleError(
            "rules",
            f"Kaggle sent a web page instead of {file.name}; open the competition in a browser with the account of "
            "these credentials, join it and accept its rules, and run the same command again",
        )
    return path


def _place(path: Path, target: Path, size: int, replaced: set[Path]) -> list[Path]:
    """Unpack an archive, or move a loose file, to where it belongs; the files it became.

    Raises:
        BrokenArchiveError: the file is not whole.
    """
    # Kaggle packs some loose files on their way; then the listed size is that of the content.
    if not path.name.endswith(".zip"):
        if size and path.stat().st_size != size:
            raise BrokenArchiveError("wrong length")
        with atomic_write(target) as temporary:
            shutil.copyfile(path, temporary)
        return [target]
    remove_temporary_files({target if not target.suffix else target.parent})
    members = [member for member in list_members(path, target) if member.target not in replaced]
    verify_archive(path, UNPACK_WORKERS)
    unpack_members(path, members, UNPACK_WORKERS)
    return [member.target for member in members]


def _is_loose(file: DownloadFile) -> bool:
    return not file.name.endswith(".zip")


def _is_done(file: DownloadFile, record: dict[str, int] | None, data: Path, replaced: set[Path]) -> bool:
    """Whether everything that a file became is in place, with its size."""
    if not record:
        return record == _NOT_OFFERED
    listings: dict[Path, dict[str, int]] = {}
    for name, size in record.items():
        path = data / name
        if path in replaced and not _is_loose(file):
            continue
        if path.parent not in listings:
            # One listing of a folder instead of a hundred thousand single looks.
            with os.scandir(path.parent) if path.parent.is_dir() else nullcontext(()) as entries:
                listings[path.parent] = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        if listings[path.parent].get(path.name) != size:
            return False
    return True


def _read_record(file: DownloadFile, data: Path) -> dict[str, int] | None:
    try:
        return json.loads(_record(file, data).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _incoming(file: DownloadFile, data: Path) -> Path:
    """Where the client puts a file, in a folder of its own."""
    return data / _NOTES / "incoming" / file.name / Path(file.name).name


def _record(file: DownloadFile, data: Path) -> Path:
    return data / _NOTES / f"{file.to.replace('/', '__')}.json"


def _sizes(kaggle: KaggleClient, files: list[DownloadFile]) -> dict[str, int]:
    """Bytes of each file by Kaggle's own list; one that only replaces a part of an archive may be missing from it."""
    listed = kaggle.files()
    for file in files:
        if file.name not in listed and not _is_loose(file):
            raise UserError(
                "",
                f"Kaggle lists no {file.name} in {kaggle.slug}, but {', '.join(sorted(listed)) or 'nothing'}",
                "correct download.files in competitions/*.toml",
            )
    return {file.name: listed[file.name] or int(file.mb * 1e6) for file in files if file.name in listed}


def _require_space(data: Path, missing: list[DownloadFile], sizes: dict[str, int]) -> None:
    """Refuse to start what cannot end: all that is unpacked, and the largest archive beside it."""
    archives, unpacked = [0], 0
    for file in missing:
        size = sizes.get(file.name, 0)
        incoming = _incoming(file, data)
        here = sum(path.stat().st_size for path in (data / file.to).iterdir()) if (data / file.to).is_dir() else 0
        archives.append(size - (incoming.stat().st_size if incoming.is_file() else 0))
        unpacked += max(0, int(_UNPACKED * size) - here)
    require_space(data, unpacked + max(archives) + _SPARE)
