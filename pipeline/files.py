"""Files that are complete or absent, locks, and operating-system errors as sentences."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` and rename it to `path` when the block ends without an exception.

    The temporary file is flushed to disk before the rename, so a power cut leaves the old file or the new one. Its
    name ends like `path`, for libraries that choose a format by the suffix.

    Raises:
        UserError: the disk is full, or the folder is not writable.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        with suppress(OSError):  # of an error in the block, only that one is of interest
            temporary.unlink()


def _remove_leftovers(path: Path) -> None:
    """Delete the temporary files of processes that were killed while they wrote `path`."""
    for leftover in path.parent.glob(f".*.{glob.escape(path.name)}"):
        process = leftover.name.split(".")[1]
        if process.isdigit() and not _is_running(int(process)):
            leftover.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def fingerprint_file(path: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextmanager
def lock(path: Path, message: str = "", *, keep: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on `path` until the block ends or the process dies.

    Args:
        path: the lock file; created if missing.
        message: what another process is doing while it holds the lock. If empty, wait for the lock.
        keep: whether the lock file stays in place when the block ends.

    Raises:
        UserError: another process holds the lock and `message` is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if message else 0))
            except BlockingIOError:
                raise UserError(path.parent, message, "wait until it has finished, or stop it") from None
            # The previous holder may have deleted the file after it was opened here; then it locks nobody out.
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                continue
            try:
                yield
            finally:
                if not keep:
                    path.unlink(missing_ok=True)
            return


def explain_os_error(error: OSError, path: Path) -> Exception:
    """Return a UserError about `path` for a full disk, a refused write or a file in the way; others unchanged."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(path, "no space is left on this disk", "free some and run the same command again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        fix = "change its permissions or choose another folder"
        return UserError(path, f"cannot be written ({error.strerror})", fix)
    if error.errno == errno.ENOTDIR:
        return UserError(path, "lies in a file instead of a folder", "choose another folder")
    return error


def require_space(folder: Path, needed: int) -> None:
    """Raise a UserError if the disk of `folder` has fewer than `needed` bytes free. The folder need not exist."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        what = f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise UserError(folder, what, "free some space or use another disk")
