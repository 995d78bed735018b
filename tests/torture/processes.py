"""Run a script in a process group of its own, as a shell or a service manager does."""

import contextlib
import logging
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120.0


class Ending(NamedTuple):
    """How a process ended."""

    code: int
    """The exit code; minus the number of the signal that killed it."""
    text: str
    """What it wrote to stdout and stderr."""
    seconds: float


class Command:
    """A running ``python -m <module> <arguments>``, the leader of a process group.

    Args:
        arguments: the module and its arguments.
        folder: the working folder.
        environment: variables besides those of this process.
        fork: fork this process, which has imported torch, instead of starting another Python. Saves seconds.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], *, fork: bool = False
    ) -> None:
        self._started = time.monotonic()
        # A pipe, because a file would be another thing that a full disk or a limit on files disturbs.
        self._output, write_end = os.pipe()
        os.set_blocking(self._output, False)
        self._wait: Callable[[float], int | None]
        if fork:
            forked = multiprocessing.get_context("fork").Process(
                target=_run_module, args=(arguments, folder, environment, write_end)
            )
            forked.start()
            assert forked.pid
            self.id, self._wait = forked.pid, lambda seconds: forked.join(seconds) or forked.exitcode
            # It becomes a leader only when it runs; a signal must not come before.
            while os.getpgid(self.id) != self.id and forked.is_alive():
                time.sleep(0.001)
        else:
            started = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
            self.id, self._wait = started.pid, lambda seconds: _wait_for(started, seconds)
        os.close(write_end)

    def wait(self, timeout_s: float = TIMEOUT_S) -> Ending | None:
        """Wait for the leader to end; None if it still runs after this time."""
        code = self._wait(timeout_s)
        if code is None:
            return None
        return Ending(code, self._read(), time.monotonic() - self._started)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the leader or to the whole group, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.id, number)

    def members(self) -> list[int]:
        """List the running processes of the group."""
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/stat")
            if (fields := _read_stat(path)) and fields[0] not in "ZX" and int(fields[2]) == self.id
        ]

    def survivors(self, seconds: float) -> list[int]:
        """List the processes of the group that still run after this time."""
        end = time.monotonic() + seconds
        while (found := self.members()) and time.monotonic() < end:
            time.sleep(0.1)
        return found

    def close(self) -> None:
        """Kill what is left of the group."""
        self.signal(signal.SIGKILL, group=True)
        self._wait(TIMEOUT_S)
        os.close(self._output)

    def _read(self) -> str:
        parts = []
        # The pipe has no end as long as a process of the group holds it.
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._output, 1 << 16):
                parts.append(part)
        return b"".join(parts).decode(errors="replace")


def _wait_for(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def _read_stat(path: Path) -> list[str]:
    """Return the fields of a process from its state on: state, parent, process group."""
    with contextlib.suppress(OSError):  # it has ended
        return path.read_text().rpartition(")")[2].split()
    return []


def _run_module(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], output: int) -> None:
    """Become what ``python -m`` would be."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    logging.getLogger().handlers.clear()
    # The lock of this process is shared: a process that is killed while it holds it would stop all later ones.
    tqdm.set_lock(threading.RLock())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
