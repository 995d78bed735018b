"""Run stages as tasks of a Ray cluster: folds, and parts of the test set.

A task is the command line of a stage. It resumes from what the stage keeps on disk, so a task that has lost its process
or its machine is simply run again. Nothing but command lines and exit codes goes through Ray. All machines need the
project, its data and its runs under the same path, as on a shared disk.
"""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

log = logging.getLogger(__name__)

STAGES = ("train-all", "predict", "report")
RETRIES = 3
"""Times that a task is run again after the loss of its process or machine, or after an exit code other than 0."""
_PAUSE = 5.0
"""Seconds before a stage is run again, in which a lost one ends and frees its lock."""
_PR_SET_PDEATHSIG = 1


def run_on_cluster(commands: Mapping[str, Sequence[str]], address: str) -> dict[str, int]:
    """Run commands on a cluster, each with one GPU if the cluster has GPUs, else with one core.

    Args:
        commands: name -> command line.
        address: "local" for a cluster of this machine, "auto" for the one that this machine belongs to, or the address
            of its head.

    Returns:
        Name -> exit code. The failure of one command does not stop the others.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """
    with _Connection(address) as ray:
        gpu = ray.cluster_resources().get("GPU", 0) >= 1
        task = ray.remote(_run).options(num_gpus=int(gpu), num_cpus=1, max_retries=RETRIES)
        folder = str(Path.cwd())
        running = {task.remote(list(command), folder): name for name, command in commands.items()}
        log.info("%d tasks, each with one %s", len(running), "GPU" if gpu else "core")
        codes: dict[str, int] = {}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            name = running.pop(done)
            try:
                codes[name] = ray.get(done)
            except ray.exceptions.RayError as error:
                log.error("%s: %s", name, str(error).strip().splitlines()[-1])
                codes[name] = 1
            state = "is done" if codes[name] == 0 else f"ended with exit code {codes[name]}"
            log.info("%s: %s; %d of %d", name, state, len(codes), len(commands))
    return codes


def parse_stage(text: str) -> str:
    """Return the one stage that is named.

    Raises:
        UserError: it is none of `STAGES`, or there are several.
    """
    if text not in STAGES:
        raise UserError(f"'{text}'", "is not a stage for a cluster", f"run one of {', '.join(STAGES)} at a time")
    return text


def count_slots(address: str) -> int:
    """Return how many tasks a cluster runs at once."""
    with _Connection(address) as ray:
        resources = ray.cluster_resources()
        return max(1, int(resources.get("GPU", 0) or resources.get("CPU", 1)))


class _Connection:
    """A connection to a cluster, which ends with the block."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self) -> Any:
        try:
            import ray
        except ImportError:
            fix = "install it: .venv/bin/python -m pip install -r requirements-cluster.txt"
            raise UserError("ray", "is not installed", fix) from None
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            _require_reachable(self.address)
            ray.init(
                address=self.address,
                include_dashboard=False if self.address == "local" else None,
                logging_level=logging.WARNING,
                log_to_driver=True,
                runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}},
            )
        except (OSError, ValueError, RuntimeError) as error:
            what = f"is no cluster that can be reached ({str(error).strip().splitlines()[0][:120]})"
            fix = "start one with `ray start --head`, or use local"
            raise UserError(f"CLUSTER '{self.address}'", what, fix) from None
        self.ray = ray
        return ray

    def __exit__(self, *_: object) -> None:
        self.ray.shutdown()


def _require_reachable(address: str) -> None:
    """Raise an OSError or ValueError if nothing listens at ``host:port``; Ray would try for minutes."""
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host, int(port)), timeout=10).close()


def _run(command: Sequence[str], folder: str) -> int:
    """Run a command in a worker of Ray until it succeeds, at most 1 + `RETRIES` times; return its exit code."""
    environment = os.environ | {"TQDM_DISABLE": "1"}
    for attempt in range(1 + RETRIES):
        if attempt:
            time.sleep(_PAUSE)
        process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, preexec_fn=_end_with_parent)
        if process.wait() == 0:
            break
    return process.returncode


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent dies; the stage then saves what it has."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
