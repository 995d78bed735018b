"""A zip archive proved whole, then unpacked in parallel, skipping what is there.

What an archive says of itself is not believed: entries that would leave the folder, links, encrypted entries and sizes
out of all proportion are refused before the first byte is written.
"""

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.files import explain_os_error, require_space

_LARGEST_RATIO = 100
"""Unpacked to packed bytes of a whole archive. Pictures have 1, RLE text 3, a bomb 1,000 and more."""
_SMALL = 64 << 20
"""Bytes that every archive may unpack to, whatever its ratio."""
_BATCH = 64
"""Entries a thread takes at a time: a hundred thousand tasks of their own would cost more than their work."""
_CHUNK = 1 << 20
_JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db")

Item = TypeVar("Item")


class BrokenArchiveError(Exception):
    """The file is not a whole zip archive; fetching it again may help."""


class ArchiveMember(NamedTuple):
    """One entry and the file it becomes."""

    entry: zipfile.ZipInfo
    target: Path

    def is_there(self) -> bool:
        """Whether the file is in place: it gets its name only when it is whole, so its size is enough."""
        try:
            return self.target.stat().st_size == self.entry.file_size
        except (FileNotFoundError, NotADirectoryError):
            return False


def is_web_page(path: Path) -> bool:
    """Whether a file is a web page: what a server sends in place of data to those who may not have it."""
    with path.open("rb") as file:
        start = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def verify_archive(path: Path, workers: int) -> None:
    """Read every entry of an archive to its end and compare its checksum.

    Raises:
        BrokenArchiveError: it is cut off, damaged, or no zip at all.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir() and not entry.flag_bits & 1]

            def test(entry: zipfile.ZipInfo) -> int:
                with archive.open(entry) as packed:
                    while packed.read(_CHUNK):
                        pass
                return entry.file_size

            total = sum(entry.file_size for entry in entries)
            _in_parallel(test, entries, total, workers, f"prove {path.name}")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise BrokenArchiveError(f"{type(error).__name__}: {error}") from None


def list_members(path: Path, to: Path) -> list[ArchiveMember]:
    """What an archive will write.

    Args:
        path: the archive.
        to: a folder, in which every entry goes with or without a leading folder of the same name; or, if it has a
            suffix, the one file that the archive holds.

    Raises:
        UserError: an entry would leave the folder, is a link or encrypted, comes twice, or the sizes are absurd.
        BrokenArchiveError: it is no zip at all.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_junk(entry.filename)]
    except zipfile.BadZipFile as error:
        raise BrokenArchiveError(str(error)) from None
    total = sum(entry.file_size for entry in entries)
    if total > max(_LARGEST_RATIO * path.stat().st_size, _SMALL):
        raise UserError(
            path,
            f"claims to unpack to {total / 1000000000.0:.1f} GB, more than {_LARGEST_RATIO} times its own size",
            "it was not opened, delete it if you do not trust it",
        )
    if to.suffix:
        if len(entries) != 1:
            raise UserError(path, f"holds {len(entries)} files instead of {to.name} alone", "unpack it by hand")
        _refuse_odd(path, entries[0])
        return [ArchiveMember(entries[0], to)]
    found: dict[Path, ArchiveMember] = {}
    for entry in entries:
        _refuse_odd(path, entry)
        parts = PurePosixPath(entry.filename).parts
        target = to.joinpath(*(parts[1:] if len(parts) > 1 and parts[0] == to.name else parts))
        if target in found:
            raise UserError(path, f"holds {entry.filename} twice", "fetch it again or unpack it by hand")
        found[target] = ArchiveMember(entry, target)
    return list(found.values())


def unpack_members(path: Path, wanted: Sequence[ArchiveMember], workers: int) -> None:
    """Write the members that are not there yet; each is whole or absent, and all are on the disk at the end.

    Raises:
        UserError: the disk is full or may not be written to.
    """
    missing = [member for member in wanted if not member.is_there()]
    if not missing:
        return
    for folder in {member.target.parent for member in missing}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(folder, "is in the way of a folder of this name", "move it elsewhere") from None
    total = sum(member.entry.file_size for member in missing)
    require_space(missing[0].target.parent, total)
    with zipfile.ZipFile(path) as archive:

        def write(member: ArchiveMember) -> int:
            temporary = member.target.with_name(f".{os.getpid()}.{member.target.name}")
            try:
                with archive.open(member.entry) as packed, temporary.open("wb") as file:
                    while chunk := packed.read(_CHUNK):
                        file.write(chunk)
                temporary.replace(member.target)
            except OSError as error:
                raise explain_os_error(error, member.target) from error
            finally:
                temporary.unlink(missing_ok=True)
            return member.entry.file_size

        _in_parallel(write, missing, total, workers, f"unpack {path.name}")
    # Once for all files: a flush for each would take minutes.
    os.sync()


def remove_temporary_files(folders: Collection[Path]) -> None:
    """Remove the temporary files that a killed `unpack` left in these folders."""
    for folder in folders:
        for path in folder.glob(".[0-9]*.*"):
            if path.name.split(".")[1].isdigit():
                path.unlink(missing_ok=True)


def _refuse_odd(path: Path, entry: zipfile.ZipInfo) -> None:
    # `orig_filename`, because zipfile mends some names silently.
    name = entry.orig_filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith("/") or "\\" in name or ":" in name or "\0" in name or ".." in name.split("/"):
        raise UserError(path, f"its entry {name!r} would be written outside the folder", "do not trust this archive")
    if kind not in (0, stat.S_IFREG):
        raise UserError(path, f"its entry {name!r} is a link or a device, not a file", "do not trust this archive")
    if entry.flag_bits & 1:
        raise UserError(path, f"its entry {name!r} is encrypted", "unpack it by hand")


def _is_junk(name: str) -> bool:
    """Whether an operating system added this entry for itself."""
    parts = name.split("/")
    return any(part in _JUNK or part.startswith("._") for part in parts)


def _in_parallel(work: Callable[[Item], int], items: Sequence[Item], total: int, workers: int, what: str) -> None:
    """Call `work`, which returns bytes done, on all items in threads: inflating is done outside Python's lock."""
    batches = [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
    with tqdm(total=total, desc=what, unit="B", unit_scale=True, delay=1) as bar:

        def batch(some: Iterable[Item]) -> None:
            for item in some:
                bar.update(work(item))

        pool = ThreadPoolExecutor(workers)
        try:
            for future in [pool.submit(batch, some) for some in batches]:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
