"""Run the official Kaggle client as a child process, with a time limit, and watch the download that it writes."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import UserError
from pipeline.kaggle.credentials import redact_credentials, warn_if_readable
from pipeline.kaggle.errors import kaggle_error

_PROGRAM = Path(__file__).with_name("client_process.py")
_POLL_S = 0.3
_MIN_FREE_BYTES = 32 << 20
"""Stop a download when the disk has less space. The client would retry for a minute on a full disk."""
_PARTIAL_SUFFIX = ".kaggle-partial"
"""Suffix of the file in which the client describes an unfinished download."""


@dataclass(frozen=True)
class ClientOutput:
    """The result of one call of the client."""

    exit_code: int
    """0 also for some failures: for an upload that failed, and after SIGINT."""
    stdout: str
    stderr: str
    """Both without credentials."""

    @property
    def text(self) -> str:
        """Everything that the client printed, stderr first."""
        return f"{self.stderr}\n{self.stdout}"


class DownloadMonitor:
    """Report the progress of a download, and stop one that stalls or fills the disk.

    Args:
        folder: the folder of this download only.
        stall_timeout_s: raise if the download has not grown for this time. The client itself would wait forever.
        on_progress: called with the bytes that have arrived, those of earlier calls included.
    """

    def __init__(self, folder: Path, stall_timeout_s: float, on_progress: Callable[[int], None]) -> None:
        self.folder = folder
        self.stall_timeout_s = stall_timeout_s
        self.on_progress = on_progress
        self._size = -1
        self._changed_at = time.monotonic()

    def report(self) -> None:
        """Call `on_progress` if the download has grown."""
        size = downloaded_bytes(self.folder)
        if size != self._size:
            self._size, self._changed_at = size, time.monotonic()
            self.on_progress(size)

    def check(self) -> None:
        """Report the progress, then check the disk and the time since the last byte.

        Raises:
            UserError: the disk is full.
            KaggleError: nothing has arrived for `stall_timeout_s`.
        """
        self.report()
        if shutil.disk_usage(self.folder).free < _MIN_FREE_BYTES:
            raise UserError(self.folder, "the disk is full", "free some space and run the same command again")
        if time.monotonic() - self._changed_at > self.stall_timeout_s:
            raise kaggle_error("stalled", seconds=self.stall_timeout_s)


def run_client(arguments: Sequence[str], timeout_s: float, monitor: DownloadMonitor | None = None) -> ClientOutput:
    """Run ``kaggle <arguments>`` and wait until it ends.

    Args:
        arguments: the client's command line.
        timeout_s: stop the client after this time.
        monitor: checked while the client runs, for a download.

    Raises:
        KaggleError: the client was stopped because it took too long or its download stalled.
        UserError: the disk is full.
    """
    warn_if_readable()
    # With these variables the client prints every request with its authorization.
    environment = {name: value for name, value in os.environ.items() if name not in ("VERBOSE", "VERBOSE_OUTPUT")}
    command = [sys.executable, "-P", str(_PROGRAM), str(os.getpid()), *arguments]
    # Temporary files instead of pipes: a full pipe would block the client until somebody reads it.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment)
        try:
            _wait_for(child, timeout_s, monitor)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        if monitor is not None:
            monitor.report()
        return ClientOutput(child.returncode, _read_redacted(stdout), _read_redacted(stderr))


def downloaded_bytes(folder: Path) -> int:
    """Return the bytes in the folder of one download, without the client's own file."""
    return sum(path.stat().st_size for path in downloaded_files(folder))


def downloaded_files(folder: Path) -> list[Path]:
    """List the files in the folder of one download, without the client's own file."""
    return [path for path in folder.iterdir() if not path.name.endswith(_PARTIAL_SUFFIX)]


def _wait_for(child: "subprocess.Popen[bytes]", timeout_s: float, monitor: DownloadMonitor | None) -> None:
    """Wait until the child ends, and check the monitor and the time limit in between."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            child.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            if monitor is not None:
                monitor.check()
            if time.monotonic() > deadline:
                raise kaggle_error("time", seconds=timeout_s) from None
        else:
            return


def _read_redacted(file: IO[bytes]) -> str:
    file.seek(0)
    return redact_credentials(file.read().decode("utf-8", "replace"))
