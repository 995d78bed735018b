"""Download the files that a competition needs, verify them and unpack them.

Every file is downloaded and unpacked separately, and recorded when it is complete (`pipeline.kaggle.records`). Its
archive is then deleted, so the images use the disk once. An archive that the user has put into the data folder is used
instead of a download, and is not deleted.
"""

import logging
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from pipeline import paths
from pipeline.competition import Competition, DownloadFile
from pipeline.competition.files import is_pattern
from pipeline.data.csv_records import CSV_SUFFIXES
from pipeline.errors import UserError
from pipeline.files import atomic_write, lock, require_space
from pipeline.kaggle.archive import (
    BrokenArchiveError,
    is_web_page,
    list_members,
    remove_temporary_files,
    unpack_members,
    verify_archive,
)
from pipeline.kaggle.client import KaggleClient, RetryPolicy
from pipeline.kaggle.errors import KaggleError, kaggle_error
from pipeline.kaggle.records import DownloadRecords, is_archive

log = logging.getLogger(__name__)

UNPACK_WORKERS = min(8, os.cpu_count() or 1)
_UNPACKED_RATIO = 1.1
"""Bytes on the disk per byte of an archive of images, with the blocks of the file system."""
_SPARE_BYTES = 200 << 20
"""Additional space for archives of text, which unpack to a few times their size."""


def required_files(competition: Competition) -> list[DownloadFile]:
    """List the files of the ``[download]`` table that other tables use.

    Archives come first, then single files that replace a damaged member.

    Raises:
        UserError: the competition has no slug or no ``[download]`` table.
    """
    if competition.slug is None or competition.download is None:
        what = "has no slug or no [download] table, so there is nothing to download"
        raise UserError(paths.competition_toml(competition.name), what, "add both, or copy the data by hand")
    images, masks, csv = competition.images, competition.masks, competition.csv
    names = [images.train, images.val, images.test, masks.train, masks.val, csv.train, csv.sample]
    needed = [Path(name) for name in names if name]
    files = [
        file
        for file in competition.download.files
        if any(path.is_relative_to(file.to) or Path(file.to).is_relative_to(path) for path in needed)
    ]
    return sorted(files, key=lambda file: not is_archive(file))


def download_competition(competition: Competition, data: Path, retry: RetryPolicy | None = None) -> list[str]:
    """Download and unpack what is missing in the data folder. An interrupted download resumes.

    Args:
        competition: its slug and its list of files.
        data: the data folder.
        retry: time limits and attempts of the client.

    Returns:
        The names of the files that were not complete before.

    Raises:
        UserError: the client fails (`KaggleError`), the disk is too small, or a file is damaged or suspicious.
    """
    files = required_files(competition)
    records = DownloadRecords(data)
    # These files are left out when an archive is unpacked.
    replaced = {data / file.to for file in files if not is_archive(file) and not records.is_not_offered(file)}
    missing = [file for file in files if not records.is_complete(file, replaced)]
    if not missing:
        # A process that was killed after its last record has left this folder.
        records.remove_incoming()
        return []
    with lock(records.lock, "another download is running here"):
        client = KaggleClient(str(competition.slug), retry)
        sizes: dict[str, int] = {}
        if not all((data / file.name).is_file() for file in missing):
            sizes = _list_sizes(client, missing)
            for file in [file for file in missing if file.name not in sizes]:
                log.warning("Kaggle does not list %s: the copy inside the archive is used", file.name)
                records.write_not_offered(file)
                missing.remove(file)
                replaced.discard(data / file.to)
        _require_space(records, missing, sizes)
        suffixes = _data_suffixes(competition)
        for file in missing:
            _install(client, file, records, sizes.get(file.name, 0), replaced, suffixes)
        records.remove_incoming()
    return [file.name for file in missing]


def _list_sizes(client: KaggleClient, files: Sequence[DownloadFile]) -> dict[str, int]:
    """Return the size in bytes of each file that Kaggle lists.

    Raises:
        UserError: Kaggle does not list an archive. A replacement file may be missing.
    """
    listed = client.list_files()
    for file in files:
        if file.name not in listed and is_archive(file):
            what = f"Kaggle does not list {file.name}, only {', '.join(sorted(listed)) or 'nothing'}"
            raise UserError(client.slug, what, "correct download.files in competitions/*.toml")
    return {file.name: listed[file.name] or int(file.mb * 1e6) for file in files if file.name in listed}


def _require_space(records: DownloadRecords, missing: Sequence[DownloadFile], sizes: Mapping[str, int]) -> None:
    """Require space for everything that is unpacked and for the largest archive at the same time."""
    largest = unpacked = 0
    for file in missing:
        size, incoming, target = sizes.get(file.name, 0), records.incoming(file), records.data / file.to
        downloaded = incoming.stat().st_size if incoming.is_file() else 0
        existing = sum(path.stat().st_size for path in target.iterdir()) if target.is_dir() else 0
        largest = max(largest, size - downloaded)
        unpacked += max(0, int(_UNPACKED_RATIO * size) - existing)
    require_space(records.data, unpacked + largest + _SPARE_BYTES)


def _install(
    client: KaggleClient,
    file: DownloadFile,
    records: DownloadRecords,
    size: int,
    replaced: Collection[Path],
    suffixes: tuple[str, ...],
) -> None:
    """Download a file unless the user has put it there, unpack it and record it. Repeat a damaged download once."""
    target = records.data / file.to
    provided = records.data / file.name
    if provided.is_file() and provided != target:
        try:
            records.write(file, _unpack(provided, target, size, replaced, suffixes))
        except BrokenArchiveError as error:
            raise UserError(provided, f"is damaged ({error})", "delete it and run the same command again") from None
        return
    for last_attempt in (False, True):
        path = _download(client, file, records.incoming(file), size)
        try:
            unpacked = _unpack(path, target, size, replaced, suffixes)
            break
        except BrokenArchiveError as error:
            arrived = path.stat().st_size
            shutil.rmtree(path.parent)
            if last_attempt:
                what = f"was downloaded twice and is damaged: {arrived:,} of {size:,} bytes ({error})"
                raise UserError(file.name, what, "run the same command again later") from None
            log.warning("%s: is damaged (%s); downloading it again", file.name, error)
    records.write(file, unpacked)
    shutil.rmtree(path.parent)


def _download(client: KaggleClient, file: DownloadFile, to: Path, size: int) -> Path:
    """Download a file unless an earlier call has downloaded it completely."""
    arrived = to.stat().st_size if to.is_file() else 0
    if size and arrived == size:
        return to
    # `initial` keeps the bytes of earlier calls out of the rate.
    with tqdm(total=size or None, initial=arrived, desc=file.name, unit="B", unit_scale=True, delay=1) as bar:

        def show(total: int) -> None:
            bar.update(total - bar.n)

        path = client.download(file.name, to.parent, size, show)
    if is_web_page(path):
        shutil.rmtree(to.parent)
        # Kaggle does this if the rules are not accepted.
        what = f"Kaggle sent a web page instead of {file.name}"
        raise KaggleError("rules", what, kaggle_error("rules").fix, client.slug)
    return path


def _data_suffixes(competition: Competition) -> tuple[str, ...]:
    """Return what the names of the competition's images, masks and CSV files end with, in lower case."""
    images, masks = competition.images, competition.masks
    places = (images.train, images.val, images.test, masks.train, masks.val)
    patterns = [Path(place).suffix for place in places if place and is_pattern(place)]
    suffixes = {*images.suffixes, *masks.suffixes, *patterns, *CSV_SUFFIXES} - {""}
    return tuple(sorted(suffix.lower() for suffix in suffixes if not is_pattern(suffix)))


def _unpack(path: Path, target: Path, size: int, replaced: Collection[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Unpack an archive to `target`, or copy a single file; return the files that exist now.

    Raises:
        UserError: the archive is suspicious, or holds no file with one of the suffixes.
        BrokenArchiveError: the file is damaged.
    """
    # Kaggle compresses some single files; then `size` is that of the content.
    if not path.name.endswith(".zip"):
        if size and path.stat().st_size != size:
            raise BrokenArchiveError("wrong length")
        with atomic_write(target) as temporary:
            shutil.copyfile(path, temporary)
        return [target]
    remove_temporary_files({target if not target.suffix else target.parent})
    members = list_members(path, target)
    if not any(member.target.name.lower().endswith(suffixes) for member in members):
        what = f"holds no file that ends in {', '.join(suffixes)}, but {members[0].entry.filename}"
        raise UserError(path, what, "delete it and download it again, or correct download.files")
    members = [member for member in members if member.target not in replaced]
    verify_archive(path, UNPACK_WORKERS)
    unpack_members(path, members, UNPACK_WORKERS)
    return [member.target for member in members]
