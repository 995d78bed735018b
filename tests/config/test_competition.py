"""Files of competitions: a base is extended, and every wrong key or value is named with its file and the fix."""

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import ValidationError

from pipeline.competition import RENAMED_KEYS, Competition, InstancesConfig, load_competition
from pipeline.competition.files import MasksConfig, is_pattern, template_fields
from pipeline.errors import UserError
from tests.helpers import TINY, changed

CLASSES = {
    "classes": ["cat", "dog"],
    "csv.columns": {"key": "{id}_{class}", "rle": "{rle}"},
    "csv.rows": "class",
}
"""Changes that give the tiny competition classes."""


@pytest.fixture
def write(tmp_path):
    """Write x.toml with some of the tiny competition's keys changed; None removes one."""

    def write_changed(changes: dict[str, Any]) -> Path:
        values = {name: dict(table) if isinstance(table, dict) else table for name, table in TINY.items()}
        del values["name"]
        for key, value in changes.items():
            *tables, last = key.split(".")
            target = values
            for table in tables:
                target = target.setdefault(table, {})
            if value is None:
                target.pop(last, None)
            else:
                target[last] = value
        path: Path = tmp_path / "x.toml"
        path.write_text(tomli_w.dumps(values))
        return path

    return write_changed


@pytest.fixture
def load(write):
    return lambda **changes: load_competition("x", write({k.replace("__", "."): v for k, v in changes.items()}).parent)


@pytest.fixture
def fault(write):
    """Return the message about a file that is not valid, without the path."""

    def read(changes: dict[str, Any]) -> str:
        path = write(changes)
        with pytest.raises(UserError) as caught:
            load_competition("x", path.parent)
        assert caught.value.where == str(path)
        return str(caught.value).removeprefix(f"{path}: ")

    return read


def test_competition_is_named_after_its_file(load):
    competition = load()
    assert competition == Competition.model_validate({**TINY, "name": "x"})
    assert (competition.name, competition.folds, competition.num_classes) == ("x", 2, 1)


def test_defaults_are_those_of_the_documentation(load):
    competition = load(masks={"train": "m", "suffixes": [".png"]}, groups=None)
    assert (competition.metric, competition.beta, competition.fold_seed, competition.slug) == ("dice", 2.0, 0, None)
    assert competition.masks == MasksConfig(
        train="m", suffixes=(".png",), positive="nonzero", may_be_empty=False, area=(0.0, 1.0)
    )
    csv = competition.csv
    assert (csv.rows, csv.offsets, csv.base, csv.empty, csv.size) == ("image", "absolute", 1, "", None)
    assert competition.instances == InstancesConfig(split="components", min_distance=5)
    assert (competition.groups, competition.download, competition.notebook) == (None, None, None)
    assert (competition.classes, competition.exclusive) == ((), False)


def test_classes_are_counted(write):
    competition = load_competition("x", write(CLASSES).parent)
    assert (competition.num_classes, competition.classes) == (2, ("cat", "dog"))


def test_base_is_extended(write, tmp_path):
    write({})
    (tmp_path / "y.toml").write_text('base = "x"\ntitle = "Y"\nfolds = 3\n[images]\ntrain = "other"\n')
    x, y = load_competition("x", tmp_path), load_competition("y", tmp_path)
    assert (y.name, y.title, y.folds, y.images.train) == ("y", "Y", 3, "other")
    assert (y.images.test, y.masks, y.csv, y.groups) == (x.images.test, x.masks, x.csv, x.groups)


def test_missing_competition_lists_the_others(write):
    with pytest.raises(UserError, match=r"y\.toml: no such file; files in .* are: x$"):
        load_competition("y", write({}).parent)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fold": 5}, "fold is not a known key; did you mean folds?"),
        ({"fold_sed": 5}, "fold_sed is not a known key; did you mean fold_seed?"),
        ({"csv.oder": "row"}, "csv.oder is not a known key; did you mean csv.order?"),
        ({"positive": 1}, "positive is not a known key; did you mean masks.positive?"),
        ({"csv.id": "{name}"}, "csv.id is now called images.id, a template such as {name} or {stem}; rename it"),
        ({"title": None}, "title is missing; add it"),
        ({"csv.order": None}, "csv.order is missing; add it"),
        ({"csv.order": "diagonal"}, "csv.order is 'diagonal'; expected 'row' or 'column'"),
        ({"csv.base": 2}, "csv.base is 2; expected 0 or 1"),
        ({"csv.columns": {"rle": "{rle}"}}, "csv.columns is {'rle': '{rle}'}; expected 2 or more values"),
        ({"masks.positive": 7}, "masks.positive is 7; expected 1, 255 or 'nonzero'"),
        ({"masks.may_be_empty": "perhaps"}, "masks.may_be_empty is 'perhaps'; expected true or false"),
        ({"folds": 0}, "folds is 0; expected 1 or more"),
        ({"folds": "five"}, "folds is 'five'; expected a whole number"),
        ({"beta": 0}, "beta is 0; expected more than 0"),
        (
            {"metric": "accuracy"},
            "metric is 'accuracy'; expected 'dice', 'iou', 'f_beta', 'dice_hausdorff', 'map_iou' or 'f_beta_iou'",
        ),
        ({"instances.min_distance": 0}, "instances.min_distance is 0; expected 1 or more"),
        ({"groups.size": 0}, "groups.size is 0; expected 1 or more"),
        ({"notebook": {"minutes": 0, "images": 1}}, "notebook.minutes is 0; expected more than 0"),
        ({"download": {"files": []}}, "download.files is []; expected 1 or more values"),
        ({"images": "train"}, "images is 'train'; expected a table"),
        ({"images.suffixes": ".jpg"}, "images.suffixes is '.jpg'; expected a list in brackets"),
    ],
)  # fmt: skip
def test_wrong_key_or_value_is_named_with_the_fix(fault, changes, reason):
    assert fault(changes) == reason


@pytest.mark.parametrize(
    ("changes", "what", "expected"),
    [
        ({"groups.pattern": "("}, "groups.pattern is '('", "expected a regular expression ("),
        ({"groups.pattern": "abc"}, "groups.pattern is 'abc'", "expected a capture group in parentheses"),
        ({"groups.name": "{id}"}, "groups is", "expected one of pattern, name and column"),
        ({"groups": {"column": "car"}}, "groups is", "expected csv, the table with the column"),
        ({"groups": {"name": "{id}", "stratum": "x"}}, "groups is", "expected csv, the table with the column"),
        ({"groups": {"size": 2}}, "groups is", "expected pattern, name, or csv with column or stratum"),
        ({"groups": {"csv": "a.csv"}}, "groups is", "expected pattern, name, or csv with column or stratum"),
        ({"images.suffixes": []}, "images is", "expected suffixes, because images are given as a folder"),
        (
            {"images.suffixes": [], "images.train": "{id}.png"},
            "images is",
            "expected suffixes, because images are given as a folder",
        ),
        ({"images.range": [5, 5]}, "images is", "expected range = [lowest, highest] with lowest below highest"),
        (
            {"images.slices": {"field": "z", "offsets": [0]}, "images.train": "{z}.png", "images.test": "{y}.png"},
            "images is",
            "expected {z}, the field of slices, in every path of images",
        ),
        ({"images.slices": {"field": "z"}}, "images.slices is", "expected either offsets or values"),
        ({"images.slices": {"field": "z", "offsets": [1]}}, "images.slices is", "expected 0 among the offsets"),
        (
            {"images": {"train": "{z}.png", "channels": 2, "slices": {"field": "z", "offsets": [0]}}},
            "images is",
            "expected channels or slices, not both",
        ),
        ({"metric": "dice_hausdorff"}, "", "expected images.slices with offsets"),
        ({"windows": {"size": [8, 64]}}, "windows is", "expected a size of at least 16 pixels"),
        ({"windows": {"size": [64, 64]}}, "", "expected masks.may_be_empty = true, because windows are binarized"),
        (
            {"windows": {"size": [64, 64]}, "masks.may_be_empty": True, "csv.size": [4, 4]},
            "",
            "expected no windows, because objects and another csv.size need whole masks",
        ),
        ({"masks.suffixes": []}, "", "expected masks.suffixes, because masks.train is a folder"),
        ({"masks.train": None, "csv.train": None}, "", "expected masks.train (mask files) or csv.train (run-length"),
        ({"images.val": "val", "folds": 1}, "", "expected both images.val and masks.val, or neither"),
        ({"masks.val": "val"}, "", "expected both images.val and masks.val, or neither"),
        ({"images.val": "val", "masks.val": "v"}, "", "expected folds = 1, because there is a val folder"),
        ({"folds": 1}, "", "expected folds = 2 or more, or a val folder"),
        (
            {"csv.columns": {"a": "{id}", "b": "{rle}", "c": "{size}"}},
            "csv.columns is",
            "expected only the fields {id}, {class} and {rle}, found {size}",
        ),
        ({"csv.columns": {"a": "{id}", "b": "x{rle}"}}, "csv.columns is", 'expected one column that is "{rle}"'),
        ({"csv.columns": {"a": "x", "b": "{rle}"}}, "csv.columns is", 'expected one column that is "{rle}"'),
        (
            {"csv.columns": {"a": "{id}", "b": "{rle}", "c": "{id}"}},
            "csv.columns is",
            'expected one column that is "{rle}" and one with {id}, each field once',
        ),
        ({"csv.train_columns": {"a": "x", "b": "{rle}"}}, "csv.train_columns is", 'expected one column that is "{rle}"'),
        ({"classes": ["cat"]}, "", "expected classes to be two or more different names, or to be left out"),
        (CLASSES | {"classes": ["cat", "cat"]}, "", "expected classes to be two or more different names"),
        ({"classes": ["cat", "dog"]}, "", "expected {class} in csv.columns exactly if there are classes"),
        (CLASSES | {"classes": []}, "", "expected {class} in csv.columns exactly if there are classes"),
        (
            CLASSES | {"csv.train_columns": {"a": "{id}", "b": "{rle}"}},
            "",
            "expected {class} in csv.columns exactly if there are classes",
        ),
        ({"csv.rows": "class"}, "", 'expected classes, because csv.rows is "class"'),
        (
            CLASSES | {"csv.rows": "image"},
            "",
            'expected csv.rows to be "class" or "instance", because there are classes',
        ),
    ],
)  # fmt: skip
def test_keys_that_contradict_each_other_are_refused(fault, changes, what, expected):
    sentence = fault(changes)
    assert sentence.startswith(what)
    assert f"; {expected}" in sentence


@pytest.mark.parametrize(
    "changes",
    [
        {"images.val": "val", "masks.val": "val_masks", "folds": 1},
        {"images.val": "val", "masks.train": None, "folds": 1},
        {"masks.train": None},
        {"masks.train": "{id}/masks/*.png", "masks.suffixes": []},
        {"images": {"train": "train/{id}/*.png", "test": "test/*/{id}.png"}},
        {"groups": {"csv": "meta.csv", "stratum": "organ"}},
        {"groups": {"csv": "meta.csv", "column": "car", "stratum": "organ"}},
        {"groups": {"name": "{case}"}},
        {"groups.pattern": "^(a)(b)"},
        CLASSES | {"csv.rows": "instance"},
        {"csv.rows": "instance"},
    ],
    ids=str,
)
def test_valid_combinations_load(write, changes):
    assert load_competition("x", write(changes).parent).name == "x"


@pytest.mark.parametrize(
    ("area", "valid"),
    [
        ([0.0, 1.0], True),
        ([0.1, 0.5], True),
        ([0.5, 0.1], False),
        ([0.5, 0.5], False),
        ([-0.01, 0.5], False),
        ([0.5, 1.01], False),
    ],
)
def test_area_is_an_interval_of_fractions(write, fault, area, valid):
    if valid:
        assert load_competition("x", write({"masks.area": area}).parent).masks.area == tuple(area)
    else:
        assert fault({"masks.area": area}) == f"masks.area is {area}; expected two fractions, 0 ≤ lowest < highest ≤ 1"


@pytest.mark.parametrize("to", ["", "/train", "../train", "train/../x", "./train", "train//x", "train/"])
def test_downloads_stay_in_the_data_folder(fault, to):
    file = {"name": "train.zip", "to": "train/a.jpg", "mb": 1}
    expected = "expected a relative path such as train or test/a.jpg"
    assert fault({"download": {"files": [file | {"to": to}, file]}}) == f"download.files.0.to is {to!r}; {expected}"
    assert fault({"download": {"files": [file, file | {"name": to}]}}) == f"download.files.1.name is {to!r}; {expected}"


def test_all_faults_of_a_file_are_reported_at_once(fault):
    first, *lines = fault({"fold": 5, "csv.id": "{stem}", "csv.order": "x", "masks.area": [1, 0]}).splitlines()
    assert first == "has 4 faults:"
    assert sorted(lines) == [
        "  csv.id is now called images.id, a template such as {name} or {stem}; rename it",
        "  csv.order is 'x'; expected 'row' or 'column'",
        "  fold is not a known key; did you mean folds?",
        "  masks.area is [1, 0]; expected two fractions, 0 ≤ lowest < highest ≤ 1",
    ]


def test_keys_of_earlier_versions_have_new_names():
    assert list(RENAMED_KEYS) == ["csv.id"]


@pytest.mark.parametrize(
    ("path", "pattern"), [("train", False), ("a/b", False), ("a/*.png", True), ("{id}/a.png", True), ("a}", False)]
)
def test_patterns_have_a_star_or_a_field(path, pattern):
    assert is_pattern(path) is pattern


@pytest.mark.parametrize(
    ("template", "fields"),
    [("", []), ("x", []), ("{id}_{class}", ["id", "class"]), ("{b}{a}{b}", ["b", "a", "b"]), ("{a b}{}", [])],
)
def test_fields_of_a_template_are_listed_in_order(template, fields):
    assert template_fields(template) == fields


def test_a_metric_of_volumes_refuses_blocks():
    with pytest.raises(ValidationError, match=r"expected no windows\.blocks, because this metric needs whole slices"):
        changed(load_competition("uw-madison-gi"), windows={"size": (64, 64), "blocks": (2, 1)})
