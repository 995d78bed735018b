"""The Makefile runs the stages that are needed and no others, and passes every value as it was typed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.competition import load_competition
from pipeline.paths import analysis_json, evaluation_json, fold_run, folds_csv, parse_fold, runs_folder, submission_csv

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
FILES = ("Makefile", "tests/tools.mk")
TEXT = "\n".join((ROOT / name).read_text() for name in FILES)
VALUES = re.search(r"^VALUES :=((?:.*\\\n)*.*)", TEXT, re.M)[1].replace("\\", " ").split()
# Without its packages, because the rules are written before anything is installed. It also starts faster.
PYTHON = f"{sys.executable} -S"
RECORD = """
test "$2" != scripts.options && printf '%s\\0' $# "$@" >> calls && exit
printf '%s\\0' $# "$@" >> checks
folder=runs/$4-$6
test "$4" != "$6" || folder=runs/$4
mkdir -p $folder
printf %s "$*" | cmp -s - $folder/.options || printf %s "$*" > $folder/.options
"""
"""Records the number of arguments and each of them, in shell because Python starts slowly. The check of options, which
comes before every stage, is recorded in a file of its own, and writes its file when the options change."""
WRITE_TARGET = f"""
({RECORD})
case $2 in
    scripts.options) exit ;;
    scripts.folds) target=folds/$COMPETITION.csv ;;
    scripts.train) target=runs/$COMPETITION-$RECIPE/fold$(echo "$*" | sed 's/.*--fold //')/weights.safetensors ;;
    scripts.evaluate) target=runs/$COMPETITION-$RECIPE/evaluation.json ;;
    scripts.predict) target=submissions/$COMPETITION-$RECIPE.csv.gz ;;
esac
mkdir -p "$(dirname "$target")" && touch "$target"
"""
HOSTILE = [
    "two words",
    "it's",
    'a "quoted" word',
    "a;touch x",
    "$(touch x)",
    "$$(touch x)",
    "$$$$(touch x)",
    "$(shell touch x)",
    "${shell touch x}",
    "`touch x`",
    '";touch x;"',
    "';touch x;'",
    "a && touch x #",
    "a | touch x",
    "a > x",
    "$HOME ~ $$",
    "back\\slash\\",
    "%.* ?",
    "two\nlines\ntouch x",
    "ünïcode ★",
    "-n",
    "#x",
    "a:b=c",
    "@touch x",
    "$(eval x:;touch x)",
    "$(file >x)",
]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Makefile in a folder of its own, with a Python that only records its arguments. Read only."""
    folder = tmp_path_factory.mktemp("makefile")
    (folder / "tests").mkdir()
    for name in (*FILES, "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    for pattern in ("competitions/*.toml", "recipes/*.toml", "scripts/*.py", "pipeline/*.py"):
        for path in ROOT.glob(pattern):
            (folder / path.parent.name).mkdir(exist_ok=True)
            shutil.copy(path, folder / path.parent.name)
    write_python(folder, RECORD)
    (folder / ".venv" / "ready").touch()
    run_make(folder)
    assert (folder / ".make" / "carvana-baseline.mk").exists()
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    """A copy of the folder with the times of its files."""
    return Path(shutil.copytree(template, tmp_path / "place"))


def write_python(place: Path, command: str) -> None:
    """Replace .venv/bin/python by a shell command; ``$2`` is the module it should run."""
    path = place / ".venv" / "bin" / "python"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


def run_make(place: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run make without the variables of the surrounding make, which would count as given."""
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", *VALUES)
    inherited = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(
        ["make", f"PYTHON={PYTHON}", *arguments],
        cwd=place,
        env=inherited | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def read_calls(path: Path) -> list[list[str]]:
    """Return the arguments of every recorded call."""
    words = path.read_text().split("\0")[:-1]
    called = []
    while words:
        count = int(words[0])
        called.append(words[1 : count + 1])
        words = words[count + 1 :]
    return called


@pytest.fixture
def calls(place: Path) -> Callable[..., list[list[str]]]:
    """Run make and return the arguments of every call of Python."""

    def run(*arguments: str, **environment: str) -> list[list[str]]:
        for name in ("calls", "checks"):
            (place / name).write_text("")
        done = run_make(place, *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return read_calls(place / "calls")

    return run


@pytest.fixture
def make(calls):
    """Run make and return the names of the scripts that it called."""
    return lambda *arguments: [call[1].removeprefix("scripts.") for call in calls(*arguments)]


@pytest.fixture
def refuse(place):
    """Run make, which must fail without calling Python, and return its message."""

    def run(*arguments: str) -> str:
        done = run_make(place, *arguments)
        assert done.returncode == 2
        for name in ("calls", "x", "runs", "folds"):
            assert not (place / name).exists()
        return done.stderr

    return run


def option(call: list[str], name: str) -> str:
    return call[call.index(name) + 1]


def finish(place: Path, recipe: str = "baseline") -> None:
    """Make the files of every stage of a recipe, or of several joined by +, in order."""
    weights = [fold_run(runs_folder("carvana", name), fold).weights for name in recipe.split("+") for fold in range(5)]
    evaluation = evaluation_json(runs_folder("carvana", recipe))
    analysis = analysis_json(runs_folder("carvana", recipe))
    for path in [folds_csv("carvana"), *weights, analysis, evaluation, submission_csv("carvana", recipe)]:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).touch()


def age(place: Path, seconds: float) -> None:
    """Make the results of all stages older; make would wait for files from the future."""
    for folder in ("folds", "runs", "submissions"):
        for path in (place / folder).rglob("*"):
            if path.is_file():
                os.utime(path, (path.stat().st_mtime - seconds,) * 2)


class TestStages:
    def test_finished_stages_are_skipped_and_changed_ones_run_again(self, make, place):
        assert make("train") == ["folds", "train"]
        assert make("predict") == ["folds", *["train"] * 5, "evaluate", "predict"]
        finish(place)
        assert make("folds", "train", "train-all", "evaluate", "predict") == []
        assert make("predict", "FOLDS=0 1") == ["evaluate", "predict"], "other folds, another submission"
        assert make("predict") == ["evaluate", "predict"], "and back"
        finish(place)
        assert make("predict", "DATA=elsewhere") == ["evaluate", "predict"]
        assert make("predict") == ["evaluate", "predict"]
        finish(place)
        assert make("train") == []

    def test_options_are_checked_first_and_remembered(self, calls, make, place):
        def checks() -> list[list[str]]:
            return read_calls(place / "checks")

        train = calls("train", "SET=train.epochs=3")[-1]
        (check,) = checks()
        assert option(check, "--set") == "train.epochs=3"
        assert "--seed" not in check
        assert "--set" not in train, "the script reads what the check has written"
        finish(place)
        assert (make("train"), checks()) == ([], []), "nothing given: those of the last training"
        assert make("train", "SET=train.epochs=3") == []
        assert make("train", "SEED=1") == ["train"], "another seed, another training"
        assert [option(check, "--seed") for check in checks()] == ["1"]
        assert make("train", "SEED=1") == ["train"], "until it is trained"
        finish(place)
        assert make("train", "SEED=1") == []
        assert make("train", "SET=", "SEED=") == ["train"]
        assert [(option(check, "--set"), option(check, "--seed")) for check in checks()] == [("", "")]
        finish(place)
        (place / "recipes" / "baseline.toml").touch()
        assert make("evaluate") == [*["train"] * 5, "evaluate"]
        assert len(checks()) == 1, "a changed recipe is checked"

    def test_a_mistake_in_the_options_stops_before_anything_is_made(self, place):
        write_python(place, f"test $2 != scripts.options || exit 1; {RECORD}")
        assert run_make(place, "predict", "SET=epochs=3", "RECIPE=cpu+baseline").returncode == 2
        assert not any((place / name).exists() for name in ("calls", "runs", "folds"))

    def test_finished_targets_are_named(self, place):
        run_make(place, "train", "FOLD=1")
        finish(place)
        done = run_make(place, "folds", "train", "FOLD=1", "STARTED=0")
        weights = fold_run(runs_folder("carvana", "baseline"), 1).weights
        assert done.stdout == "", "made since make started"
        done = run_make(place, "folds", "train", "FOLD=1", f"STARTED={time.time() + 2:.0f}")
        lines = done.stdout.splitlines()
        assert [line.partition(" is up to date: ")[0] for line in lines] == [str(folds_csv("carvana")), str(weights)]
        assert all("what it is made from has not changed since 20" in line for line in lines)

    def test_an_evaluation_without_its_analysis_is_repeated_for_who_looks_at_it(self, make, place):
        make("predict")
        finish(place)
        (place / analysis_json(runs_folder("carvana", "baseline"))).unlink()
        assert make("predict") == [], "a submission does not need it"
        assert make("evaluate") == ["evaluate"]
        finish(place)
        assert make("evaluate") == []

    def test_watch_shows_all_recipes_unless_one_is_given(self, calls):
        (call,) = calls("watch", "COMPETITION=demo")
        assert call[1:] == ["scripts.watch", "--competition", "demo"]
        (call,) = calls("watch", "RECIPE=cpu")
        assert call[2:] == ["--competition", "carvana", "--recipe", "cpu"]

    def test_credentials_are_checked_before_a_submission_is_made(self, place):
        write_python(place, f"{RECORD}; test $2 != scripts.account")
        assert run_make(place, "submit").returncode == 2
        assert (place / "calls").read_text().split("\0")[:-1] == ["2", "-m", "scripts.account"]

    @pytest.mark.parametrize(
        ("file", "again"),
        [
            ("recipes/baseline.toml", [*["train"] * 5, "evaluate", "predict"]),
            ("competitions/carvana.toml", ["folds", *["train"] * 5, "evaluate", "predict"]),
            ("folds/carvana.csv", [*["train"] * 5, "evaluate", "predict"]),
            ("runs/carvana-baseline/fold2/weights.safetensors", ["evaluate", "predict"]),
            ("runs/carvana-baseline/evaluation.json", ["predict"]),
            ("submissions/carvana-baseline.csv.gz", []),
            ("recipes/cpu.toml", []),
            ("competitions/demo.toml", []),
            ("pipeline/rules.py", []),
            (".venv/ready", []),
        ],
    )
    def test_change_of_a_file_repeats_what_depends_on_it(self, make, place, file, again):
        write_python(place, WRITE_TARGET)
        assert make("predict") == ["folds", *["train"] * 5, "evaluate", "predict"]
        assert make("predict") == []
        (place / file).touch()
        assert make("predict") == again
        assert make("predict") == []

    def test_change_of_the_list_of_corrections_trains_again(self, make, place):
        toml, listed = (place / "competitions" / name for name in ("carvana.toml", "list.csv"))
        toml.write_text(toml.read_text().replace("[masks]\n", '[masks]\ncorrections = "list.csv"\n'))
        write_python(place, WRITE_TARGET)
        assert make("predict") == ["folds", *["train"] * 5, "evaluate", "predict"]
        listed.touch()
        assert make("predict") == [*["train"] * 5, "evaluate", "predict"]
        assert make("predict") == []

    def test_new_pseudo_labels_are_checked_with_the_options(self, calls, make, place):
        write_python(place, WRITE_TARGET)
        make("train")
        assert (make("train"), read_calls(place / "checks")) == ([], [])
        labels = place / "pseudo" / "carvana-cpu" / "fold0.csv"
        labels.parent.mkdir(parents=True)
        labels.touch()
        assert make("train") == []
        assert len(read_calls(place / "checks")) == 1

    def test_change_of_a_base_splits_again(self, make, place):
        path = place / folds_csv("carvana_hq")
        path.parent.mkdir()
        path.touch()
        assert make("folds", "COMPETITION=carvana_hq") == []
        age(place, 1000)
        os.utime(place / "competitions" / "carvana_hq.toml", (time.time() - 3000,) * 2)
        (place / "competitions" / "carvana.toml").touch()
        assert make("folds", "COMPETITION=carvana_hq") == ["folds"]

    def test_fold_all_is_trained_once(self, calls, make, place):
        first, last = calls("train", "FOLD=all")
        assert first[1] == "scripts.folds"
        assert (option(last, "--recipe"), option(last, "--fold")) == ("baseline", "all")
        for path in (folds_csv("carvana"), fold_run(runs_folder("carvana", "baseline"), "all").weights):
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).touch()
        assert make("train", "FOLD=all") == []
        assert make("train", "FOLD=0") == ["train"], "a fold is another training"

    def test_several_folds_are_trained_one_after_another(self, calls):
        assert [option(call, "--fold") for call in calls("train", "FOLD=3 1")[1:]] == ["3", "1"]
        assert option(calls("train", "FOLD=", "RECIPE=cpu")[-1], "--fold") == "0", "empty is the default"

    def test_each_recipe_of_an_ensemble_is_trained_by_itself(self, calls, make, place):
        both = "RECIPE=cpu+baseline"
        called = [(call[1], option(call, "--recipe")) for call in calls("predict", both)[1:]]
        training = [("scripts.train", "cpu")] * 5 + [("scripts.train", "baseline")] * 5
        assert called == [*training, ("scripts.evaluate", "cpu+baseline"), ("scripts.predict", "cpu+baseline")]
        finish(place, "cpu+baseline")
        assert make("predict", both) == []
        assert make("train-all", "RECIPE=cpu") == [], "trained for the ensemble is trained"
        assert make("predict", both, "FOLDS=0 1") == ["evaluate", "predict"]
        finish(place, "cpu+baseline")
        assert make("predict", both) == ["evaluate", "predict"]
        finish(place, "cpu+baseline")
        (place / fold_run(runs_folder("carvana", "cpu"), 3).weights).unlink()
        assert make("evaluate", both) == ["train", "evaluate"], "what is missing, and what depends on it"

    def test_all_folds_of_every_competition_are_trained(self, place):
        for path in sorted((ROOT / "competitions").glob("*.toml")):
            done = run_make(place, "-n", "train-all", f"COMPETITION={path.stem}", "RECIPE=demo")
            trained = re.findall(r"scripts\.train .*--fold (\w+)", done.stdout)
            assert trained == [str(fold) for fold in range(load_competition(path.stem).folds)]

    def test_demo_runs_all_stages_in_order(self, calls, place):
        chain = calls("demo", "RECIPE=cpu", "SET=$(touch x)", "MSG=`touch x`", "IMG=it's")
        names = [call[1].removeprefix("scripts.") for call in chain]
        assert names == ["render", "check", "folds", "train", "train", "evaluate", "predict", "score", "demo"]
        for call in chain[3:7]:
            assert (option(call, "--competition"), option(call, "--data")) == ("demo", "data/demo")
            assert option(call, "--recipe") == "demo"
        (check,) = read_calls(place / "checks")
        assert (option(check, "--recipe"), option(check, "--set"), option(check, "--seed")) == ("demo", "", "")
        assert [option(call, "--fold") for call in chain[3:5]] == ["0", "1"]
        assert not (place / "x").exists()


class TestFailures:
    def test_failed_stage_stops_the_chain(self, place):
        write_python(place, "echo $2 >> calls; test $2 != scripts.train")
        done = run_make(place, "predict")
        assert done.returncode == 2
        assert (place / "calls").read_text() == "scripts.options\nscripts.folds\nscripts.train\n"

    @pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_stage_leaves_no_target_and_runs_again(self, make, place, name):
        weights = place / fold_run(runs_folder("carvana", "baseline"), 0).weights
        self.interrupt(place, name)
        assert not weights.exists()
        write_python(place, RECORD)
        assert make("train") == ["folds", "train"]

    @pytest.mark.parametrize("fold", ["0", "all"])
    def test_interrupted_repetition_keeps_the_old_target_and_runs_again(self, make, place, fold):
        weights = self.finish_before(place, fold)
        self.interrupt(place, signal.SIGINT, f"FOLD={fold}")
        assert weights.read_text() == "old"
        write_python(place, RECORD)
        assert make("train", f"FOLD={fold}") == ["train"]

    @pytest.mark.parametrize("fold", ["0", "all"])
    def test_target_is_kept_if_make_is_interrupted_after_it_was_written(self, make, place, fold):
        """Stages write atomically, so a target that exists is complete."""
        weights = self.finish_before(place, fold)
        self.interrupt(place, signal.SIGINT, f"FOLD={fold}", then=f"echo new > {weights.relative_to(place)};")
        assert weights.read_text() == "new\n"
        write_python(place, RECORD)
        assert make("train", f"FOLD={fold}") == []

    @staticmethod
    def finish_before(place: Path, fold: str) -> Path:
        """Make the weights of a fold, and change the recipe afterwards."""
        run_make(place, "train", f"FOLD={fold}")  # writes the options
        weights = place / fold_run(runs_folder("carvana", "baseline"), parse_fold(fold)).weights
        for path in (place / folds_csv("carvana"), weights):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("old")
        time.sleep(0.02)  # clocks of file systems are coarse
        (place / "recipes" / "baseline.toml").touch()
        return weights

    @staticmethod
    def interrupt(place: Path, name: signal.Signals, *arguments: str, then: str = "") -> None:
        """Send a signal to make and to the stage that it runs, as a terminal does."""
        write_python(place, f'test "$2" != scripts.train || {{ {then} touch started; exec sleep 60; }}')
        command = ["make", f"PYTHON={PYTHON}", "train", *arguments]
        with subprocess.Popen(command, cwd=place, start_new_session=True, stderr=subprocess.DEVNULL) as process:
            end = time.monotonic() + 30
            while not (place / "started").exists() and process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            assert (place / "started").exists()
            os.killpg(process.pid, name)
            assert process.wait(timeout=30) != 0


class TestValues:
    GOALS = ("overlay", "blend", "gain", "submit", "check", "download", "estimate", "kernel", "kaggle-standin", "train")
    WANTED = {
        "scripts.overlay": {"": "IMG", "--weights": "MODEL"},
        "scripts.blend": {"": "FILES", "--weights": "WEIGHTS", "--out": "OUT"},
        "scripts.gain": {"": "FILES"},
        "scripts.submit": {"--file": "FILE", "--message": "MSG", "--data": "DATA"},
        "scripts.check": {"--data": "DATA"},
        "scripts.download": {"--data": "DATA"},
        "scripts.estimate": {"--data": "DATA", "--set": "SET", "--seed": "SEED"},
        "scripts.kernel": {"--set": "SET", "--seed": "SEED", "--user": "KAGGLE_USER", "--wheels": "WHEELS"},
        "scripts.account": {},
        "scripts.train": {"--data": "DATA"},
        "tests.standin": {"--data": "DATA"},
    }
    """Module -> option or "" for the positional argument -> variable of make."""
    VARIABLES = sorted({variable for options in WANTED.values() for variable in options.values()})

    def check(self, called: list[list[str]], value: Callable[[str], str]) -> None:
        by_module = {call[1]: call for call in called}
        assert by_module.keys() == self.WANTED.keys() | {"scripts.folds"}
        for module, options in self.WANTED.items():
            call = by_module[module]
            for name, variable in options.items():
                given = option(call, name) if name else call[2]
                assert given == value(variable), (module, variable)
        assert len(by_module["scripts.gain"]) == 3, "one argument, however many words"

    @pytest.mark.parametrize("value", HOSTILE)
    def test_values_arrive_as_typed_and_are_never_run(self, calls, place, value):
        called = calls(*self.GOALS, *(f"{variable}={value}" for variable in self.VARIABLES))
        self.check(called, lambda variable: value)
        (check,) = read_calls(place / "checks")
        assert (option(check, "--set"), option(check, "--seed")) == (value, value)
        assert not (place / "x").exists()

    @pytest.mark.parametrize("value", [value for value in HOSTILE if "touch" in value])
    def test_printing_commands_runs_nothing(self, place, value):
        done = run_make(place, "-n", *self.GOALS, *(f"{variable}={value}" for variable in self.VARIABLES))
        assert done.returncode == 0
        assert "scripts.train" in done.stdout
        assert not (place / "x").exists()
        assert not (place / "calls").exists()
        assert not (place / "folds").exists()

    def test_variables_are_not_mixed_up(self, calls):
        called = calls(*self.GOALS, *(f"{variable}=my {variable}" for variable in self.VARIABLES))
        self.check(called, lambda variable: f"my {variable}")

    def test_values_of_the_environment_arrive_too(self, calls, place):
        called = calls(*self.GOALS, **{variable: f"$(touch x) `{variable}`" for variable in self.VARIABLES})
        self.check(called, lambda variable: f"$(touch x) `{variable}`")
        assert not (place / "x").exists()

    @pytest.mark.parametrize("source", ["command line", "environment"])
    @pytest.mark.parametrize("value", ["$(shell touch x)", "`touch x`", "$$(touch x);touch x #"])
    def test_no_target_runs_any_value(self, place, calls, source, value):
        """Every target with every variable, in one call of make."""
        named = {"COMPETITION", "RECIPE", "FOLD", "FOLDS", "GPUS"}
        free = [name for name in VALUES if name not in named]
        assert set(free) >= {"DATA", "DRY_RUN", "FORCE", "RESUME", "PREDICT", "ALLOW_BROKEN", "TARGET", "MINUTES"}
        goals = sorted(
            set(re.findall(r"^([a-z][a-z-]*):", TEXT, re.MULTILINE))
            - {"clean", "clean-all", "new", "setup", "side-by-side"}
        )
        given = dict.fromkeys(free, value)
        typed = [f"{name}={text}" for name, text in given.items()] if source == "command line" else []
        called = calls(*goals, *typed, **({} if typed else given))
        assert option(next(call for call in called if call[1] == "scripts.check"), "--data") == value
        (fuzz,) = [call for call in called if call[1] == "tests.fuzz"]
        assert fuzz[2:] == [value, value]
        (submit,) = [call for call in called if call[1] == "scripts.submit"]
        assert submit[-2:] == ["--dry-run", "--force"]
        assert not (place / "x").exists()

    @pytest.mark.parametrize("goal", ["train", "train-all"])
    def test_number_of_gpus_runs_nothing(self, place, goal):
        done = run_make(place, goal, "GPUS=$(shell touch x)`touch x`;touch x")
        assert done.returncode == 2
        assert "give the number of GPUs, 1 to 64" in done.stderr
        assert not (place / "x").exists()

    def test_failed_blend_is_not_hidden_by_its_output(self, place):
        write_python(place, "test $2 != scripts.blend")
        assert run_make(place, "blend", "FILES=a b", "OUT=x; true").returncode == 2

    def test_values_may_be_empty(self, calls):
        finished = calls("check", "download", "train", "kernel", "estimate", "overlay")
        assert option(finished[0], "--data") == ""
        assert "--set" not in finished[-3], "it is not given"
        assert finished[-1] == [
            "-m", "scripts.overlay", "", "--competition", "carvana", "--recipe", "baseline", "--weights", "",
        ]  # fmt: skip

    @pytest.mark.parametrize("value", HOSTILE)
    def test_new_competition_has_any_name(self, calls, place, value):
        """The script refuses names that are not file names; make must not run them before."""
        (call,) = calls("new", f"COMPETITION={value}", f"DATA={value}")
        assert call == ["-m", "scripts.new", "--competition", value, "--data", value]
        assert not (place / "x").exists()

    @pytest.mark.parametrize(
        ("choices", "flags"),
        [
            ([], []),
            (["DRY_RUN=1"], ["--dry-run"]),
            (["FORCE=1"], ["--force"]),
            (["DRY_RUN=1", "FORCE=1"], ["--dry-run", "--force"]),
        ],
    )
    def test_switches_of_submit(self, calls, choices, flags):
        _, call = calls("submit", "FILE=a.csv", *choices)
        assert call[call.index("--message") + 2 :] == flags

    @pytest.mark.parametrize(
        ("choices", "flags"), [([], []), (["RESUME=1"], ["--resume"]), (["PREDICT=1"], ["--predict"])]
    )
    def test_switches_of_kernel(self, calls, choices, flags):
        (call,) = calls("kernel", "FOLDS=0 1", *choices)
        assert call[call.index("--wheels") + 2 :] == flags
        assert option(call, "--folds") == "0 1"

    def test_submit_makes_the_submission_unless_a_file_is_named(self, make):
        assert make("submit", "FILE=a.csv") == ["account", "submit"]
        assert make("submit") == ["account", "folds", *["train"] * 5, "evaluate", "predict", "submit"]


class TestNames:
    BAD = [value for value in HOSTILE if not value.startswith("-")] + ["%", "*", "carvana demo", "../x/carvana", "nope"]

    @pytest.mark.parametrize("value", BAD)
    def test_competition_and_recipe_are_refused_by_name(self, refuse, value):
        word = (value.split() or [""])[0]
        for variable, folder in (("COMPETITION", "competitions"), ("RECIPE", "recipes")):
            message = refuse("train", f"{variable}={value}")
            no_file = f"{folder}/{word}" in message and ": no such file; there is " in message
            assert no_file or f"error: '{value}': is not a name of a competition or recipe" in message, message

    @pytest.mark.parametrize("value", BAD + ["5", "-1", "0 9", "0,1", "ALL"])
    @pytest.mark.parametrize("variable", ["FOLD", "FOLDS"])
    def test_folds_are_refused_by_name(self, refuse, variable, value):
        message = refuse("train", f"{variable}={value}")
        assert f"{variable}={value.splitlines()[0]}" in message
        assert "the folds of carvana are 0 1 2 3 4; FOLD may be all" in message

    @pytest.mark.parametrize(
        ("choice", "sentence"),
        [
            ("FOLDS=all", "FOLDS=all: without validation images there is nothing to evaluate; set FOLD=all"),
            ("FOLDS=0 all", "without validation images there is nothing to evaluate"),
            ("FOLD=9", "FOLD=9 FOLDS=: the folds of carvana are 0 1 2 3 4; FOLD may be all"),
            ("RECIPE=cpu+cpu", "recipe 'cpu+cpu': needs different names joined by +"),
            ("RECIPE=cpu+nope", "recipes/nope.toml: no such file; there is recipes/baseline.toml"),
            ("RECIPE=cpu baseline", "'cpu baseline': is not a name of a competition or recipe"),
            (
                "COMPETITION=carvanna",
                "competitions/carvanna.toml: no such file; there is competitions/airbus-ship.toml",
            ),
        ],
    )
    def test_wrong_choice_is_refused_with_a_sentence(self, refuse, choice, sentence):
        assert sentence in refuse("predict", choice)

    def test_ensemble_is_not_one_training(self, refuse):
        message = refuse("train", "RECIPE=cpu+baseline")
        assert "RECIPE=cpu+baseline is an ensemble; train one of its recipes, or all with make train-all" in message

    def test_old_python_is_refused_with_a_sentence(self, place):
        shutil.rmtree(place / ".make")
        pretend = "import runpy, sys; sys.version_info = (3, 10); sys.version = '3.10.9 (main)'"
        command = f"{pretend}; runpy.run_module('scripts.rules', run_name='__main__')"
        (place / "old").write_text(f'#!/bin/sh\nexec {PYTHON} -c "{command}"\n')
        (place / "old").chmod(0o755)
        done = run_make(place, "PYTHON=./old", "train")
        assert done.returncode == 2
        assert "error: Python 3.11 or newer is needed, this is 3.10.9; run make PYTHON=python3.12 ..." in done.stderr
        assert not (place / "calls").exists()


class TestGpus:
    def test_one_fold_on_several_gpus_is_started_by_torchrun(self, calls):
        (call,) = [call for call in calls("train", "GPUS=2") if "scripts.train" in call]
        assert call[:7] == [
            "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "3",
        ]  # fmt: skip
        assert call[7:9] == ["-m", "scripts.train"]
        assert call[-4:] == ["--recipe", "baseline", "--fold", "0"]

    def test_folds_run_side_by_side_and_one_failure_leaves_the_others(self, place):
        code = 'case "$2$*" in scripts.train*"fold 1") exit 1 ;; esac; test $2 != scripts.train || sleep 0.5'
        write_python(
            place, f"test $2 != scripts.train || echo $GPU_SLOTS $TQDM_DISABLE >> slots; {code}\n{WRITE_TARGET}"
        )
        started = time.monotonic()
        done = run_make(place, "train-all", "GPUS=5")
        assert done.returncode == 2
        assert time.monotonic() - started < 2.5, "five trainings of half a second at once"
        assert (place / "slots").read_text() == "5 1\n" * 5
        trained = [fold_run(runs_folder("carvana", "baseline"), fold).weights for fold in range(5)]
        assert [(place / weights).exists() for weights in trained] == [True, False, True, True, True]

    def test_part_of_a_prediction_needs_nothing_else(self, calls):
        (call,) = calls("predict", "SHARD=3/16")
        assert call[1] == "scripts.predict"
        assert option(call, "--shard") == "3/16"


class TestTargets:
    def public_targets(self) -> set[str]:
        return set(re.findall(r"^([a-z][a-z-]*):", TEXT, re.MULTILINE))

    def test_plain_make_lists_every_public_target(self, place):
        done = run_make(place)
        assert done.returncode == 0
        usage, *lines = done.stdout.splitlines()
        assert usage.startswith("make TARGET [COMPETITION=carvana] [RECIPE=baseline]")
        assert [line.split()[0] for line in lines] == re.findall(r"^([a-z][a-z-]*):", TEXT, re.MULTILINE)
        assert all(len(line.split()) > 2 for line in lines), "each has a description"
        assert run_make(place, "help").stdout == done.stdout
        assert not (place / "calls").exists()

    def test_public_targets_are_phony(self):
        phony = " ".join(re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", TEXT, re.MULTILINE))
        assert set(phony.replace("\\\n", " ").split()) - {"FORCE"} == self.public_targets()

    def test_file_named_like_a_target_is_no_result(self, make, place):
        (place / "check").touch()
        assert make("check") == ["check"]

    @pytest.mark.parametrize("script", sorted(set(re.findall(r"\$\(RUN\)\.(\w+)", TEXT))))
    def test_every_script_exists(self, script):
        assert (ROOT / "scripts" / f"{script}.py").exists()

    def test_tools_run_in_the_environment(self, place):
        done = run_make(place, "-n", "test", "test-fast", "lint", "format")
        commands = [line.partition(" ## ")[0] for line in done.stdout.splitlines() if line]
        assert commands == [
            ".venv/bin/python -m pytest -n auto --dist worksteal",
            '.venv/bin/python -m pytest -n auto --dist worksteal -m "not slow"',
            ".venv/bin/python -m ruff check . && .venv/bin/python -m ruff format --check . && .venv/bin/python -m mypy",
            ".venv/bin/python -m ruff format . && .venv/bin/python -m ruff check --fix .",
        ]

    def test_packages_are_installed_once(self, make, calls, place):
        assert make("check") == ["check"], "the environment is ready"
        os.utime(place / ".venv" / "ready", (time.time() - 1000,) * 2)
        os.utime(place / "requirements.lock", (time.time() - 500,) * 2)
        called = calls("check")
        assert [call[1] for call in called] == ["pip", "uv", "scripts.check"]
        assert called[1][-1] == "requirements.lock"
        assert make("check") == ["check"]

    def test_clean_keeps_data_runs_and_submissions(self, place):
        finish(place)
        kept = sorted(path for path in place.rglob("*") if ".make" not in path.parts)
        for name in ("data/demo", "data/carvana", "runs/demo", "overlays/demo", ".ruff_cache"):
            (place / name).mkdir(parents=True)
        for name in ("folds/demo.csv", "submissions/demo.csv.gz", "submissions/demo.json"):
            (place / name).touch()
        assert run_make(place, "clean").returncode == 0
        left = sorted(path for path in place.rglob("*") if "__pycache__" not in path.parts)
        assert left == sorted([*kept, place / "data", place / "data" / "carvana", place / "overlays"])
        assert run_make(place, "clean-all").returncode == 0
        assert not (place / ".venv").exists()
        assert (place / folds_csv("carvana")).exists()


def test_the_makefile_is_short():
    lines = (ROOT / "Makefile").read_text().splitlines()
    assert len(lines) <= 110
    assert max(map(len, lines)) <= 110
