"""A training that is stopped or loses a process saves what it has, leaves no process behind and shows no traceback."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import tomli_w

from scripts import common, train
from tests.helpers import TINY


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Return whether a condition becomes true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def children(process: int) -> list[int]:
    """List the child processes of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == process and state != "Z":
                found.append(int(path.parent.name))
    return found


def is_running(process: int) -> bool:
    """Return whether a process runs; a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def run_training(folder: Path, arguments: list[str]) -> None:
    """Run the script as the leader of a process group, with its messages in a file."""
    os.setsid()
    os.chdir(folder)
    with Path("messages").open("w") as messages:
        os.dup2(messages.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = ["train", *arguments]
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL)
    logging.getLogger().handlers.clear()
    common.run(train.main)


@pytest.fixture
def training(tmp_path, data, table, recipe) -> Iterator[BaseProcess]:
    """A long training in a process group of its own, of which some epochs are done."""
    for folder, values in (("competitions", TINY), ("recipes", recipe.model_dump(mode="json", exclude_none=True))):
        (tmp_path / folder).mkdir()
        text = tomli_w.dumps({key: value for key, value in values.items() if key != "name"})
        (tmp_path / folder / "tiny.toml").write_text(text)
    arguments = ["--competition", "tiny", "--recipe", "tiny", "--data", str(data), "--folds-csv", str(table)]
    arguments += ["--set", "train.epochs=100000 train.validate_every=2"]
    # Forked: torch is imported already, which takes seconds.
    process = multiprocessing.get_context("fork").Process(target=run_training, args=(tmp_path, arguments))
    process.start()
    metrics = tmp_path / "runs" / "tiny" / "fold0" / "metrics.jsonl"
    try:
        # Both loaders have started their workers.
        started = wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2)
        assert started, (tmp_path / "messages").read_text()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_to_the_whole_group_saves_and_ends_every_process(training, tmp_path, number, code):
    """Service managers, batch systems and terminals signal the workers of the data loader too."""
    workers = children(training.pid)
    assert workers
    checkpoint = tmp_path / "runs" / "tiny" / "fold0" / "checkpoint.pt"
    checkpoint.unlink()
    os.killpg(training.pid, number)
    training.join(60)
    said = (tmp_path / "messages").read_text()
    assert training.exitcode == code, said
    assert checkpoint.exists()
    assert "the same command resumes" in said
    assert "Traceback" not in said
    assert not any(is_running(worker) for worker in workers)


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_training(training):
    workers = children(training.pid)
    assert workers
    training.kill()
    training.join()
    assert wait_for(lambda: not any(is_running(worker) for worker in workers), 20)


@pytest.mark.slow
def test_killed_worker_is_a_sentence(training, tmp_path):
    """The kernel kills the largest process when memory runs out."""
    os.kill(children(training.pid)[0], signal.SIGKILL)
    training.join(60)
    said = (tmp_path / "messages").read_text()
    assert training.exitcode == 1, said
    assert "Traceback" not in said
    assert "a worker of the data loader was killed, probably because memory ran out; " in said
    assert (tmp_path / "runs" / "tiny" / "fold0" / "checkpoint.pt").exists()
