"""The client as a child process: time limit, stalls, full disks, orphans."""

import time
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.kaggle.errors import KaggleError
from pipeline.kaggle.process import DownloadMonitor, downloaded_bytes, run_client
from tests.kaggle.helpers import SLUG, start_python
from tests.standin.server import StandinServer


@pytest.mark.slow
def test_a_client_that_takes_too_long_is_stopped(standin: StandinServer) -> None:
    standin.faults.add("ListDataFiles", "slow", amount=30)
    started = time.monotonic()
    with pytest.raises(KaggleError, match="did not finish within 3 s and was stopped"):
        run_client(["competitions", "files", SLUG], timeout_s=3)
    assert time.monotonic() - started < 10


@pytest.mark.slow
def test_a_client_ends_when_its_parent_is_killed(standin: StandinServer) -> None:
    standin.faults.add("ListDataFiles", "slow", amount=20)
    code = "from pipeline.kaggle.client import KaggleClient; KaggleClient('tiny-cars').list_files()"
    parent = start_python(code)
    while "ListDataFiles" not in standin.calls:
        assert parent.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        parent.kill()
        pytest.skip("this system does not list the children of a process")
    child = int(children.read_text().split()[0])
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(child)


def is_running(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_progress_is_reported_when_a_download_grows(tmp_path: Path) -> None:
    reported: list[int] = []
    monitor = DownloadMonitor(tmp_path, 60, reported.append)
    monitor.report()
    monitor.report()
    (tmp_path / "train.zip").write_bytes(b"abc")
    (tmp_path / "train.zip.kaggle-partial").write_bytes(b"notes of the client")
    monitor.check()
    monitor.check()
    assert reported == [0, 3]
    assert downloaded_bytes(tmp_path) == 3


def test_a_download_that_does_not_grow_is_stopped(tmp_path: Path) -> None:
    monitor = DownloadMonitor(tmp_path, 0.05, lambda _: None)
    monitor.check()
    time.sleep(0.1)
    (tmp_path / "train.zip").write_bytes(b"abc")
    monitor.check()
    time.sleep(0.1)
    with pytest.raises(KaggleError, match="Kaggle sent no data for 0 s") as caught:
        monitor.check()
    assert caught.value.cause == "stalled"


@pytest.mark.parametrize(("free", "full"), [(32 << 20, False), ((32 << 20) - 1, True)])
def test_a_download_stops_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, full: bool
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(1e9, 0, free))
    monitor = DownloadMonitor(tmp_path, 60, lambda _: None)
    if full:
        with pytest.raises(UserError, match="the disk is full; free some space"):
            monitor.check()
    else:
        monitor.check()
