"""The stages as a user meets them: one run through all of them, and one sentence for each mistake."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w
from PIL import Image

from pipeline.competition import load_competition
from pipeline.models.checkpoint import load_weights, save_weights
from pipeline.recipe import load_recipe
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
    # The same but for its input and flips.
    small = (tmp_path / "recipes" / "tiny.toml").read_text().replace('"tiny"', '"small"').replace("64", "40")
    (tmp_path / "recipes" / "small.toml").write_text(small.replace('"horizontal",', ""))
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
    assert "on a test set of 1 groups (95 %)" in out
    assert Image.open("runs/tiny/worst.jpg").size == (3 * 480, 8 * 317)
    assert call("predict", *RECIPE)[:2] == (0, "submissions/tiny.csv.gz\n")
    assert call("check_submission", "submissions/tiny.csv.gz", *TINY)[0] == 0
    code, out, _ = call("score", "submissions/tiny.csv.gz", *TINY)
    assert float(out.split("Dice ")[1].split(",")[0]) > 0.8
    assert call("score", "submissions/tiny.csv.gz", *TINY, "--out", "scores.csv")[0] == 0
    assert call("gain", "scores.csv", "scores.csv")[1].startswith(
        "+0.000000 [+0.000000, +0.000000], 95 %, paired over "
    )
    assert call("overlay", "data/test/omega_01.jpg", "--weights", "runs/tiny")[0] == 0
    assert Image.open("overlays/omega_01_mask.png").size == (94, 62)
    assert call("compare", "submissions/tiny.csv.gz", *TINY, "--out", "worst.jpg", "--worst", 2)[0] == 0
    assert Image.open("worst.jpg").size == (3 * 480, 2 * 317)
    code, out, _ = call("summary", *RECIPE)
    assert "test Dice" in out


def test_the_mean_of_two_recipes(workplace, call, untouched_runs, untouched_table):
    Path("folds").mkdir()
    shutil.copy(untouched_table, "folds/tiny.csv")
    shutil.copytree(untouched_runs, "runs/tiny")
    small = load_recipe("small")
    for fold in (0, 1):
        # Trained by the other one, which takes no time.
        network, _, origin = load_weights(Path(f"runs/tiny/fold{fold}/weights.safetensors"))
        Path(f"runs/tiny-small/fold{fold}").mkdir(parents=True)
        save_weights(Path(f"runs/tiny-small/fold{fold}/weights.safetensors"), network, small, origin)
    both = (*TINY, "--recipe", "tiny+small")
    code, out, said = call("evaluate", *both)
    assert code == 0, said
    assert "best weights of tiny+small: " in out
    assert re.search(r"all recipes together gain \S+ \[\S+, \S+\] over (tiny|small) alone", out)
    assert "runs/tiny-tiny+small/worst.jpg" in out
    assert out.endswith("runs/tiny-tiny+small/oof.csv\nruns/tiny-tiny+small/evaluation.json\n")
    # Weights and threshold as evaluated: ones that no evaluation of so few images gives.
    path = Path("runs/tiny-tiny+small/evaluation.json")
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"weights": [0.25, 0.75], "threshold": 0.375}))
    assert call("predict", *both)[:2] == (0, "submissions/tiny-tiny+small.csv.gz\n")
    facts = json.loads(Path("submissions/tiny-tiny+small.json").read_text())
    assert (facts["recipe"], facts["shares"], facts["threshold"]) == ("tiny+small", [0.25, 0.75], 0.375)
    assert facts["oof_score"] == values["dice"]
    # The evaluation of other flips says nothing of these.
    changed = ("--set", "predict.flips=['both']", "--out", "other.csv")
    assert call("predict", *both, *changed)[0] == 0
    facts = json.loads(Path("other.json").read_text())
    assert (facts["shares"], facts["threshold"]) == ([0.5, 0.5], 0.5)
    assert "oof_score" not in facts
    assert "weights of" not in call("evaluate", *RECIPE)[1], "nothing new for one"


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
        ("train", (*TINY, "--recipe", "tinny"), "tinny.toml: no such file; recipes/ has: small, tiny"),
        ("evaluate", RECIPE, "folds/tiny.csv: no such file"),
        ("evaluate", (*RECIPE, "--fold", "5"), "expected different numbers from 0 to 1"),
        ("evaluate", (*RECIPE, "--fold", "x"), "expected different numbers from 0 to 1"),
        ("predict", RECIPE, "runs/tiny/fold0: it is not trained; run `make train FOLD=0 RECIPE=tiny`"),
        (
            "predict",
            (*TINY, "--recipe", "small+tiny"),
            "runs/tiny-small/fold0: it is not trained; run `make train FOLD=0 RECIPE=small`",
        ),
        ("predict", (*TINY, "--recipe", "tiny+tinny"), "tinny.toml: no such file; recipes/ has: small, tiny"),
        (
            "predict",
            (*TINY, "--recipe", "tiny+small", "--runs", "runs"),
            "is one folder, and the recipes tiny+small have",
        ),
        ("evaluate", (*TINY, "--recipe", "tiny+tiny"), "'tiny+tiny': expected different names joined by +"),
        ("evaluate", (*TINY, "--recipe", "tiny+"), "'tiny+': expected different names joined by +"),
        ("evaluate", (*TINY, "--recipe", "a+b+c+d+e"), "joins 5 recipes; leave out all but 4"),
        ("train", (*TINY, "--recipe", "tiny+small"), "recipe 'tiny+small': is several, and one is needed here"),
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
        stem = image.stem.replace("beta", "alpha")  # as the training pictures: both folders count from 1
        for folder in (f"{part}_images", f"{part}_masks"):
            Path("own", folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, Path("own", f"{part}_images", f"{stem}.jpg"))
        mask = Image.open(data / "train_masks" / f"{image.stem}_mask.gif").convert("L")
        mask.save(Path("own", f"{part}_masks", f"{stem}.png"))
    own = ("--competition", "folders", "--data", "own")
    assert call("check", *own)[0] == 0
    assert call("folds", *own)[0] == 0
    assert call("train", *own, "--recipe", "tiny", "--set", "train.epochs=2")[0] == 0
    code, out, _ = call("evaluate", *own, "--recipe", "tiny", "--set", "train.epochs=2")
    assert code == 0
    assert "of 3 images" in out


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "competitions").glob("*.toml")))
def test_make_knows_all_folds(name):
    command = ["make", "-n", "-B", "train-all", f"COMPETITION={name}", "RECIPE=demo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    trained = {line.split("--fold ")[1].split()[0] for line in done.stdout.splitlines() if "scripts.train" in line}
    assert trained == {str(fold) for fold in range(load_competition(name).folds)}


def test_make_prints_help():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    stages = {"check", "folds", "train", "train-all", "evaluate", "predict", "overlay", "demo", "test", "lint", "clean"}
    for stage in stages:
        assert f"\n  {stage} " in done.stdout


@pytest.fixture
def make(tmp_path):
    """The Makefile in a folder of its own, with a Python that only writes down what it is asked to do."""
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("competitions", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$*" >> calls\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / "ready").touch()

    def run(*arguments: str) -> list[str]:
        (tmp_path / "calls").write_text("")
        subprocess.run(["make", *arguments], cwd=tmp_path, capture_output=True, timeout=60, check=True)
        return [re.match(r"-m scripts\.(\w+)", line).group(1) for line in (tmp_path / "calls").read_text().splitlines()]

    return run


@pytest.fixture
def finish(tmp_path):
    """Pretend that every stage is done for a recipe or several, in order."""

    def touch(recipe: str = "baseline") -> None:
        folders = [tmp_path / "runs" / f"carvana-{name}" for name in recipe.split("+")]
        weights = [folder / f"fold{fold}" / "weights.safetensors" for folder in folders for fold in range(5)]
        evaluation = tmp_path / "runs" / f"carvana-{recipe}" / "evaluation.json"
        submission = tmp_path / "submissions" / f"carvana-{recipe}.csv.gz"
        for path in [tmp_path / "folds" / "carvana.csv", *weights, evaluation, submission]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return touch


def test_make_does_what_is_needed_and_no_more(make, finish, tmp_path):
    assert make("train") == ["folds", "train"]
    assert make("predict") == ["folds", *["train"] * 5, "evaluate", "predict"]
    finish()
    for goal in ("folds", "train", "train-all", "evaluate", "predict"):
        assert make(goal) == [], "what is done is skipped"
    assert make("predict", "FOLDS=0 1") == ["evaluate", "predict"], "other folds, another submission"
    assert make("predict") == ["evaluate", "predict"], "and back"
    finish()
    assert make("predict", "DATA=elsewhere") == ["evaluate", "predict"]
    assert make("predict") == ["evaluate", "predict"]
    finish()
    assert make("train", "SET=train.epochs=3") == ["train"], "a choice on the command line is a changed recipe"
    assert make("train") == ["train"], "and so is its absence"
    finish()
    later = time.time() + 5  # clocks of file systems are coarse
    os.utime(tmp_path / "recipes" / "baseline.toml", (later, later))
    assert make("train-all") == ["train"] * 5, "on the same folds"


def test_make_passes_choices_as_they_are(make, tmp_path):
    make("train", 'SET=predict.flips=["none"] train.epochs=3', "SEED=7")
    call = (tmp_path / "calls").read_text().splitlines()[-1]
    assert call.endswith('--set predict.flips=["none"] --set train.epochs=3 --set seed=7')


def test_make_trains_on_all_images_once(make, tmp_path):
    assert make("train", "FOLD=all") == ["folds", "train"]
    assert (tmp_path / "calls").read_text().splitlines()[-1].endswith("--recipe baseline --fold all")
    for path in (tmp_path / "folds" / "carvana.csv", tmp_path / "runs/carvana-baseline/all/weights.safetensors"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert make("train", "FOLD=all") == []
    assert make("train", "FOLD=0") == ["train"], "a fold is another training"


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ("FOLDS=all", "FOLDS=all cannot be judged: nothing is held out"),
        ("RECIPE=cpu+cpu", "names a recipe twice"),
    ],
)
def test_make_refuses_before_it_trains(make, tmp_path, choice, sentence):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        make("predict", choice)
    assert sentence in caught.value.stderr.decode()
    assert (tmp_path / "calls").read_text() == ""


def test_make_overlays_with_what_there_is(make, tmp_path):
    """One's own folds, else one's own training on all images, else the network that came along."""

    def chosen() -> str:
        make("overlay", "IMG=photo.jpg")
        return (tmp_path / "calls").read_text().split("--weights ")[1].strip()

    assert chosen() == "runs/carvana-baseline"
    boxed = tmp_path / "weights" / "carvana-cpu.safetensors"
    for path in (boxed, tmp_path / "runs/carvana-baseline/fold0~1/weights.safetensors"):
        path.parent.mkdir(parents=True)
        path.touch()
    assert chosen() == "weights/carvana-cpu.safetensors", "a run that was set aside is of another recipe"
    own = tmp_path / "runs/carvana-baseline/all/weights.safetensors"
    own.parent.mkdir()
    own.touch()
    assert chosen() == "runs/carvana-baseline"


def test_make_trains_each_recipe_of_several_by_itself(make, finish, tmp_path):
    both = "RECIPE=cpu+baseline"
    assert make("predict", both) == ["folds", *["train"] * 10, "evaluate", "predict"]
    calls = re.findall(r"scripts\.(\w+) .*--recipe (\S+)", (tmp_path / "calls").read_text())
    once = [("train", "cpu")] * 5 + [("train", "baseline")] * 5
    assert calls == [*once, ("evaluate", "cpu+baseline"), ("predict", "cpu+baseline")]
    finish("cpu+baseline")
    assert make("predict", both) == []
    assert make("train-all", "RECIPE=cpu") == [], "trained for the mean is trained"
    assert make("predict", both, "FOLDS=0 1") == ["evaluate", "predict"]
    finish("cpu+baseline")
    assert make("predict", both) == ["evaluate", "predict"]
    finish("cpu+baseline")
    (tmp_path / "runs" / "carvana-cpu" / "fold3" / "weights.safetensors").unlink()
    assert make("evaluate", both) == ["train", "evaluate"], "what is missing, and what depends on it"


def test_make_trains_one_recipe(make, tmp_path):
    command = ["make", "train", "RECIPE=cpu+baseline"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("error: cpu+baseline is several recipes; name the one to train")
    assert not (tmp_path / "calls").exists()
    assert not (tmp_path / "runs").exists()
