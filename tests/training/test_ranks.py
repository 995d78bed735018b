"""Several processes train a fold as one does, and survive what happens to them."""

import copy
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.data.dataset import EpochSampler
from pipeline.errors import UserError
from pipeline.models.checkpoint import load_weights
from pipeline.models.device import choose_device
from pipeline.paths import Run
from pipeline.training.parallel_model import CpuSyncBatchNorm, sync_batch_norms
from pipeline.training.ranks import ONE_PROCESS, join_ranks
from tests.helpers import SIZE, changed_recipe
from tests.training.test_second_stage import REFINE

MAIN = Path(__file__).with_name("rank_main.py")
NEW_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Without it, torchrun keeps its store over a restart, where processes find the addresses of those that died."""
CHANGES = {
    "train__batch_size": 4,
    "train__epochs": 6,
    "train__validate_every": 3,
    "train__optimizer": "sgd",
    "train__learning_rate": 0.01,
    "network": {"name": "unet", "width": 8, "depth": 2},
}


def torchrun(processes: int, *arguments: str, restarts: int = 0) -> subprocess.Popen[str]:
    command = ["--standalone", "--nproc-per-node", str(processes), "--max-restarts", str(restarts), str(MAIN)]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), **NEW_STORE}
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *command, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def start(competition, recipe, data, table, tmp_path) -> Callable[..., tuple[Run, subprocess.Popen[str]]]:
    """Start a training of fold 0 in a number of processes."""

    def call(
        name: str, processes: int, minutes: float | None = None, restarts: int = 0, **changes: object
    ) -> tuple[Run, subprocess.Popen[str]]:
        run, spec = Run(tmp_path / name), tmp_path / f"{name}.pickle"
        changed = changed_recipe(recipe, **{**CHANGES, **changes})
        spec.write_bytes(pickle.dumps((competition, changed, data, table, run.folder, minutes)))
        return run, torchrun(processes, str(spec), restarts=restarts)

    return call


@pytest.fixture
def train(start):
    """Train to the end, or until the exit code that is expected; returns the run and the output."""

    def call(name: str, processes: int, code: int = 0, **options: object) -> tuple[Run, str]:
        run, process = start(name, processes, **options)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == code, output
        return run, output

    return call


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_weights(run.weights)[0].state_dict()


def assert_close(run: Run, other: Run, tolerance: float) -> None:
    for (name, mine), theirs in zip(weights(run).items(), weights(other).values(), strict=True):
        torch.testing.assert_close(
            mine, theirs, atol=tolerance, rtol=tolerance, msg=lambda text, n=name: f"{n}: {text}"
        )


def rows(run: Run) -> list[dict]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


@pytest.mark.parametrize(("samples", "world_size"), [(13, 1), (13, 2), (23, 4), (9, 4)])
def test_ranks_share_every_batch_without_overlap_or_loss(samples, world_size):
    whole = list(EpochSampler(samples, 4, 2, seed=5, first_step=1))
    parts = [
        list(EpochSampler(samples, 4, 2, seed=5, first_step=1, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert {len(part) for part in parts} == {len(whole)}, "a rank with fewer batches would let the others wait forever"
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(sample for share in shares for sample in share) == sorted(batch)
        assert {len(share) for share in shares} == {4 // world_size}


def test_synchronized_batch_norm_of_one_process_is_batch_norm():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
    synced = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
    synced.load_state_dict(plain.state_dict())
    sync_batch_norms(synced, choose_device("float32"), ONE_PROCESS)
    assert isinstance(synced[1], CpuSyncBatchNorm)
    for images in torch.randn(3, 2, 3, 8, 8):
        for model in (plain, synced):
            model.zero_grad()
            model(images).square().sum().backward()
        for mine, theirs in zip(synced.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=1e-4)
    for mine, theirs in zip(synced.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(synced.eval()(images), plain.eval()(images))


def test_synchronized_batch_norm_keeps_the_activation_of_timm():
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    plain = nn.Sequential(BatchNormAct2d(5, act_layer=nn.ReLU))
    synced = copy.deepcopy(plain)
    sync_batch_norms(synced, choose_device("float32"), ONE_PROCESS)
    assert isinstance(synced[0], CpuSyncBatchNorm)
    assert synced.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(3, 5, 8, 8)
    torch.testing.assert_close(synced(images), plain(images))
    torch.testing.assert_close(synced.eval()(images), plain.eval()(images))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "4"), ("LOCAL_RANK", "0"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="this machine: has 2 GPUs for 4 processes; set GPUS=2"), join_ranks():
        pass


@pytest.mark.slow
class TestProcesses:
    """Trainings started by torchrun, connected by gloo on the CPU."""

    def test_loss_of_the_parts_is_that_of_the_whole_batch(self):
        process = torchrun(2)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output

    def test_two_processes_train_both_stages(self, train):
        stages = {"input__size": [32, 32], "refine": REFINE | {"size": list(SIZE)}}
        (one, _), (two, _) = (train(f"stages{processes}", processes, **stages) for processes in (1, 2))
        for mine, theirs in zip(rows(two), rows(one), strict=True):
            assert mine["loss"] == pytest.approx(theirs["loss"], abs=0.02)
        assert_close(two.coarse, one.coarse, 2e-4)

    def test_two_and_four_processes_train_as_one(self, train):
        one, _ = train("one", 1)
        for processes in (2, 4):
            several, output = train(f"several{processes}", processes)
            assert_close(several, one, 2e-4)
            for mine, theirs in zip(rows(several), rows(one), strict=True):
                assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
                assert mine.get("dice") == pytest.approx(theirs.get("dice"), abs=2e-3)
            assert output.count("epoch 3 of 6") == 1, "one process reports"
            assert len(list(several.folder.glob("events.*"))) == 1
            assert (several.samples / "epoch-003.jpg").exists()
            assert load_weights(several.weights)[2].hardware.startswith(f"{processes} × ")

    def test_killed_process_restarts_all_from_the_checkpoint(self, train, start):
        undisturbed, _ = train("undisturbed", 2, train__epochs=20)
        run, process = start("killed", 2, restarts=1, train__epochs=20)
        wait_for(lambda: run.metrics.exists() and len(rows(run)) >= 3)
        os.kill(rank_process(process.pid, 1), signal.SIGKILL)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0, output
        assert re.search(r"resumes at step \d+", output)
        assert_close(run, undisturbed, 0)
        assert [row["loss"] for row in rows(run)] == [row["loss"] for row in rows(undisturbed)]

    def test_resumes_with_another_number_of_processes(self, train):
        one, _ = train("whole", 1)
        run, output = train("changing", 4, code=1, minutes=0)  # torchrun's exit code for the 3 of its processes
        assert "stopped at step 1 of" in output
        assert run.checkpoint.exists()
        _, output = train("changing", 2)
        assert "resumes at step 1" in output
        assert_close(run, one, 2e-4)

    def test_stop_signal_saves_a_checkpoint(self, start):
        run, process = start("stopped", 2, train__epochs=200)
        wait_for(lambda: run.metrics.exists())
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
        assert process.returncode != 0
        assert "the same command resumes" in output
        assert run.checkpoint.exists()
        assert not run.weights.exists()

    def test_batch_that_cannot_be_shared_is_refused(self, train):
        _, output = train("odd", 2, code=1, train__batch_size=3)
        assert "is 3, which 2 processes cannot share equally; set a multiple of 2" in output


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it did not happen within a minute")


def rank_process(parent: int, rank: int) -> int:
    """Return the process id of a rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            started_by = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if started_by == parent and f"RANK={rank}".encode() in environment:
            return int(folder.name)
    raise AssertionError("no such rank")
