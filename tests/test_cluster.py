"""Stages as tasks of a Ray cluster on this machine: lost processes, failures, and the bytes of one machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cluster
from pipeline.cluster import run_on_cluster
from pipeline.errors import UserError
from pipeline.paths import submission_csv, submission_doubts, submission_metadata
from tests.test_scripts import RECIPE, workplace  # noqa: F401 - a fixture

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def test_missing_package_is_named_with_its_requirements(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"ray: is not installed; install it: .* -r requirements-cluster\.txt"):
        run_on_cluster({}, "local")


class TestRay:
    @pytest.fixture(autouse=True)
    def _need_ray(self, monkeypatch):
        pytest.importorskip("ray", reason="the packages of requirements-cluster.txt are not installed")
        monkeypatch.setattr(cluster, "_PAUSE", 0.1)

    def test_lost_worker_is_replaced_and_a_failure_leaves_the_others(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        once = "import os, pathlib; p = pathlib.Path('{name}'); again = p.exists(); p.touch(); "
        killed = once.format(name="killed") + "again or os.kill(os.getppid(), 9) or __import__('time').sleep(9)"
        unlucky = once.format(name="unlucky") + "raise SystemExit(0 if again else 3)"
        codes = run_on_cluster(
            {
                "killed": ["-c", killed],
                "unlucky": ["-c", unlucky],
                "failing": ["-c", "raise SystemExit(7)"],
                "good": ["-c", "open('good', 'w').close()"],
            },
            "local",
        )
        assert codes == {"killed": 0, "unlucky": 0, "failing": 7, "good": 0}
        assert Path("good").exists()

    def test_no_cluster_is_a_sentence(self):
        with pytest.raises(UserError, match=r"CLUSTER '127\.0\.0\.1:9': is no cluster that can be reached"):
            run_on_cluster({}, "127.0.0.1:9")

    def test_submission_of_a_cluster_is_that_of_one_machine(self, workplace, untouched_runs):  # noqa: F811
        shutil.copytree(untouched_runs, "runs/tiny")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        out = submission_csv("tiny", "tiny")
        results = []
        for command in (["scripts.predict"], ["scripts.cluster", "predict", "--cluster", "local"]):
            done = subprocess.run(
                [sys.executable, "-m", *command, *RECIPE], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            results.append([path.read_bytes() for path in (out, submission_doubts(out), submission_metadata(out))])
            out.unlink()
        assert results[0] == results[1]
        assert [path.name for path in out.parent.glob("*.rows")] == []
