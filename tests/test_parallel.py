"""Items are mapped in order, with a bounded number ahead, and the processes end with the caller."""

import os
import signal
import subprocess
import sys
import time
from itertools import count, islice
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.host import available_cores
from pipeline.parallel import map_parallel

ROOT = Path(__file__).resolve().parents[1]


def square(number: int) -> int:
    if number < 0:
        raise UserError("x", f"{number} is negative", "square it yourself")
    return number**2


def process_of(_: int) -> int:
    return os.getpid()


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("serial_items", [0, 5, 1000])
def test_results_come_in_order(serial_items):
    assert list(map_parallel(square, range(300), serial_items)) == [(number, number**2) for number in range(300)]


def test_a_killed_worker_is_a_sentence():
    with pytest.raises(UserError, match="a worker process was killed"):
        list(map_parallel(die, range(100), 0))


def test_few_items_start_no_process():
    assert {process for _, process in map_parallel(process_of, range(100), 100)} == {os.getpid()}
    assert os.getpid() not in {process for _, process in map_parallel(process_of, range(100), 0)}


def test_one_core_starts_no_process(monkeypatch):
    monkeypatch.setattr("pipeline.parallel.available_cores", lambda: 1)
    assert {process for _, process in map_parallel(process_of, range(100), 0)} == {os.getpid()}


def test_few_large_items_are_read_ahead():
    taken = []
    numbers = (taken.append(number) or number for number in range(500))
    stream = map_parallel(square, numbers, 0, size=lambda _: 1 << 30)
    assert next(stream) == (0, 0)
    assert len(taken) <= 2 * min(available_cores(), 16) + 2
    assert list(stream) == [(number, number**2) for number in range(1, 500)]


def test_an_endless_stream_is_read_a_few_chunks_ahead():
    taken = []
    stream = map_parallel(square, (taken.append(number) or number for number in count()), 0)
    assert list(islice(stream, 3)) == [(0, 0), (1, 1), (2, 4)]
    stream.close()
    assert len(taken) < 1000


def test_the_error_of_an_item_is_raised_after_the_results_before_its_chunk():
    stream = map_parallel(square, [*range(100), -1], 0)
    assert [result for _, result in islice(stream, 64)] == [number**2 for number in range(64)]
    with pytest.raises(UserError, match="x: -1 is negative; square it yourself"):
        next(stream)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_processes_end_when_their_parent_is_killed(tmp_path):
    code = (
        "import time; from itertools import count; from tests.test_parallel import process_of;"
        "from pipeline.parallel import map_parallel; stream = map_parallel(process_of, count(), 0);"
        "print(next(stream)[1], flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    os.kill(worker, signal.SIGINT)  # as a terminal does to the whole group
    time.sleep(0.2)
    assert Path(f"/proc/{worker}").exists()
    parent.kill()
    parent.wait()
    for _ in range(100):
        state = Path(f"/proc/{worker}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail(f"process {worker} is still there")
