"""Verify zip archives and unpack them in parallel, without files that are unpacked already.

Archives are not trusted: entries outside the target folder, links, encrypted entries and implausible sizes are refused
before the first byte is written.
"""

import errno
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.files import explain_os_error, require_space

_MAX_RATIO = 100
"""Highest ratio of unpacked to packed bytes of an archive. Images have 1, RLE text 3, a zip bomb 1,000 and more."""
_ALWAYS_ALLOWED = 64 << 20
"""Bytes that any archive may unpack to, whatever its ratio."""
_BATCH_SIZE = 64
"""Entries per task of the thread pool: one task per entry would cost more than the work in it."""
_CHUNK = 1 << 20
_MAX_NAME_BYTES = 255
"""Longest name of a file or folder on common file systems."""
_TEMPORARY_BYTES = 12
"""What `_temporary` adds to a name, at most: two dots and a process number."""
_MAX_PATH_BYTES = 1024
"""Longest path of an entry."""
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How entries may be compressed. The others allocate memory as the archive says, up to 4 GB."""
_SYSTEM_FILES = ("__MACOSX", ".DS_Store", "Thumbs.db")

Item = TypeVar("Item")


class BrokenArchiveError(Exception):
    """The file is not a complete zip archive; another download may help."""


class ArchiveMember(NamedTuple):
    """An entry of an archive and the file that it is unpacked to."""

    entry: zipfile.ZipInfo
    target: Path

    def is_unpacked(self) -> bool:
        """Return whether the file exists with its size. Files are written atomically, so the size is enough."""
        try:
            return self.target.stat().st_size == self.entry.file_size
        except (FileNotFoundError, NotADirectoryError):
            return False


def is_web_page(path: Path) -> bool:
    """Return whether a file is HTML or XML: servers send that instead of data if access is denied."""
    with path.open("rb") as file:
        start = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def verify_archive(path: Path, workers: int) -> None:
    """Read every entry of an archive and compare its checksum.

    Args:
        path: the archive.
        workers: number of threads.

    Raises:
        BrokenArchiveError: the archive is truncated, damaged, or not a zip file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not _is_folder(entry) and not entry.flag_bits & 1]

            def verify(entry: zipfile.ZipInfo) -> int:
                size = 0
                with archive.open(entry) as packed:
                    while chunk := packed.read(_CHUNK):
                        size += len(chunk)
                # zipfile does not notice an entry that ends early.
                if size != entry.file_size:
                    raise zipfile.BadZipFile(f"{entry.filename} has {size} bytes instead of {entry.file_size}")
                return size

            total = sum(entry.file_size for entry in entries)
            _run_in_threads(verify, entries, total, workers, f"verify {path.name}")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise BrokenArchiveError(f"{type(error).__name__}: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise BrokenArchiveError("an entry lies outside the file") from None


def list_members(path: Path, to: Path) -> list[ArchiveMember]:
    """List the files that an archive unpacks to.

    Args:
        path: the archive.
        to: a folder; a leading folder of the same name inside the archive is left out. With a suffix, the path of the
            single file in the archive.

    Raises:
        UserError: there are no files, an entry would be written outside the folder, is a link, encrypted, repeated or
            in the place of a folder, has a name that cannot be written, or the unpacked size is implausible.
        BrokenArchiveError: it is not a zip file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not _is_folder(entry) and not _is_system_file(entry)]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise BrokenArchiveError(str(error)) from None
    if not entries:
        raise UserError(path, "holds no files", "download it again, or unpack the right one by hand")
    total = sum(entry.file_size for entry in entries)
    if total > max(_MAX_RATIO * path.stat().st_size, _ALWAYS_ALLOWED):
        what = f"would unpack to {total / 1e9:.1f} GB, more than {_MAX_RATIO} times its size"
        raise UserError(path, what, "delete it unless you trust its source")
    for entry in entries:
        _require_plain_file(path, entry)
    if to.suffix:
        if len(entries) != 1:
            raise UserError(path, f"holds {len(entries)} files instead of {to.name} only", "unpack it by hand")
        return [ArchiveMember(entries[0], to)]
    members: dict[Path, ArchiveMember] = {}
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        target = to.joinpath(*(parts[1:] if len(parts) > 1 and parts[0] == to.name else parts))
        if target in members:
            raise UserError(path, f"holds {entry.filename} twice", "download it again or unpack it by hand")
        members[target] = ArchiveMember(entry, target)
    for folder in {folder for target in members for folder in target.parents}:
        if folder in members:
            name = members[folder].entry.filename
            raise UserError(path, f"holds {name} as a file and as a folder", "download it again or unpack it by hand")
    return list(members.values())


def unpack_members(path: Path, members: Sequence[ArchiveMember], workers: int) -> None:
    """Write the members that are not unpacked yet, each of them atomically, and flush them to disk.

    Args:
        path: the archive.
        members: the members to write.
        workers: number of threads.

    Raises:
        UserError: the disk is full or not writable, or a file has the name of a folder.
    """
    missing = [member for member in members if not member.is_unpacked()]
    if not missing:
        return
    for folder in {member.target.parent for member in missing}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(folder, "is a file where a folder is needed", "move it elsewhere") from None
    total = sum(member.entry.file_size for member in missing)
    require_space(missing[0].target.parent, total)
    with zipfile.ZipFile(path) as archive:

        def unpack(member: ArchiveMember) -> int:
            temporary = _temporary(member.target)
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

        _run_in_threads(unpack, missing, total, workers, f"unpack {path.name}")
    # One flush for all files: one per file would take minutes.
    os.sync()


def remove_temporary_files(folders: Collection[Path]) -> None:
    """Delete the temporary files that a killed `unpack_members` has left in these folders."""
    for folder in folders:
        for path in folder.glob(".[0-9]*.*"):
            if path.name.split(".")[1].isdigit():
                path.unlink(missing_ok=True)


def _require_plain_file(path: Path, entry: zipfile.ZipInfo) -> None:
    # `orig_filename`, because zipfile corrects some names silently.
    name = entry.orig_filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    distrust = "download it again, and do not use it if it stays so"
    if name.startswith("/") or "\\" in name or ":" in name or "\0" in name or ".." in name.split("/"):
        raise UserError(path, f"entry {name!r} would be written outside the folder", distrust)
    lengths = [len(os.fsencode(part)) for part in PurePosixPath(name).parts]
    # While it is unpacked, a file has a longer name.
    longest = max(*lengths, lengths[-1] + _TEMPORARY_BYTES) if lengths else 0
    if not 0 < longest <= _MAX_NAME_BYTES or len(os.fsencode(name)) > _MAX_PATH_BYTES:
        raise UserError(path, f"entry {name[:80]!r} has a name that cannot be written", distrust)
    if entry.compress_type not in _COMPRESSIONS:
        what = f"entry {name!r} is compressed by method {entry.compress_type}; only deflate is read"
        raise UserError(path, what, "unpack it by hand")
    if kind not in (0, stat.S_IFREG):
        raise UserError(path, f"entry {name!r} is a link or a device, not a file", distrust)
    if entry.flag_bits & 1:
        raise UserError(path, f"entry {name!r} is encrypted", "unpack it by hand")


def _temporary(target: Path) -> Path:
    """Return the name of a file while it is unpacked."""
    return target.with_name(f".{os.getpid()}.{target.name}")


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    """`ZipInfo.is_dir`, which fails on an empty name."""
    return entry.filename.endswith("/")


def _is_system_file(entry: zipfile.ZipInfo) -> bool:
    """Return whether the operating system of the archive's author added this entry."""
    parts = entry.filename.split("/")
    return any(part in _SYSTEM_FILES or part.startswith("._") for part in parts)


def _run_in_threads(
    work: Callable[[Item], int], items: Sequence[Item], total: int, workers: int, description: str
) -> None:
    """Call `work` on all items in threads, with a progress bar of the bytes that it returns.

    Threads are enough: zlib releases the GIL.
    """
    with tqdm(total=total, desc=description, unit="B", unit_scale=True, delay=1) as bar:

        def run_batch(start: int) -> None:
            for item in items[start : start + _BATCH_SIZE]:
                bar.update(work(item))

        pool = ThreadPoolExecutor(workers)
        try:
            for _ in pool.map(run_batch, range(0, len(items), _BATCH_SIZE)):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
