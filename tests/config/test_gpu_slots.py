"""Each of several trainings gets a GPU of its own, and waits while there is none."""

import os
import threading
import time
from pathlib import Path

import pytest

from pipeline import gpu_slots
from pipeline.gpu_slots import take_gpu


@pytest.fixture
def slots(tmp_path, monkeypatch):
    """Set the number of slots and of GPUs, in a folder of its own."""

    def set_slots(slots: str, gpus: int, visible: str = "") -> None:
        monkeypatch.setattr(gpu_slots, "count_gpus", lambda: gpus)
        monkeypatch.setattr(gpu_slots, "available_cores", lambda: 8)
        monkeypatch.chdir(tmp_path)
        for name, value in (("GPU_SLOTS", slots), ("CUDA_VISIBLE_DEVICES", visible), ("OMP_NUM_THREADS", "9")):
            monkeypatch.setenv(name, value)

    return set_slots


def test_without_slots_nothing_changes(slots):
    slots("", 4, "1")
    with take_gpu():
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert not Path(".make").exists()


def test_without_gpus_the_cores_are_shared(slots):
    slots("3", 0)
    with take_gpu():
        assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(("visible", "devices"), [("", ["0", "1"]), ("5,3,7", ["5", "3"])])
def test_trainings_have_different_gpus_and_wait_for_a_free_one(slots, visible, devices):
    slots("2", 3, visible)
    seen, released = [], threading.Event()

    def third() -> None:
        with take_gpu(poll=0.01):
            seen.append((os.environ["CUDA_VISIBLE_DEVICES"], released.is_set()))

    with take_gpu():
        assert os.environ["CUDA_VISIBLE_DEVICES"] == devices[0]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible  # that of another process
        with take_gpu():
            assert os.environ["CUDA_VISIBLE_DEVICES"] == devices[1]
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
            waiting = threading.Thread(target=third)
            waiting.start()
            time.sleep(0.1)
            assert not seen
            released.set()
        waiting.join(10)
    assert seen == [(devices[1], True)]
