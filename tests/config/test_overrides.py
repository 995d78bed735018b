"""Stages after a training use its SET and SEED again, unless others are given; an empty value resets them."""

import os

import pytest

from pipeline.errors import UserError
from pipeline.overrides import (
    Overrides,
    given_overrides,
    load_run_recipe,
    load_run_recipes,
    read_overrides,
    save_overrides,
    touch_overrides,
)
from pipeline.paths import overrides_json, pseudo_csv, recipe_toml
from pipeline.recipe import load_recipe

NOT_GIVEN = Overrides()


def test_a_folder_without_a_training_has_no_overrides(tmp_path):
    assert read_overrides(tmp_path) == Overrides("", "")
    assert load_run_recipe("demo", tmp_path, NOT_GIVEN)[0] == load_run_recipe("demo", tmp_path, Overrides("", ""))[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (NOT_GIVEN, ("train.epochs=3", "7")),
        (Overrides("", None), ("", "7")),
        (Overrides(None, ""), ("train.epochs=3", "")),
        (Overrides("train.epochs=5", None), ("train.epochs=5", "7")),
        (Overrides("", ""), ("", "")),
    ],
)
def test_what_is_not_given_is_that_of_the_last_training(tmp_path, given, expected):
    save_overrides(tmp_path, Overrides("train.epochs=3", "7"))
    recipe, overrides = load_run_recipe("demo", tmp_path, given)
    plain = load_run_recipe("demo", tmp_path, Overrides("", ""))[0]
    assert overrides == Overrides(*expected)
    assert recipe.seed == int(expected[1] or plain.seed)
    assert recipe.train.epochs == int(expected[0].removeprefix("train.epochs=") or plain.train.epochs)


def test_remembered_options_are_named(tmp_path, caplog):
    caplog.set_level("INFO")
    save_overrides(tmp_path, Overrides("train.epochs=3", "7"))
    load_run_recipe("demo", tmp_path, Overrides("train.epochs=3", "7"))
    assert not caplog.messages
    load_run_recipe("demo", tmp_path, Overrides(None, "7"))
    (message,) = caplog.messages
    assert message == f"{tmp_path}: uses SET='train.epochs=3', as its last training did; SET= and SEED= reset them"


def test_each_recipe_of_an_ensemble_has_its_own(tmp_path):
    save_overrides(tmp_path / "b", Overrides("train.epochs=3", ""))
    first, second = load_run_recipes("cpu+demo", [tmp_path / "a", tmp_path / "b"], NOT_GIVEN)
    assert (first.name, second.name, second.train.epochs) == ("cpu", "demo", 3)
    assert first.train.epochs != 3


def test_the_file_changes_only_with_its_content(tmp_path):
    path = overrides_json(tmp_path)
    save_overrides(tmp_path, Overrides("a=1", ""))
    os.utime(path, (1, 1))
    save_overrides(tmp_path, Overrides("a=1", ""))
    assert path.stat().st_mtime == 1
    save_overrides(tmp_path, Overrides("a=2", ""))
    assert path.stat().st_mtime > 1
    assert read_overrides(tmp_path) == Overrides("a=2", "")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}', "\n\n"])
def test_a_damaged_file_is_named(tmp_path, text):
    overrides_json(tmp_path).write_text(text)
    with pytest.raises(UserError, match="does not hold the options of a training; delete it"):
        read_overrides(tmp_path)


def test_options_may_be_repeated():
    assert given_overrides(["a=1", "b=[1, 2]"], "3").assignments() == ["a=1", "b=[1, 2]", "seed=3"]
    assert given_overrides([""], None) == Overrides("", None)
    assert given_overrides(None, None) == given_overrides([], None) == NOT_GIVEN


def test_the_file_is_newer_than_the_pseudo_labels_of_its_recipe(tmp_path, monkeypatch):
    plain, taught = load_recipe("quick"), load_recipe("quick", ["train.pseudo=cpu"])
    monkeypatch.chdir(tmp_path)
    save_overrides(tmp_path, Overrides("", ""))
    labels = pseudo_csv("carvana", "cpu", 1)
    for path in (recipe_toml("quick"), labels):
        path.parent.mkdir(parents=True)
        path.touch()
    times = {recipe_toml("quick"): 1, overrides_json(tmp_path): 2, labels: 3}
    for path, seconds in times.items():
        os.utime(path, (seconds, seconds))
    for recipe, touched in ((plain, False), (taught, True)):
        touch_overrides(tmp_path, "carvana", recipe)
        assert (overrides_json(tmp_path).stat().st_mtime > 3) == touched
