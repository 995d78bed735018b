"""Data and results in an object store such as ``s3://bucket/prefix``, through fsspec.

The stages work on local files. Data are mirrored to a local folder before a stage, and results are restored before it
and published after it. Credentials come from where the store's own tools find them (environment variables, files in the
home folder, the role of the machine), and are never part of a URL.
"""

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from pipeline.errors import UserError
from pipeline.files import atomic_write, lock, write_text
from pipeline.paths import DATA_MIRRORS, FOLDS, PSEUDO, RUNS, STORE_STATE, SUBMISSIONS

log = logging.getLogger(__name__)
Result = TypeVar("Result")

ATTEMPTS = 6
FIRST_PAUSE = 0.5
"""Seconds before the second attempt; each further pause is twice as long."""
THREADS = 16
PUBLISH_EVERY = 300.0
"""Seconds between uploads while a stage runs: the work that the loss of a machine may cost."""
_MANIFEST = ".manifest.json"
# Repeated here, with a pause that grows, and not by two libraries below.
_S3_CONFIG = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 1}}


class _Stored(NamedTuple):
    """An object of a store."""

    key: str
    size: int
    version: str
    """Changes when the object does."""


def is_url(text: str) -> bool:
    """Return whether a text names a place in a store instead of a folder."""
    return "://" in text


def mirror_data(url: str) -> Path:
    """Download what is missing or has changed below a URL; return the local folder.

    A file has its name only when it is complete. Local files that are not in the store stay.

    Raises:
        UserError: the store or the URL cannot be read, an object would lie outside of the folder, or the disk is full.
    """
    store = _Store(url)
    name = f"{PurePosixPath(urlsplit(url).path).name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    folder = DATA_MIRRORS / name
    with lock(folder.with_suffix(".lock")):  # several processes of one stage need the same data
        _mirror(store, folder)
    return folder


def _mirror(store: "_Store", folder: Path) -> None:
    url, objects = store.url, store.list()
    manifest = _read_manifest(folder / _MANIFEST)
    if not objects:
        raise UserError(url, "holds no files", "check the URL and the rights to list it")
    wanted = {path: one for path, one in objects.items() if not _is_current(folder / path, one, manifest.get(path))}
    if wanted:
        size = sum(one.size for one in wanted.values()) / 1e6
        log.info("%s: downloads %d of %d files, %.0f MB, to %s", url, len(wanted), len(objects), size, folder)
    try:
        for path in store.download(wanted, folder):
            manifest[path] = [objects[path].size, objects[path].version]
    finally:
        write_text(folder / _MANIFEST, json.dumps(manifest))


@contextmanager
def stored_results() -> Iterator[None]:
    """Restore results from ``STORE`` before the block, and publish them during and after it.

    Results are runs, folds, submissions and pseudo-labels. Does nothing without this environment variable, and in all
    processes of a training but the main one. A file that has changed on both sides keeps its local version. A file that
    was deleted or renamed here is not restored, unless its whole folder is gone; nothing is deleted in the store.

    Raises:
        UserError: see `mirror_data`.
    """
    url = os.environ.get("STORE", "")
    if not url or int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    results = _Results(_Store(url))
    results.restore()
    ended = threading.Event()

    def publish_now_and_then() -> None:
        while not ended.wait(PUBLISH_EVERY):
            try:
                results.publish(final=False)
            except UserError as error:
                log.warning("%s; tried again later", error)

    thread = threading.Thread(target=publish_now_and_then, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        results.publish(final=True)


class _Results:
    """Runs, folds, submissions and pseudo-labels, here and in a store."""

    def __init__(self, store: "_Store") -> None:
        self.store = store
        self.state = _read_manifest(STORE_STATE).get(store.url, {})
        """Path -> [size and time of the local file, version of the object] when both were last equal."""

    def restore(self) -> None:
        """Download what has changed in the store and not here."""
        objects = self.store.list()
        wanted = {}
        for path, one in objects.items():
            local, known = _stamp(Path(path)), self.state.get(path)
            if known is not None and known[1] == one.version:
                # Of a finished training, the checkpoint is deleted; of one that was set aside, all files are renamed.
                if local is None and not Path(path).parent.exists():
                    wanted[path] = one
            elif local is None or (known is not None and known[0] == local):
                wanted[path] = one
            elif known is None and _is_copy(Path(path), one):
                self.state[path] = [local, one.version]
            else:
                log.warning("%s: differs from the file in %s; the local file stays", path, self.store.url)
        # If this is interrupted, what is missing was not deleted here.
        self.state = {path: known for path, known in self.state.items() if path not in wanted}
        self._save()
        for path in self.store.download(wanted, Path()):
            self.state[path] = [_stamp(Path(path)), objects[path].version]
        self._save()

    def publish(self, *, final: bool) -> None:
        """Upload what has changed here.

        Rows of a prediction are uploaded while they are written: an incomplete last line is dropped when they are read.
        The logs of TensorBoard are uploaded at the end only.
        """
        folders = (RUNS, FOLDS, SUBMISSIONS, PSEUDO)
        found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        changed = {}
        for path in found:
            is_hidden = path.name.startswith(".") and path.name != ".options" and path.suffix != ".rows"
            if is_hidden or (path.name.startswith("events.") and not final):
                continue
            if (stamp := _stamp(path)) != self.state.get(path.as_posix(), [None])[0]:
                changed[path.as_posix()] = stamp
        for name, version in self.store.upload(list(changed)):
            self.state[name] = [changed[name], version]
        self._save()

    def _save(self) -> None:
        write_text(STORE_STATE, json.dumps({**_read_manifest(STORE_STATE), self.store.url: self.state}))


class _Store:
    """Objects below a URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            fix = "leave them out; the tools of the store say where credentials belong"
            raise UserError("the URL of the store", "holds a user name or a password", fix)
        self.url = url.rstrip("/")
        try:
            import fsspec

            options = {"config_kwargs": _S3_CONFIG} if parts.scheme == "s3" else {}
            self.files, self.root = fsspec.core.url_to_fs(self.url, use_listings_cache=False, **options)
        except ImportError as error:
            fix = "install it: .venv/bin/python -m pip install -r requirements-storage.txt"
            raise UserError(url, f"needs a package that is not installed ({error.name or error})", fix) from None
        except ValueError as error:
            raise UserError(url, f"is of an unknown kind ({error})", "use for example s3://bucket/folder") from None

    def list(self) -> dict[str, _Stored]:
        """Return path below the URL -> object."""
        try:
            found: Mapping[str, Mapping[str, Any]] = self._retry(lambda: self.files.find(self.root, detail=True))
        except UserError:
            if not self._retry(lambda: self.files.exists(self.root.split("/")[0])):
                raise
            return {}
        objects = {}
        for key, info in found.items():
            path = PurePosixPath(key.removeprefix(self.root).lstrip("/"))
            if ".." in path.parts or path.is_absolute() or "\\" in str(path):
                raise UserError(self.url, f"has an object that would lie outside of the folder ({path})", "rename it")
            objects[str(path)] = _Stored(key, int(info["size"] or 0), _version(info))
        return objects

    def download(self, wanted: Mapping[str, _Stored], folder: Path) -> Iterator[str]:
        """Download objects in threads; yield the path of each as soon as it is complete."""

        def fetch(item: tuple[str, _Stored]) -> str:
            path, one = item
            with atomic_write(folder / path) as temporary:
                self._retry(lambda: self._fetch_one(one, temporary))
            return path

        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(fetch, wanted.items())

    def _fetch_one(self, one: _Stored, temporary: Path) -> None:
        self.files.get_file(one.key, str(temporary))
        if temporary.stat().st_size != one.size:
            raise OSError(f"received {temporary.stat().st_size} of {one.size} bytes")

    def upload(self, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Upload local files in threads, each as one object that is complete or absent; yield (path, version)."""

        def send(path: str) -> tuple[str, str]:
            key = f"{self.root}/{path}"
            self._retry(lambda: self.files.put_file(path, key))
            return path, _version(self._retry(lambda: self.files.info(key)))

        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(send, paths)

    def _retry(self, call: Callable[[], Result]) -> Result:
        """Call until it succeeds; name the place, and never the credentials, when it does not."""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))
            try:
                return call()
            except FileNotFoundError:
                raise UserError(self.url, "does not exist", "check the name of the bucket") from None
            except PermissionError:
                raise UserError(
                    self.url, "may not be used with these credentials", "check them, and its rights"
                ) from None
            except Exception as error:  # every kind of store has errors of its own
                if isinstance(error, OSError) and error.errno in (28, 122):  # no space left; it will not come back
                    raise
                what = f"does not answer ({type(error).__name__})"
                log.debug("%s: attempt %d failed: %s", self.url, attempt + 1, type(error).__name__)
        raise UserError(self.url, what, "check the network and the address, and run the same command again")


def _version(info: Mapping[str, Any]) -> str:
    """Return what changes when an object does: its ETag, or its time."""
    return str(info.get("ETag") or info.get("etag") or info.get("LastModified") or info.get("mtime") or info["size"])


def _stamp(path: Path) -> list[int] | None:
    """Return [size, time of the last change] of a file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _is_copy(path: Path, one: _Stored) -> bool:
    """Return whether a file has the content of an object, as far as its ETag tells: the MD5 of a small object."""
    if path.stat().st_size != one.size or len(one.version.strip('"')) != 32:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == one.version.strip('"')


def _is_current(path: Path, one: _Stored, known: object) -> bool:
    return known == [one.size, one.version] and path.exists() and path.stat().st_size == one.size


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read
