"""From an empty folder to a rank on the leaderboard, with the real client and the scripts."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.competition import Competition
from pipeline.inference.submission import write_submission
from pipeline.kaggle.ledger import read_ledger
from pipeline.recipe import Recipe
from pipeline.submission.score import score_submission
from pipeline.submission.shapes import expected_shapes
from tests.kaggle.helpers import REPOSITORY
from tests.standin.server import StandinServer

RunScript = Callable[..., str]


@pytest.fixture
def run_script(tmp_path: Path) -> RunScript:
    """Run a script in `tmp_path`, where the tiny competition's TOML file is; return what it prints."""

    def run_script(script: str, *arguments: object, exit_code: int = 0) -> str:
        command = [sys.executable, "-m", f"scripts.{script}", "--competition", "tiny", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return run_script


@pytest.mark.slow
def test_a_competition_is_downloaded_submitted_and_scored(
    tiny: Competition,
    recipe: Recipe,
    standin: StandinServer,
    data: Path,
    trained: Path,
    tmp_path: Path,
    run_script: RunScript,
) -> None:
    target = tmp_path / "target"
    assert f"{target}: downloaded train_masks.csv.zip" in run_script("download", "--data", target)
    assert "everything is downloaded and checked" in run_script("download", "--data", target)

    file = tmp_path / paths.submission_csv("tiny", "tiny")
    weights = [[paths.fold_run(trained, 0).weights]]
    assert write_submission(tiny, [recipe], target, weights, file, metadata={"folds": [0], "oof_score": 0.9})

    options = ("--recipe", "tiny", "--data", target, "--message", "a first try")
    assert "would upload" in run_script("submit", *options, "--dry-run")
    assert standin.backend.submissions == []
    printed = run_script("submit", *options)
    (entry,) = read_ledger(tmp_path / paths.LEDGER)
    assert f"51000000: public {entry.public}, private {entry.private}" in printed
    assert (entry.recipe, entry.folds, entry.oof_score, entry.status) == ("tiny", "0", "0.9", "COMPLETE")
    solution = data / "solution.csv"
    dice = score_submission(file, solution, tiny, expected_shapes(tiny, data, sample=solution)).score
    assert (float(entry.public) + 2 * float(entry.private)) / 3 == pytest.approx(dice.mean(), abs=2e-5)
    assert dice.mean() > 0.8
    assert "FORCE=1" in run_script("submit", *options, "--file", file, exit_code=1)

    standin.backend.submissions[0].private = "0.85000"
    assert "0.85000" in run_script("scores")
    printed = run_script("leaderboard", "--top", 1)
    assert "4 teams; your best submission 51000000" in printed
    assert "has rank 3" in printed
    assert "Team Threshold" not in printed


@pytest.mark.slow
@pytest.mark.parametrize("script", ["download", "scores", "leaderboard"])
def test_denied_access_is_one_sentence_without_credentials(
    standin: StandinServer, tmp_path: Path, run_script: RunScript, script: str
) -> None:
    standin.backend.accounts[0].accepted_rules = False
    options = ("--data", tmp_path / "target") if script == "download" else ()
    printed = run_script(script, *options, exit_code=1)
    assert printed == (
        "error: tiny-cars: the rules of this competition are not accepted; open the competition in a browser with the "
        "account of these credentials, choose Join (or Late Submission), accept the rules and run the same command "
        "again\n"
    )
    assert standin.backend.accounts[0].key not in printed
