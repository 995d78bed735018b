"""Stages of a competition and a recipe, and the Makefile rules written from them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.rules import makefile_rules, write_rules
from pipeline.stages import (
    competition_files,
    describe_up_to_date,
    fold_numbers,
    folds_stage,
    result_stages,
    split_recipe_names,
    train_stage,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("competitions", "recipes"):
        (tmp_path / folder).mkdir()
    Path("competitions/cars.toml").write_text("folds = 2\n")
    Path("competitions/hq.toml").write_text('base = "cars"\nfolds = 3\n')
    Path("competitions/same.toml").write_text('base = "cars"\n')
    for name in ("a", "b"):
        Path(f"recipes/{name}.toml").touch()


def test_only_files_from_before_are_up_to_date(tmp_path):
    """A file that was made since make started is announced by its stage; a missing one failed."""
    for name, written in (("old", 1000.0), ("older", 500.5), ("new", 2000.0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (written, written))
    lines = describe_up_to_date([tmp_path / name for name in ("old", "older", "new", "missing")], 2000).splitlines()
    assert [line.partition(" is up to date: ")[0] for line in lines] == [f"{tmp_path}/old", f"{tmp_path}/older"]
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(1000))
    assert f"what it is made from has not changed since {day}; to make it again, delete it" in lines[0]
    assert describe_up_to_date([], 0) == ""


class TestRecipeNames:
    @pytest.mark.parametrize(("text", "names"), [("a", ["a"]), ("b+a", ["b", "a"]), ("a+b+c+d", ["a", "b", "c", "d"])])
    def test_names_are_joined_by_plus(self, text, names):
        assert split_recipe_names(text) == names

    @pytest.mark.parametrize("text", ["", "+", "a+", "+a", "a++b", "a+a", "a+b+a"])
    def test_empty_and_repeated_names_are_refused(self, text):
        with pytest.raises(UserError) as caught:
            split_recipe_names(text)
        assert str(caught.value) == (
            f"recipe '{text}': needs different names joined by +; write for example cpu+baseline"
        )

    def test_more_than_four_are_refused(self):
        with pytest.raises(UserError, match=r"recipe 'a\+b\+c\+d\+e': joins 5 recipes; use at most 4"):
            split_recipe_names("a+b+c+d+e")


class TestStages:
    def test_competition_depends_on_its_file_and_its_base(self):
        assert competition_files("cars") == [Path("competitions/cars.toml")]
        assert competition_files("hq") == [Path("competitions/hq.toml"), Path("competitions/cars.toml")]

    @pytest.mark.parametrize(("name", "folds"), [("cars", [0, 1]), ("hq", [0, 1, 2]), ("same", [0, 1])])
    def test_folds_are_those_of_the_file_or_its_base(self, name, folds):
        assert fold_numbers(name) == folds

    @pytest.mark.parametrize("text", ["", 'folds = "5"', "folds = 2.5"])
    def test_missing_number_of_folds_is_named(self, text):
        Path("competitions/x.toml").write_text(text)
        with pytest.raises(UserError, match=r"competitions/x\.toml: folds is missing; set it to a number such as 5"):
            fold_numbers("x")

    def test_each_stage_needs_what_the_stage_before_makes(self):
        folds, train = folds_stage("hq"), train_stage("hq", "a", 1)
        assert (folds.script, folds.target, folds.options) == ("folds", Path("folds/hq.csv"), ())
        assert folds.needs == tuple(competition_files("hq"))
        assert (train.script, train.target) == ("train", Path("runs/hq-a/fold1/weights.safetensors"))
        assert train.needs == (Path("recipes/a.toml"), folds.target)
        assert train.options == ("--recipe", "a", "--fold", "1")
        assert train_stage("hq", "a", "all").options[-1] == "all"
        evaluate, predict = result_stages("hq", "a+b", [2, 0])
        assert (evaluate.script, evaluate.target) == ("evaluate", Path("runs/hq-a+b/evaluation.json"))
        assert evaluate.needs == tuple(train_stage("hq", name, fold).target for name in "ab" for fold in (2, 0))
        assert (predict.script, predict.target) == ("predict", Path("submissions/hq-a+b.csv.gz"))
        assert predict.needs == (evaluate.target,)
        assert evaluate.options == predict.options == ("--recipe", "a+b")


RULES = """\
# Written by scripts/rules.py from competitions/cars.toml.
STARTED := $(shell date +%s)
ifneq ($(filter-out 0 1 all,$(FOLD) $(FOLDS)),)
$(error FOLD=$(FOLD) FOLDS=$(FOLDS): the folds of cars are 0 1; FOLD may be all)
endif
ifneq ($(filter all,$(FOLDS)),)
$(error FOLDS=all: without validation images there is nothing to evaluate; set FOLD=all)
endif
ifneq ($(filter-out {GPUS},$(GPUS)),)
$(error GPUS=$(GPUS): give the number of GPUs, 1 to 64)
endif
RUNS := runs/cars-a
STAMPS := runs/cars-a/.options
FOLDS_CSV := folds/cars.csv
TRAINED_FOLD := $(patsubst %,runs/cars-a/fold%/weights.safetensors,$(or $(FOLD),0))
TRAINED := $(patsubst %,runs/cars-a/fold%/weights.safetensors,$(or $(FOLDS),0 1))
EVALUATION := runs/cars-a/evaluation.json
SUBMISSION_CSV := submissions/cars-a.csv.gz

folds/cars.csv: competitions/cars.toml | .venv/ready
\t$(RUN).folds $(DATA_OPTIONS)

runs/cars-a/.options: recipes/a.toml $(wildcard pseudo/cars*/fold*.csv) $(if $(strip $(SET_OPTIONS)),FORCE) | .venv/ready
\t@$(RUN).options --competition cars --recipe a $(SET_OPTIONS)

runs/cars-a/fold0/weights.safetensors: runs/cars-a/.options recipes/a.toml folds/cars.csv | .venv/ready
\t$(TRAIN) $(DATA_OPTIONS) --recipe a --fold 0

runs/cars-a/fold1/weights.safetensors: runs/cars-a/.options recipes/a.toml folds/cars.csv | .venv/ready
\t$(TRAIN) $(DATA_OPTIONS) --recipe a --fold 1

runs/cars-a/foldall/weights.safetensors: runs/cars-a/.options recipes/a.toml folds/cars.csv | .venv/ready
\t$(TRAIN) $(DATA_OPTIONS) --recipe a --fold all

runs/cars-a/.scope: FORCE
\t@mkdir -p $(@D); printf '%s\\n' "$$DATA" "$$FOLDS" | cmp -s - $@ || printf '%s\\n' "$$DATA" "$$FOLDS" > $@

runs/cars-a/evaluation.json: runs/cars-a/.options $(TRAINED) runs/cars-a/.scope MISSING | .venv/ready
\t$(RUN).evaluate $(DATA_OPTIONS) --folds "$$FOLDS" --recipe a

submissions/cars-a.csv.gz: runs/cars-a/.options $(TRAINED) runs/cars-a/.scope runs/cars-a/evaluation.json | .venv/ready
\t$(RUN).predict $(DATA_OPTIONS) --folds "$$FOLDS" --recipe a

""".replace(
    "MISSING",
    "$(if $(filter evaluate report,$(MAKECMDGOALS)),$(if $(wildcard runs/cars-a/analysis.json),,FORCE))",
).replace("{GPUS}", " ".join(map(str, range(1, 65))))


class TestRules:
    def test_rules_of_one_recipe(self):
        assert makefile_rules("cars", "a").rstrip() == RULES.rstrip()

    def test_rules_of_an_ensemble_train_every_recipe(self):
        lines = makefile_rules("hq", "a+b").splitlines()
        assert "RUNS := runs/hq-a+b" in lines
        assert "folds/hq.csv: competitions/hq.toml competitions/cars.toml | .venv/ready" in lines
        pattern = "$(patsubst %,runs/hq-{}/fold%/weights.safetensors,$(or $(FOLDS),0 1 2))"
        assert f"TRAINED := {pattern.format('a')} {pattern.format('b')}" in lines
        targets = [line.partition(":")[0] for line in lines if "| .venv/ready" in line]
        made = [".options", *(f"fold{fold}/weights.safetensors" for fold in (0, 1, 2, "all"))]
        runs = [f"runs/hq-{name}/{file}" for name in "ab" for file in made]
        assert targets == ["folds/hq.csv", *runs, "runs/hq-a+b/evaluation.json", "submissions/hq-a+b.csv.gz"]
        assert any(line.startswith("runs/hq-b/fold2/") and "runs/hq-b/.options" in line for line in lines)
        assert any(
            line.startswith("runs/hq-a+b/evaluation.json: runs/hq-a/.options runs/hq-b/.options $(TRAINED)")
            for line in lines
        )
        (single,) = [line for line in lines if line.startswith("TRAINED_FOLD")]
        assert "$(error RECIPE=a+b is an ensemble; train one of its recipes, or all with make train-all)" in single

    def test_number_of_folds_comes_from_the_file(self):
        Path("competitions/cars.toml").write_text("folds = 1\n")
        assert "TRAINED := $(patsubst %,runs/cars-a/fold%/weights.safetensors,$(or $(FOLDS),0))" in makefile_rules(
            "cars", "a"
        )

    @pytest.mark.parametrize(
        "name",
        ["", "a b", "a;b", "a'b", 'a"b', "a`b`", "$(x)", "$x", "a/b", "a%", "a*", "a#b", "a:b", "a=b", "a\\b", "a\n"],
    )
    def test_names_that_make_or_the_shell_would_interpret_are_refused(self, name):
        for arguments in ((name, "a"), ("cars", name)):
            with pytest.raises(UserError) as caught:
                makefile_rules(*arguments)
            assert str(caught.value) == (
                f"'{name}': is not a name of a competition or recipe; use letters, digits, '_', '-' and '.' only"
            )

    def test_missing_files_are_named_with_the_existing_ones(self):
        with pytest.raises(UserError, match=r"competitions/cats\.toml: no such file; files in .* are: cars, hq, same"):
            makefile_rules("cats", "a")
        with pytest.raises(UserError, match=r"recipes/c\.toml: no such file; files in recipes/ are: a, b"):
            makefile_rules("cars", "a+c")
        with pytest.raises(UserError, match=r"recipe 'a\+a': needs different names"):
            makefile_rules("cars", "a+a")


def test_rules_are_written_by_a_python_without_packages():
    environment = {"RULES": "out/x.mk", "COMPETITION": "cars", "RECIPE": "a", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-S", "-m", "scripts.rules"]
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert Path("out/x.mk").read_text() == makefile_rules("cars", "a")
    done = subprocess.run(command, env=environment | {"RECIPE": "c"}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: recipes/c.toml: no such file; files in recipes/ are: a, b\n"


def test_rules_are_never_older_than_their_sources():
    """Else a competition file from the future makes the Makefile remake the rules without end."""
    path, source = Path("rules.mk"), Path("competitions/cars.toml")
    write_rules(path, "cars", "a")
    assert path.read_text() == makefile_rules("cars", "a")
    os.utime(source, (time.time() + 1e5,) * 2)
    write_rules(path, "cars", "a")
    assert path.stat().st_mtime >= source.stat().st_mtime
