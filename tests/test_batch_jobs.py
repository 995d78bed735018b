"""The job arrays of Slurm call the stages with their part, and queue themselves again when they are stopped."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
JOBS = sorted(path.name for path in (ROOT / "scripts" / "slurm").glob("*.sbatch"))


@pytest.fixture
def start(tmp_path):
    """Start the body of a job, with a stage that does `stage` and a scontrol that writes down what it is told."""
    shutil.copytree(ROOT / "scripts" / "slurm", tmp_path / "scripts" / "slurm")

    def start_job(job: str, stage: str) -> subprocess.Popen[str]:
        for path, text in ((".venv/bin/python", f'echo "$@" >> calls\n{stage}'), ("bin/scontrol", 'echo "$@" >> told')):
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"#!/bin/sh\n{text}\n")
            file.chmod(0o755)
        environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "RECIPE": "cpu", "SLURM_ARRAY_JOB_ID": "77"}
        environment |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
        return subprocess.Popen(["bash", f"scripts/slurm/{job}"], cwd=tmp_path, env=environment, text=True)

    return start_job


def test_stages_get_their_part(start, tmp_path):
    for job in JOBS:
        assert start(job, "exit 0").wait() == 0
    predict, train = (tmp_path / "calls").read_text().splitlines()
    assert train == "-m scripts.train --competition carvana --data  --recipe cpu --fold 3"
    assert predict == "-m scripts.predict --competition carvana --data  --recipe cpu --folds  --shard 3/8"
    assert not (tmp_path / "told").exists()


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (3, True), (143, True)])
def test_unfinished_task_is_queued_again(start, tmp_path, job, code, again):
    assert start(job, f"exit {code}").wait() == code
    assert (tmp_path / "told").exists() == again


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_signal_lets_the_stage_save_first(start, tmp_path, job):
    stage = "trap 'sleep 0.3; touch saved; exit 143' TERM\ntouch started\nwhile true; do sleep 0.1; done"
    process = start(job, stage)
    while not (tmp_path / "started").exists():
        time.sleep(0.05)
    process.terminate()
    assert process.wait(10) == 143
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "told").read_text() == "requeue 77_3\n"


def test_headers_ask_for_a_signal_and_a_requeue():
    for job in JOBS:
        text = (ROOT / "scripts" / "slurm" / job).read_text()
        assert "--requeue" in text
        assert "--signal=B:TERM@" in text
