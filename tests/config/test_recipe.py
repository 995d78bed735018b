"""Recipes: ours load and are saved without loss, and every wrong key or value is named with its file and the fix."""

from pathlib import Path

import pytest

from pipeline.config import known_keys
from pipeline.errors import UserError
from pipeline.recipe import (
    RENAMED_KEYS,
    PredictConfig,
    Recipe,
    SMPConfig,
    UNetConfig,
    ensemble_name,
    load_recipe,
    parse_recipe,
    read_recipe,
    recipe_to_toml,
    save_recipe,
)
from tests.helpers import changed_recipe

GOOD = """
[input]
size = [96, 64]
[network]
name = "unet"
width = 8
depth = 2
[train]
epochs = 1
batch_size = 2
learning_rate = 0.01
"""
SMP = GOOD.replace('name = "unet"\nwidth = 8\ndepth = 2', 'name = "Unet"')
SHIPPED = sorted(Path("recipes").glob("*.toml"))


@pytest.fixture
def fault(tmp_path):
    """Return the message about a recipe that is not valid, without the path."""

    def read(text: str, *overrides: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        with pytest.raises(UserError) as caught:
            read_recipe(path, overrides)
        assert caught.value.where == str(path)
        return str(caught.value).removeprefix(f"{path}: ")

    return read


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_is_saved_without_loss(path, tmp_path):
    recipe = load_recipe(path.stem)
    assert recipe.name == path.stem
    assert recipe.description
    save_recipe(recipe, tmp_path / "recipe.toml")
    assert read_recipe(tmp_path / "recipe.toml") == recipe
    assert parse_recipe(recipe_to_toml(recipe), tmp_path) == recipe


def test_name_is_that_of_the_file_or_as_given(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD)
    assert read_recipe(tmp_path / "mine.toml").name == "mine"
    assert read_recipe(tmp_path / "mine.toml", name="other").name == "other"
    assert load_recipe("mine", folder=tmp_path).name == "mine"
    assert load_recipe("mine", ["name=saved"], tmp_path).name == "saved", "a saved recipe holds its name"


def test_defaults_are_those_of_the_documentation(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD)
    recipe = load_recipe("mine", folder=tmp_path)
    assert (recipe.seed, recipe.description, recipe.input.size) == (0, "", (96, 64))
    assert recipe.network == UNetConfig(name="unet", width=8, depth=2, max_width=1024, up="bilinear", norm="batch")
    train = recipe.train
    assert (train.optimizer, train.weight_decay, train.schedule, train.warmup) == ("adamw", 0.01, "cosine", 0.05)
    assert (train.max_grad_norm, train.ema_decay, train.validate_every) == (1.0, 0.998, 1)
    assert (train.precision, train.compile, train.resize_schedule) == ("auto", False, ())
    assert (train.loss.bce, train.loss.boundary, train.loss.dice) == (1.0, 0.0, 1.0)
    assert {key: value for key, value in recipe.augment.model_dump().items() if value} == {"horizontal_flip": 0.5}
    assert recipe.predict == PredictConfig(flips=("none",), threshold=0.5)


def test_network_of_another_name_is_an_smp_architecture(tmp_path):
    (tmp_path / "mine.toml").write_text(SMP)
    recipe = load_recipe("mine", ["network.options={decoder_channels=[64, 32]}"], tmp_path)
    assert recipe.network == SMPConfig(
        name="Unet", encoder="resnet34", encoder_weights=None, options={"decoder_channels": [64, 32]}
    )
    assert parse_recipe(recipe_to_toml(recipe), tmp_path) == recipe


class TestMistakes:
    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ("epochs = 1", "epocs = 1\nepochs = 1", "train.epocs is not a known key; did you mean train.epochs?"),
            ("epochs = 1", 'epochs = "many"', "train.epochs is 'many'; expected a whole number"),
            ("epochs = 1", "epochs = 0", "train.epochs is 0; expected 1 or more"),
            ("epochs = 1", "", "train.epochs is missing; add it"),
            ("[input]", "epochs = 1\n[input]", "epochs is not a known key; did you mean train.epochs?"),
            ("[input]", "seed = -1\n[input]", "seed is -1; expected 0 or more"),
            ("size = [96, 64]", "size = [96]", "input.size.1 is missing; add it"),
            ("size = [96, 64]", 'size = "96x64"', "input.size is '96x64'; expected a list in brackets"),
            ("width = 8", "witdh = 8\nwidth = 8", "network.witdh is not a known key; did you mean network.width?"),
            ("width = 8", "width = 0", "network.width is 0; expected 1 or more"),
            ("width = 8", "width = 513", "network.width is 513; expected 512 or less"),
            ("depth = 2", "depth = 9", "network.depth is 9; expected 8 or less"),
            ("depth = 2", 'depth = 2\nup = "nearest"', "network.up is 'nearest'; expected 'transpose' or 'bilinear'"),
            ("depth = 2", "depth = 2\nstem = 3", "network.stem is 3; expected 1, 2 or 4"),
            (
                'name = "unet"\nwidth = 8\ndepth = 2',
                "name = 3",
                "network.name is 3; expected a text in quotes",
            ),
            ('name = "unet"\nwidth = 8\ndepth = 2', "", "network.name is missing; add it"),
            ("learning_rate = 0.01", "learning_rate = -1", "train.learning_rate is -1; expected more than 0"),
            ("learning_rate = 0.01", "learning_rate = 0", "train.learning_rate is 0; expected more than 0"),
            ("learning_rate = 0.01", "learning_rate = nan", "train.learning_rate is nan; expected a finite number"),
            ("batch_size = 2", "batch_size = 2\nema_decay = 1", "train.ema_decay is 1; expected less than 1"),
            ("batch_size = 2", "batch_size = 2\nwarmup = 1.01", "train.warmup is 1.01; expected 1 or less"),
            (
                "batch_size = 2",
                'batch_size = 2\noptimizer = "lion"',
                "train.optimizer is 'lion'; expected 'adam', 'adamw', 'muon' or 'sgd'",
            ),
            (
                "batch_size = 2",
                "batch_size = 2\nloss = {bce = 0, dice = 0}",
                "train.loss is {'bce': 0, 'dice': 0}; expected at least one term with a weight above 0",
            ),
            (
                "batch_size = 2",
                "batch_size = 2\nloss = {bce = 0, boundary = 1}",
                "train.loss is {'bce': 0, 'boundary': 1}; expected bce above 0, because boundary weights the cross-entropy",
            ),
            (
                "batch_size = 2",
                "batch_size = 2\nresize_schedule = [{until = 1, size = [48, 32]}]",
                "train.resize_schedule.0.until is 1; expected less than 1",
            ),
            ("[train]", "[predict]\nthreshold = 1\n[train]", "predict.threshold is 1; expected less than 1"),
            ("[train]", "[predict]\nflips = []\n[train]", "predict.flips is []; expected 1 or more values"),
            ("[train]", "[augment]\nrotate = 181\n[train]", "augment.rotate is 181; expected 180 or less"),
            ("[train]", "[augment]\nscale = 1\n[train]", "augment.scale is 1; expected less than 1"),
        ],
    )  # fmt: skip
    def test_fault_is_named_with_its_key_and_fix(self, fault, old, new, reason):
        assert old in GOOD
        assert fault(GOOD.replace(old, new, 1)) == reason

    @pytest.mark.parametrize(
        ("size", "valid"),
        [
            ([16, 16], True),
            ([15, 16], False),
            ([16, 15], False),
            ([8192, 16], True),
            ([8193, 16], False),
            ([16, 8193], False),
        ],
    )
    def test_input_has_16_to_8192_pixels(self, recipe, size, valid):
        if valid:
            assert changed_recipe(recipe, input__size=size).input.size == tuple(size)
        else:
            with pytest.raises(ValueError, match="expected a width and a height from 16 to 8192 pixels"):
                changed_recipe(recipe, input__size=size)

    @pytest.mark.parametrize(
        ("stages", "reason"),
        [
            ([(0.5, (96, 64))], ""),
            ([(0.4, (16, 16)), (0.5, (16, 16))], ""),
            ([(0.5, (97, 64))], "grow"),
            ([(0.5, (96, 65))], "grow"),
            ([(0.5, (15, 64))], "grow"),
            ([(0.4, (48, 32)), (0.5, (48, 31))], "grow"),
            ([(0.5, (48, 32)), (0.5, (96, 64))], "order"),
            ([(0.5, (48, 32)), (0.4, (96, 64))], "order"),
        ],
    )
    def test_resize_schedule_grows_to_the_input_size(self, fault, tmp_path, stages, reason):
        table = ", ".join(f"{{until = {until}, size = {list(size)}}}" for until, size in stages)
        text = GOOD + f"resize_schedule = [{table}]"
        if reason == "":
            (tmp_path / "mine.toml").write_text(text)
            assert len(load_recipe("mine", folder=tmp_path).train.resize_schedule) == len(stages)
            return
        expected = {
            "grow": "expected train.resize_schedule to grow from 16 pixels to [96, 64]",
            "order": "expected train.resize_schedule in rising order of until",
        }
        assert fault(text).endswith(f"; {expected[reason]}")

    def test_file_that_is_not_toml_is_named(self, fault):
        assert fault(GOOD.replace("[train]", "[train")).startswith("is not valid TOML (")

    @pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
    def test_key_of_an_earlier_version_is_refused_with_its_new_name(self, fault, old, new):
        table, _, key = old.partition(".")
        sentence = f"{old} is now called {new}; rename it"
        assert fault(GOOD.replace(f"[{table}]", f"[{table}]\n{key} = 1")) == sentence, (
            "next to the new key or its default"
        )
        assert fault(GOOD, f"{old}=1") == sentence, "and in --set"
        assert new in known_keys(Recipe)
        assert old not in known_keys(Recipe)

    def test_new_name_is_not_reported_as_missing_too(self, fault):
        assert fault(GOOD.replace("batch_size", "batch")) == "train.batch is now called train.batch_size; rename it"

    def test_all_faults_of_a_file_are_reported_at_once(self, fault):
        text = GOOD.replace("epochs = 1", "epochs = 0\nclip = 1\nearly = []").replace(
            "width = 8", "width = 8\nwitdh = 8"
        )
        first, *lines = fault(text.replace("size = [96, 64]", "")).splitlines()
        assert first == "has 5 faults:"
        assert sorted(lines) == [
            "  input.size is missing; add it",
            "  network.witdh is not a known key; did you mean network.width?",
            "  train.clip is now called train.max_grad_norm; rename it",
            "  train.early is now called train.resize_schedule; rename it",
            "  train.epochs is 0; expected 1 or more",
        ]

    def test_recipe_in_a_weights_file_is_checked_too(self):
        path = Path("weights.safetensors")
        with pytest.raises(
            UserError, match=r"weights\.safetensors: its recipe is not valid TOML \(.*\); train it again"
        ):
            parse_recipe("[train", path)
        with pytest.raises(UserError, match=r"weights\.safetensors: train\.batch is now called train\.batch_size"):
            parse_recipe('name = "x"' + GOOD.replace("batch_size", "batch"), path)

    def test_missing_recipe_lists_the_others(self, tmp_path):
        (tmp_path / "a.toml").write_text(GOOD)
        with pytest.raises(UserError, match=r"b\.toml: no such file; files in .* are: a$"):
            load_recipe("b", folder=tmp_path)

    def test_ensemble_is_not_a_single_recipe(self, tmp_path):
        (tmp_path / "a+b.toml").write_text(GOOD)
        with pytest.raises(UserError) as caught:
            load_recipe("a+b", folder=tmp_path)
        assert str(caught.value) == "recipe 'a+b': is an ensemble, and this needs a single recipe; name one of them"


class TestOverrides:
    def test_values_are_toml_and_words(self, tmp_path):
        (tmp_path / "mine.toml").write_text(GOOD)
        overrides = ["train.epochs=7", "network.norm=group", "predict.flips=['vertical']", "train.loss={dice = 0}"]
        recipe = load_recipe("mine", overrides, tmp_path)
        assert (recipe.train.epochs, recipe.network.norm, recipe.predict.flips) == (7, "group", ("vertical",))
        assert (recipe.train.loss.bce, recipe.train.loss.dice) == (1.0, 0.0)

    @pytest.mark.parametrize(
        ("override", "reason"),
        [
            ("train.epocs=7", "train.epocs is not a known key; did you mean train.epochs?"),
            ("epochs=7", "epochs is not a known key; did you mean train.epochs?"),
            ("train.epochs=many", "train.epochs is 'many'; expected a whole number"),
            ("train.epochs=", "train.epochs is ''; expected a whole number"),
            ("predict.flips=vertical", "predict.flips is 'vertical'; expected a list in brackets"),
            ("seed=3 4", "seed is '3 4'; expected a whole number"),
            ("train=fast", "train is 'fast'; expected a table"),
        ],
    )
    def test_wrong_value_is_named(self, fault, override, reason):
        assert fault(GOOD, override) == reason

    def test_text_without_an_equals_sign_is_refused(self, tmp_path):
        (tmp_path / "mine.toml").write_text(GOOD)
        with pytest.raises(UserError, match=r"--set train\.epochs: is not an assignment; write table\.key=value"):
            load_recipe("mine", ["train.epochs"], tmp_path)


class TestRecipe:
    def test_differences_name_what_trains_differently(self, recipe):
        assert recipe.training_differences(recipe) == []
        other = changed_recipe(recipe, seed=5, train__epochs=3, network__norm="group", augment__rotate=2.0)
        assert recipe.training_differences(other) == [
            "augment.rotate: 0.0 / 2.0",
            "network.norm: batch / group",
            "seed: 0 / 5",
            "train.epochs: 12 / 3",
        ]
        assert other.training_differences(recipe)[-1] == "train.epochs: 3 / 12"

    def test_names_prediction_and_speed_are_no_difference(self, recipe):
        other = changed_recipe(
            recipe,
            name="x",
            description="x",
            predict={"flips": ["none"], "threshold": 0.4},
            train__precision="bf16",
            train__compile=True,
            train__validate_every=4,
        )
        assert other != recipe
        assert recipe.training_differences(other) == []

    def test_keys_of_another_kind_of_network_are_differences(self, recipe):
        other = changed_recipe(recipe, network={"name": "Unet"})
        differences = recipe.training_differences(other)
        assert "network.name: unet / Unet" in differences
        assert "network.width: 8 / None" in differences
        assert "network.encoder: None / resnet34" in differences

    @pytest.mark.parametrize(
        ("precision", "expected"), [("auto", "auto"), ("float32", "float32"), ("bf16", "auto"), ("fp16", "auto")]
    )
    def test_prediction_uses_float32_only_if_asked(self, recipe, precision, expected):
        assert changed_recipe(recipe, train__precision=precision).train.prediction_precision == expected

    def test_ensemble_is_named_after_its_recipes(self, recipe):
        assert ensemble_name([recipe]) == "tiny"
        assert ensemble_name([recipe, changed_recipe(recipe, name="small")]) == "tiny+small"
