"""Settings files: ours are valid, and every mistake is named with its file, its key and a mend."""

from pathlib import Path

import pytest

from pipeline.competition import load_competition
from pipeline.data.samples import load_test_samples, load_training_samples
from pipeline.errors import UserError
from pipeline.recipe import PredictConfig, load_recipe, read_recipe, save_recipe

GOOD = """
[input]
size = [96, 64]
[network]
name = "unet"
width = 8
depth = 2
[train]
epochs = 1
batch = 2
learning_rate = 0.01
"""


@pytest.mark.parametrize("path", sorted(Path("competitions").glob("*.toml")), ids=lambda path: path.stem)
def test_our_competitions(path):
    assert load_competition(path.stem).name == path.stem


@pytest.mark.parametrize("path", sorted(Path("recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_our_recipes(path, tmp_path):
    recipe = load_recipe(path.stem)
    save_recipe(recipe, tmp_path / "recipe.toml")
    assert read_recipe(tmp_path / "recipe.toml") == recipe, "a saved recipe reads back as itself"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("epochs = 1", "epocs = 1\nepochs = 1", "train.epocs is not a known key; did you mean epochs?"),
        ("epochs = 1", 'epochs = "many"', "train.epochs: input should be a valid integer.*but it is 'many'"),
        ("epochs = 1", "epochs = 0", "train.epochs: input should be greater than or equal to 1, but it is 0"),
        ("epochs = 1", "", "train.epochs is missing"),
        ("size = [96, 64]", "size = [96, 4]", "input: expected a width and a height from 16"),
        ("width = 8", "witdh = 8\nwidth = 8", "network.witdh is not a known key; did you mean width?"),
        ("width = 8", 'width = 8\nup = "nearest"', "network.up: input should be 'transpose' or 'bilinear'"),
        ("learning_rate = 0.01", "learning_rate = -1", "train.learning_rate: input should be greater than 0"),
        ("[train]", "[train", "is not valid TOML"),
        ("batch = 2", "batch = 2\nloss = {bce = 0, dice = 0}", "train.loss: give at least one term"),
        (
            "batch = 2",
            "batch = 2\nearly = [{until = 0.5, size = [96, 128]}]",
            "early: expected sizes that grow from 16",
        ),
        (
            "batch = 2",
            "batch = 2\nearly = [{until = 0.5, size = [48, 32]}, {until = 0.5, size = [96, 64]}]",
            "early: expected stages that end one after another",
        ),
    ],
)
def test_recipe_mistakes(tmp_path, old, new, reason):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UserError, match=reason) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(str(path))


def test_changes_on_the_command_line(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD)
    recipe = load_recipe("mine", ["train.epochs=7", "network.norm=group", "predict.flips=['vertical']"], tmp_path)
    assert (recipe.train.epochs, recipe.network.norm, recipe.predict.flips) == (7, "group", ("vertical",))
    with pytest.raises(UserError, match=r"expected table\.key=value"):
        load_recipe("mine", ["train.epochs"], tmp_path)
    with pytest.raises(UserError, match=r"epocs is not a known key"):
        load_recipe("mine", ["train.epocs=7"], tmp_path)


def test_differences_name_what_trains_differently(recipe):
    changed = recipe.model_copy(update={"seed": 5, "description": "x", "predict": PredictConfig(threshold=0.4)})
    assert recipe.training_differences(changed) == ["seed: 0 / 5"]


def test_missing_file_lists_its_neighbours(tmp_path):
    (tmp_path / "a.toml").write_text(GOOD)
    with pytest.raises(UserError, match=r"b\.toml: no such file; .* has: a"):
        load_recipe("b", folder=tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("folds", 1, "set folds to 2 or more"),
        ("masks.positive", 7, "masks.positive"),
        ("masks.area", [0.5, 0.1], "lowest < highest"),
        ("groups.pattern", "(", "is not a regular expression"),
        ("groups.pattern", "abc", "needs a group in parentheses"),
        ("images.val", "val", "images.val and masks.val belong together"),
        ("csv.order", "diagonal", "csv.order: input should be 'row' or 'column'"),
    ],
)
def test_competition_mistakes(tmp_path, competition, key, value, reason):
    import tomli_w

    values = competition.model_dump(mode="json", exclude_none=True)
    del values["name"]
    table = values
    *tables, last = key.split(".")
    for name in tables:
        table = table[name]
    table[last] = value
    (tmp_path / "x.toml").write_text(tomli_w.dumps(values))
    with pytest.raises(UserError, match=reason):
        load_competition("x", tmp_path)


def test_samples_of_a_competition(competition, data):
    samples = load_training_samples(competition, data)
    assert [sample.id for sample in samples][:2] == ["alpha_01.jpg", "alpha_02.jpg"]
    assert {sample.group for sample in samples} == {"alpha", "beta", "delta", "gamma"}
    assert all(sample.mask and sample.mask.exists() for sample in samples)


def test_missing_things_are_named(competition, data):
    (data / "train_masks" / "beta_02_mask.gif").unlink()
    with pytest.raises(UserError, match=r"beta_02\.jpg: has no mask beta_02_mask\.gif"):
        load_training_samples(competition, data)
    with pytest.raises(UserError, match="nowhere/train: no such folder; set DATA"):
        load_training_samples(competition, data / "nowhere")
    for image in (data / "test").iterdir():
        image.unlink()
    with pytest.raises(UserError, match="holds no image"):
        load_test_samples(competition, data)
    (data / "train" / "Beta.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"Beta\.jpg: its name does not fit groups\.pattern"):
        load_training_samples(competition, data)
