"""The stages as a user meets them: one run through all of them, and one sentence for each mistake."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
from PIL import Image

from scripts import common

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def workplace(tmp_path, monkeypatch, competition, recipe, data):
    """A folder laid out like the repository, with the tiny competition and recipe."""
    values = competition.model_dump(mode="json", exclude_none=True)
    del values["name"]
    for folder, settings in (("competitions", values), ("recipes", recipe.model_dump(mode="json", exclude_none=True))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tiny.toml").write_text(tomli_w.dumps(settings))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a script in this process; returns exit code, what it printed, and its last line on stderr."""

    def run(script: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            common.run(importlib.import_module(f"scripts.{script}").main)
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        # sys.exit with a text prints it at the very end, after this function.
        said = code if isinstance(code, str) else printed.err
        return (1 if isinstance(code, str) else int(code or 0)), printed.out, said

    return run


TINY = ("--competition", "tiny", "--data", "data")
RECIPE = (*TINY, "--recipe", "tiny")


def test_all_stages(workplace, call, untouched_runs):
    assert call("check", *TINY)[0] == 0
    code, out, _ = call("folds", *TINY)
    assert (code, out.strip().endswith("folds/tiny.csv")) == (0, True)
    code, out, said = call("train", *RECIPE, "--fold", 0, "--minutes", 0)
    assert code == 3, said
    assert call("train", *RECIPE, "--fold", 0)[:2] == (0, "runs/tiny/fold0/weights.safetensors\n")
    shutil.copytree(untouched_runs / "fold1", "runs/tiny/fold1")
    code, out, _ = call("evaluate", *RECIPE)
    assert code == 0
    assert "12 worst of 12 images" in out
    assert "on the leaderboard (95 %" in out
    assert call("predict", *RECIPE)[:2] == (0, "submissions/tiny.csv.gz\n")
    assert call("check_submission", "submissions/tiny.csv.gz", *TINY)[0] == 0
    code, out, _ = call("score", "submissions/tiny.csv.gz", *TINY)
    assert float(out.split("Dice ")[1].split(",")[0]) > 0.8
    assert call("overlay", "data/test/omega_01.jpg", "--weights", "runs/tiny")[0] == 0
    assert Image.open("overlays/omega_01_mask.png").size == (94, 62)
    assert call("compare", "submissions/tiny.csv.gz", *TINY, "--out", "worst.jpg", "--worst", 2)[0] == 0
    assert Image.open("worst.jpg").size == (3 * 480, 2 * 317)
    code, out, _ = call("summary", *RECIPE)
    assert "test Dice" in out


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("folds", ("--competition", "tiny", "--data", "nowhere"), "nowhere/train: no such folder; set DATA"),
        (
            "folds",
            ("--competition", "carvanna", "--data", "data"),
            "carvanna.toml: no such file; competitions/ has: tiny",
        ),
        ("train", RECIPE, "folds/tiny.csv: no such file; run `make folds`"),
        ("train", (*RECIPE, "--set", "train.epoch=1"), "did you mean epochs?"),
        ("train", (*TINY, "--recipe", "tinny"), "tinny.toml: no such file; recipes/ has: tiny"),
        ("evaluate", RECIPE, "folds/tiny.csv: no such file"),
        ("evaluate", (*RECIPE, "--fold", "5"), "expected different numbers from 0 to 1"),
        ("evaluate", (*RECIPE, "--fold", "x"), "expected different numbers from 0 to 1"),
        ("predict", RECIPE, "runs/tiny/fold0: it is not trained; run `make train FOLD=0`"),
        ("overlay", ("data/test/omega_01.jpg", "--weights", "runs/tiny"), "holds no weights.safetensors"),
        ("overlay", ("no.jpg", "--weights", "runs/tiny"), "no.jpg: no such file or folder"),
        ("render", ("--out", "data"), "data"),
        ("render", ("--out", "new", "--width", "8"), "8"),
        ("score", ("none.csv", *TINY), "none.csv"),
        ("compare", ("data/solution.csv", *TINY, "--out", "x.jpg", "--image", "psi.jpg"), "has no row for psi.jpg"),
        ("check_submission", ("data/test", *TINY), "data/test"),
    ],
)
def test_mistakes_get_one_sentence(workplace, call, script, arguments, sentence):
    before = sorted(workplace.rglob("*"))
    code, _, said = call(script, *arguments)
    assert code == 1
    assert said.startswith("error: ")
    assert sentence in said
    assert said.count("\n") <= 1
    assert sorted(workplace.rglob("*")) == before, "nothing was half written"


def test_wrong_usage_is_two(workplace, call):
    assert call("train", "--no-such-option")[0] == 2
    assert call("train", *RECIPE, "--fold", "zero")[0] == 2


def test_full_disk_and_refused_files_are_sentences(workplace, call, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "folds/tiny.csv")

    monkeypatch.setattr(Path, "write_text", full)
    code, _, said = call("folds", *TINY)
    assert (code, said) == (
        1,
        "error: folds/tiny.csv: no space is left on this disk; free some and run the same command again",
    )


def test_broken_data_is_found_by_check(workplace, call):
    image = Path("data/train/alpha_01.jpg")
    image.write_bytes(image.read_bytes()[:700])
    code, out, _ = call("check", *TINY)
    assert code == 1
    assert "alpha_01.jpg" in out


def test_folder_of_own_pictures(tmp_path, monkeypatch, call, data, recipe):
    """The plain layout, PNG masks of 0 and 255, by the competition file in the repository."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "competitions", "competitions")
    Path("recipes").mkdir()
    Path("recipes/tiny.toml").write_text(tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True)))
    for image in sorted((data / "train").iterdir()):
        part = "val" if image.stem.startswith("beta") else "train"
        for folder in (f"{part}_images", f"{part}_masks"):
            Path("own", folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, Path("own", f"{part}_images", image.name))
        mask = Image.open(data / "train_masks" / f"{image.stem}_mask.gif").convert("L")
        mask.save(Path("own", f"{part}_masks", f"{image.stem}.png"))
    own = ("--competition", "folders", "--data", "own")
    assert call("check", *own)[0] == 0
    assert call("folds", *own)[0] == 0
    assert call("train", *own, "--recipe", "tiny", "--set", "train.epochs=2")[0] == 0
    code, out, _ = call("evaluate", *own, "--recipe", "tiny", "--set", "train.epochs=2")
    assert code == 0
    assert "of 3 images" in out


def test_make_prints_help():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    stages = {"check", "folds", "train", "train-all", "evaluate", "predict", "overlay", "demo", "test", "lint", "clean"}
    for stage in stages:
        assert f"\n  {stage} " in done.stdout


@pytest.mark.parametrize(("goal", "needed"), [("train", 2), ("evaluate", 7), ("predict", 8)])
def test_make_chains_the_stages(tmp_path, goal, needed):
    """A dry run in a copy: a stage brings all that it stands on, and nothing of what is done."""
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("competitions", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "ready").touch()

    def plan() -> list[str]:
        done = subprocess.run(
            ["make", "-n", goal], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        return [line for line in done.stdout.splitlines() if "-m scripts." in line]

    assert len(plan()) == needed
    folder = tmp_path / "runs" / "carvana-baseline"
    done = [tmp_path / "folds" / "carvana.csv", *(folder / f"fold{n}" / "weights.safetensors" for n in range(5))]
    for path in [*done, folder / "evaluation.json", tmp_path / "submissions" / "carvana-baseline.csv.gz"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert plan() == []
    (tmp_path / "recipes" / "baseline.toml").touch()
    assert len(plan()) == needed - 1, "a changed recipe is trained again, on the same folds"
