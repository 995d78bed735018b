"""From an empty folder to a score on the leaderboard, through the real client: the commands that a competitor types."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.competition import Competition
from pipeline.inference.submission import write_submission
from pipeline.kaggle.ledger import read_ledger
from pipeline.paths import Run
from pipeline.recipe import Recipe
from pipeline.submission.check import expected_shapes
from pipeline.submission.score import score_submission
from pipeline.training.fold import train_fold
from tests.standin.server import Standin

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def call(tmp_path: Path):
    """Run a script in `tmp_path`, where the tiny competition's file lies."""

    def call(script: str, *arguments: object, code: int = 0) -> str:
        command = [sys.executable, "-m", f"scripts.{script}", *map(str, arguments), "--competition", "tiny"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return call


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_download_check_train_submit_score(
    tiny: Competition, recipe: Recipe, standin: Standin, data: Path, table: Path, tmp_path: Path, call
) -> None:
    into = tmp_path / "fetched"
    said = call("download", "--data", into)
    assert f"{into}: 0 errors" in said
    assert "everything is there and checked" in call("download", "--data", into)

    run = Run(tmp_path / "runs" / "tiny" / "fold0")
    longer = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 8})})
    assert train_fold(tiny, longer, into, table, 0, run)
    file = tmp_path / "submissions" / "tiny.csv.gz"
    assert write_submission(tiny, [longer], into, [[run.weights]], file, facts={"folds": ["fold0"], "oof_dice": 0.9})

    dry = call("submit", file, "--data", into, "--message", "a first try", "--dry-run")
    assert "would upload" in dry
    assert standin.world.entries == []
    said = call("submit", file, "--data", into, "--message", "a first try")
    (entry,) = read_ledger(tmp_path / "submissions" / "ledger.csv")
    assert f"51000000: public {entry.public}, private {entry.private}" in said
    assert (entry.recipe, entry.folds, entry.oof_dice, entry.status) == ("tiny", "0", "0.9", "COMPLETE")
    solution = data / "solution.csv"
    truth = score_submission(file, solution, tiny, expected_shapes(tiny, data, sample=solution))
    assert (float(entry.public) + 2 * float(entry.private)) / 3 == pytest.approx(truth.mean(), abs=2e-5)
    assert truth.mean() > 0.8
    assert "FORCE=1" in call("submit", file, "--data", into, code=1)

    standin.world.entries[0].private = "0.85000"
    assert "0.85000" in call("scores")
    assert "4 teams; your best, 51000000" in call("leaderboard")


def test_no_traceback_and_no_key_for_who_is_not_let_in(standin: Standin, tmp_path: Path, call) -> None:
    standin.world.accounts[0].joined = False
    key = standin.world.accounts[0].key
    for script in (["download", "--data", tmp_path / "x"], ["scores"], ["leaderboard"]):
        said = call(*script, code=1)
        assert said == (
            "error: the rules of tiny-cars are not accepted; open the competition in a browser with the account of "
            "these credentials, choose Join (or Late Submission), accept the rules, and run the same command again\n"
        )
        assert key not in said
