"""The scripts as a user calls them: all stages once, and one sentence for each mistake."""

import errno
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w
import typer
from PIL import Image

from pipeline.errors import UserError
from pipeline.inference.broken import BrokenImagesError
from pipeline.models.checkpoint import load_weights, save_weights
from pipeline.paths import fold_run
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
    # Another recipe: a smaller input, one flip less.
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


@pytest.mark.slow
def test_all_stages(workplace, call, untouched_runs):
    assert call("check", *TINY)[0] == 0
    code, out, _ = call("folds", *TINY)
    assert (code, out.endswith("\nfolds/tiny.csv\n")) == (0, True)
    code, out, said = call("train", *RECIPE, "--fold", 0, "--minutes", 0)
    assert code == 3, said
    assert call("train", *RECIPE, "--fold", 0)[:2] == (0, "runs/tiny/fold0/weights.safetensors\n")
    shutil.copytree(untouched_runs / "fold1", "runs/tiny/fold1")
    code, out, _ = call("evaluate", *RECIPE)
    assert code == 0
    assert "the 12 worst of 12 images:" in out
    assert "expected on a test set of 1 groups: " in out
    assert re.search(
        r"out-of-fold Dice: 0\.\d{5}, 95 % confidence interval 0\.\d{5} to 0\.\d{5}, bootstrap over 4 groups", out
    )
    files = ("worst.jpg", "oof.csv", "oof_masks.csv.gz", "analysis.json", "evaluation.json")
    assert out.endswith("".join(f"runs/tiny/{name}\n" for name in files))
    assert re.search(r"\n +≤ 1 px +1-2 px +2-4 px +4-8 px +> 8 px +all\nall +(0\.\d{5} *){6}\nfold 0 +0", out)
    assert Image.open("runs/tiny/worst.jpg").size == (3 * 480, 8 * 317)
    assert call("predict", *RECIPE)[:2] == (0, "submissions/tiny.csv.gz\n")
    assert call("check_submission", "submissions/tiny.csv.gz", *TINY)[0] == 0
    code, out, _ = call("score", "submissions/tiny.csv.gz", *TINY)
    assert float(out.split("Dice ")[-1].split(",")[0]) > 0.8
    assert call("score", "submissions/tiny.csv.gz", *TINY, "--out", "scores.csv")[0] == 0
    assert call("gain", "scores.csv scores.csv")[1].startswith(
        "+0.000000 [+0.000000, +0.000000], paired 95 % confidence "
    )
    assert call("gain", "scores.csv", "scores.csv")[1] == call("gain", "scores.csv scores.csv")[1]
    assert call("overlay", "data/test/omega_01.jpg", "--weights", "runs/tiny")[0] == 0
    assert Image.open("overlays/omega_01_mask.png").size == (94, 62)
    assert call("compare", "submissions/tiny.csv.gz", *TINY, "--out", "worst.jpg", "--worst", 2)[0] == 0
    assert Image.open("worst.jpg").size == (3 * 480, 2 * 317)
    twice = "submissions/tiny.csv.gz submissions/tiny.csv.gz"
    page = "reports/submission-tiny/index.html\n"
    assert call("report", *TINY, "--submission", "submissions/tiny.csv.gz")[1] == page
    assert call("blend", twice, "--competition", "tiny")[1] == "submissions/blend.csv.gz: 3 rows\n"


@pytest.mark.slow
def test_two_recipes_are_averaged(workplace, call, untouched_runs, untouched_table):
    Path("folds").mkdir()
    shutil.copy(untouched_table, "folds/tiny.csv")
    shutil.copytree(untouched_runs, "runs/tiny")
    small = load_recipe("small")
    for fold in (0, 1):
        # The same models under another recipe, which takes no training.
        model, _, metadata = load_weights(fold_run(Path("runs/tiny"), fold).weights)
        save_weights(fold_run(Path("runs/tiny-small"), fold).weights, model, small, metadata)
    both = (*TINY, "--recipe", "tiny+small")
    code, out, said = call("evaluate", *both)
    assert code == 0, said
    assert "best weights of tiny+small: " in out
    assert re.search(r"gain of the ensemble over (tiny|small) alone: \S+ \[\S+, \S+\]\n", out)
    assert out.endswith("runs/tiny-tiny+small/analysis.json\nruns/tiny-tiny+small/evaluation.json\n")
    # Weights and threshold as evaluated: ones that no evaluation of so few images gives.
    path = Path("runs/tiny-tiny+small/evaluation.json")
    values = json.loads(path.read_text())
    values["ensemble"]["used"], values["classes"][0]["threshold"] = [0.25, 0.75], 0.375
    path.write_text(json.dumps(values))
    assert call("predict", *both)[:2] == (0, "submissions/tiny-tiny+small.csv.gz\n")
    metadata = json.loads(Path("submissions/tiny-tiny+small.json").read_text())
    assert (metadata["recipe"], metadata["ensemble_weights"]) == ("tiny+small", [0.25, 0.75])
    assert (metadata["threshold"], metadata["oof_score"]) == ([0.375], values["score"]["value"])
    # An evaluation of other flips is not used.
    changed = ("--set", "predict.flips=['both']", "--out", "other.csv")
    assert call("predict", *both, *changed)[0] == 0
    metadata = json.loads(Path("other.json").read_text())
    assert (metadata["ensemble_weights"], metadata["threshold"]) == ([0.5, 0.5], [0.5])
    assert "oof_score" not in metadata
    alone = call("evaluate", *RECIPE)[1]
    assert "ensemble" not in alone
    assert "weights of" not in alone


@pytest.mark.slow
@pytest.mark.parametrize(("kill", "number", "code"), [(os.kill, signal.SIGTERM, 143), (os.killpg, signal.SIGINT, 130)])
def test_a_stopped_prediction_says_one_sentence(workplace, untouched_runs, number, code, kill):
    """As a process of its own, and as a process group, which a terminal or a scheduler signals as a whole."""
    shutil.copytree(untouched_runs, "runs/tiny")
    Path("data/sample_submission.csv").unlink()
    for copy in range(1, 2000):
        Path(f"data/test/copy_{copy:04d}.jpg").hardlink_to("data/test/omega_01.jpg")
    Path("competitions/tiny.toml").write_text(Path("competitions/tiny.toml").read_text().replace("{2}$", "{2,4}$"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "scripts.predict", *RECIPE]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    spool = Path("submissions/.tiny.csv.gz.rows")
    while process.poll() is None and not (spool.exists() and spool.stat().st_size > 20_000):
        time.sleep(0.05)
    kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    done = int(re.search(r"tiny\.csv\.gz: stopped at (\d+) of 2002 rows; the same command resumes\n$", said)[1])
    assert spool.read_bytes().count(b"\n") == done + 1


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("folds", ("--competition", "tiny", "--data", "nowhere"), "nowhere/train: no such folder; set DATA"),
        (
            "folds",
            ("--competition", "carvanna", "--data", "data"),
            "carvanna.toml: no such file; files in competitions/ are: tiny",
        ),
        ("train", RECIPE, "folds/tiny.csv: no such file; run `make folds`"),
        ("train", (*RECIPE, "--set", "train.epoch=1"), "did you mean train.epochs?"),
        ("train", (*TINY, "--recipe", "tinny"), "tinny.toml: no such file; files in recipes/ are: small, tiny"),
        ("evaluate", RECIPE, "folds/tiny.csv: no such file"),
        ("evaluate", (*RECIPE, "--folds", "5"), "give different numbers from 0 to 1"),
        ("evaluate", (*RECIPE, "--folds", "x"), "give different numbers from 0 to 1"),
        ("predict", RECIPE, "runs/tiny/fold0: it is not trained; run `make train FOLD=0 RECIPE=tiny`"),
        (
            "predict",
            (*TINY, "--recipe", "small+tiny"),
            "runs/tiny-small/fold0: it is not trained; run `make train FOLD=0 RECIPE=small`",
        ),
        ("predict", (*TINY, "--recipe", "tiny+tinny"), "tinny.toml: no such file; files in recipes/ are: small, tiny"),
        (
            "predict",
            (*TINY, "--recipe", "tiny+small", "--runs", "runs"),
            "is one folder for 2 recipes",
        ),
        ("evaluate", (*TINY, "--recipe", "tiny+tiny"), "'tiny+tiny': needs different names joined by +"),
        ("evaluate", (*TINY, "--recipe", "tiny+"), "'tiny+': needs different names joined by +"),
        ("evaluate", (*TINY, "--recipe", "a+b+c+d+e"), "joins 5 recipes; use at most 4"),
        (
            "train",
            (*TINY, "--recipe", "tiny+small"),
            "recipe 'tiny+small': is an ensemble, and this needs a single recipe; name one of them",
        ),
        ("overlay", ("data/test/omega_01.jpg", "--weights", "runs/tiny"), "has no weights.safetensors"),
        ("overlay", ("no.jpg", "--weights", "runs/tiny"), "no.jpg: no such file or folder"),
        ("overlay", ("", "--weights", "runs/tiny"), "IMG: is empty; give it, for example make overlay IMG="),
        (
            "overlay",
            ("data/test/omega_01.jpg", "--competition", "tiny", "--recipe", "small"),
            "runs/tiny-small: has no weights.safetensors; train with `make train`, or set MODEL to a weights file",
        ),
        ("train", (*RECIPE, "--fold", "zero"), "fold 'zero': is neither a number nor 'all'; give a fold such as 0"),
        ("train", (*RECIPE, "--fold", "$(touch x)"), "fold '$(touch x)': is neither a number nor 'all'"),
        (
            "train",
            (*RECIPE, "--set", "train.epochs"),
            "--set train.epochs: is not an assignment; write table.key=value",
        ),
        ("train", (*RECIPE, "--seed", "many"), "seed is 'many'; expected a whole number"),
        ("estimate", ("--competition", "tiny", "--recipe", "tiny", "--set", "train.ema=0"), "rename it"),
        ("kernel", ("--competition", "tiny", "--recipe", "tiny", "--folds", "0 0", "--user", "me"), "--folds '0 0'"),
        ("kernel", ("--competition", "tiny", "--recipe", "tiny", "--user", "me"), "tiny.toml: has no slug; add it"),
        ("leaderboard", ("--competition", "tiny"), "competitions/tiny.toml: has no slug; add it"),
        ("scores", ("--competition", "tiny"), "competitions/tiny.toml: has no slug; add it"),
        ("submit", RECIPE, "competitions/tiny.toml: has no slug; add it"),
        ("download", TINY, "competitions/tiny.toml: has no slug or no [download] table"),
        ("demo", (), "runs/demo: has no weights.safetensors"),
        ("gain", ("one.csv",), "FILES: names 1 files; give two"),
        ("gain", ("",), "FILES: names 0 files; give two"),
        ("blend", ("", "--competition", "tiny"), "FILES: names 0 files; give two or more"),
        ("blend", ("a.csv b.csv", "--competition", "tiny", "--weights", "1"), "has 1 numbers for 2 files"),
        (
            "blend",
            ("a.csv b.csv", "--competition", "tiny", "--weights", "1 x"),
            "--weights '1 x': is not a list of numbers",
        ),
        ("new", ("--competition", "tiny", "--data", "data"), "competitions/tiny.toml: exists already"),
        ("render", ("--out", "data"), "data: exists already and is not an empty folder; delete it"),
        ("render", ("--out", "new", "--width", "8"), "--width, --height: images of 8×640 are not supported"),
        ("score", ("none.csv", *TINY), "none.csv"),
        ("report", (*TINY, "--submission", "none.csv"), "none.csv"),
        ("compare_recipes", ("tiny", *TINY), "give two recipes"),
        ("compare", ("data/solution.csv", *TINY, "--out", "x.jpg", "--image", "psi.jpg"), "has no row for psi.jpg"),
        ("compare", ("data/solution.csv", *TINY, "--out", "x.txt", "--image", "psi.jpg"), "is not a .jpg or .png file"),
        ("check_submission", ("data/test", *TINY), "data/test"),
    ],
)
def test_mistakes_get_one_sentence(workplace, call, script, arguments, sentence):
    before = sorted(workplace.rglob("*"))
    code, _, said = call(script, *arguments)
    assert code == 1
    assert said.startswith("error: ")
    assert sentence in said
    assert "\n" not in said.strip(), "one line"
    assert sorted(workplace.rglob("*")) == before, "nothing was half written"


def test_all_faults_of_a_recipe_are_listed(workplace, call):
    code, _, said = call("train", *RECIPE, "--set", "train.epoch=1 train.clip=2 seed=x")
    assert code == 1
    assert said.splitlines() == [
        "error: recipes/tiny.toml: has 3 faults:",
        "  seed is 'x'; expected a whole number",
        "  train.epoch is not a known key; did you mean train.epochs?",
        "  train.clip is now called train.max_grad_norm; rename it",
    ]


@pytest.mark.parametrize(
    "arguments", [("--no-such-option",), TINY, (*RECIPE, "--minutes", "soon"), (*RECIPE, "extra"), (*RECIPE, "--fold")]
)
def test_wrong_usage_exits_with_2(workplace, call, arguments):
    code, out, said = call("train", *arguments)
    assert (code, out) == (2, "")
    assert " Error " in said
    assert "Traceback" not in said


class TestCommandLine:
    """The same in a process of its own."""

    @pytest.mark.parametrize(
        ("arguments", "code", "pattern"),
        [
            (
                ("--recipe", "tinny"),
                1,
                r"error: recipes/tinny\.toml: no such file; files in recipes/ are: small, tiny\n",
            ),
            (("--nope",), 2, r"(?s)Usage: .*No such option: --nope.*"),
        ],
    )
    def test_error_is_on_stderr_without_a_traceback(self, workplace, arguments, code, pattern):
        command = [sys.executable, "-m", "scripts.train", "--competition", "tiny", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (code, "")
        assert re.fullmatch(pattern, done.stderr)
        assert "Traceback" not in done.stderr

    def imported(self, calls: list[tuple[str, ...]], modules: tuple[str, ...]) -> dict[str, list[str]]:
        """Run scripts in one new process; return the message of each and the modules that were imported by then."""
        code = (
            "import importlib, json, sys\n"
            "from scripts.common import run\n"
            "for arguments in json.loads(sys.argv[1]):\n"
            "    sys.argv = arguments\n"
            "    try:\n"
            "        run(importlib.import_module('scripts.' + arguments[0]).main)\n"
            "    except SystemExit as end:\n"
            f"        found = [name for name in {modules!r} if name in sys.modules]\n"
            "        print(json.dumps([str(end.code), *found]), file=sys.stderr)\n"
        )
        command = [sys.executable, "-c", code, json.dumps(calls)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stderr.splitlines()]
        assert len(rows) == len(calls)
        return {script: [message, *found] for (script, *_), (message, *found) in zip(calls, rows, strict=True)}

    def test_mistakes_in_a_recipe_are_reported_before_torch_is_imported(self, workplace):
        wrong = ("--competition", "tiny", "--recipe", "tiny", "--set", "train.epoch=1")
        calls = [(script, *wrong) for script in ("train", "evaluate", "predict", "estimate", "kernel")]
        message = "error: recipes/tiny.toml: train.epoch is not a known key; did you mean train.epochs?"
        found = self.imported(calls, ("torch", "numpy"))
        assert found == {script: [message] for script in ("train", "evaluate", "predict", "estimate", "kernel")}

    @pytest.mark.slow
    def test_scripts_without_a_network_never_import_torch(self, workplace):
        """Commands that fail after their imports."""
        wrong = ("--competition", "nope")
        calls = [(script, *wrong) for script in ("check", "folds", "download", "leaderboard", "scores")]
        calls += [("kernel", *wrong, "--recipe", "tiny"), ("submit", *wrong, "--recipe", "tiny")]
        calls += [("check_submission", "x.csv", *wrong), ("gain", "one.csv"), ("render", "--out", "data")]
        calls += [("new", "--competition", "tiny", "--data", "data")]
        found = self.imported(calls, ("torch",))
        assert [script for script, (message, *modules) in found.items() if modules] == []
        assert all(message.startswith("error: ") for message, *_ in found.values())

    @pytest.mark.slow
    def test_help_imports_nothing_that_is_slow(self, workplace):
        found = self.imported(
            [(script, "--help") for script in SCRIPTS], ("torch", "numpy", "pandas", "pydantic", "PIL")
        )
        assert found == {script: ["0"] for script in SCRIPTS}


SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("[a-z]*.py") if path.stem not in ("common", "rules"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_describes_every_option(call, script):
    main = importlib.import_module(f"scripts.{script}").main
    app = typer.Typer(add_completion=False)
    app.command()(main)
    command = typer.main.get_command(app)
    assert [option.name for option in command.params if not option.help] == []
    code, out, said = call(script, "--help")
    assert (code, said) == (0, "")
    assert "Usage: " in out
    assert main.__doc__.split()[0] in out
    for option in command.params:
        assert any(name in out for name in (*option.opts, option.name.upper())), option.name


class TestRun:
    """Exceptions as the user sees them."""

    def end_of(self, monkeypatch, error: BaseException) -> object:
        def main() -> None:
            raise error

        monkeypatch.setattr(sys, "argv", ["x"])
        with pytest.raises(SystemExit) as caught:
            common.run(main)
        return caught.value.code

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (UserError("a.csv", "is empty", "delete it"), "error: a.csv: is empty; delete it"),
            (OSError(errno.ENOSPC, "full", "a.csv"), "error: a.csv: no space is left on this disk; free some and run"),
            (OSError(errno.EDQUOT, "quota", "a.csv"), "error: a.csv: no space is left on this disk"),
            (PermissionError(errno.EACCES, "denied", "a.csv"), "error: a.csv: cannot be written (denied); change its"),
            (OSError(errno.EROFS, "read only", "a.csv"), "error: a.csv: cannot be written (read only)"),
            (NotADirectoryError(errno.ENOTDIR, "file", "a/b"), "error: a/b: lies in a file instead of a folder"),
            (OSError(errno.ENOSPC, "full"), "error: .: no space is left on this disk"),
        ],
    )
    def test_what_a_user_can_correct_is_a_sentence(self, monkeypatch, error, code):
        assert str(self.end_of(monkeypatch, error)).startswith(code)

    def test_an_error_may_have_an_exit_code_of_its_own(self, monkeypatch, capsys):
        assert self.end_of(monkeypatch, BrokenImagesError("a.csv", "is filled", "look")) == 3
        assert capsys.readouterr().err == "error: a.csv: is filled; look\n"

    def test_interrupt_exits_with_130(self, monkeypatch):
        assert self.end_of(monkeypatch, KeyboardInterrupt()) == 130

    @pytest.mark.parametrize(
        "error", [ValueError("a bug"), FileNotFoundError(errno.ENOENT, "none", "a.csv"), KeyError("a")]
    )
    def test_bugs_show_their_traceback(self, monkeypatch, error):
        def main() -> None:
            raise error

        monkeypatch.setattr(sys, "argv", ["x"])
        with pytest.raises(type(error)):
            common.run(main)


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


@pytest.mark.slow
def test_folders_of_own_images(tmp_path, monkeypatch, call, data, recipe):
    """The plain layout, PNG masks of 0 and 255, by the competition file in the repository."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "competitions", "competitions")
    Path("recipes").mkdir()
    Path("recipes/tiny.toml").write_text(tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True)))
    for image in sorted((data / "train").iterdir()):
        part = "val" if image.stem.startswith("beta") else "train"
        stem = image.stem.replace("beta", "alpha")  # as in the training folder: both count from 1
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
    assert "3 images" in out
