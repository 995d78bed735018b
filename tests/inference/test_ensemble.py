"""Test-time augmentation and ensembles average probabilities, and members must match."""

import pytest
import torch

from pipeline.errors import UserError
from pipeline.inference.ensemble import Ensemble, choose_prediction_device, load_ensemble_member
from pipeline.inference.tta import flip
from pipeline.models.checkpoint import WeightsMetadata, save_weights
from pipeline.models.classes import Classes
from pipeline.models.device import ComputeDevice
from pipeline.models.zoo import build_model
from tests.helpers import changed_recipe
from tests.inference.models import CPU, Constant, Redness, Slope

CLASSES = Classes(("a", "b"), exclusive=True)
IMAGES = torch.randint(0, 256, (3, 3, 20, 30), dtype=torch.uint8)


@pytest.mark.parametrize("how", ["none", "horizontal", "vertical", "both"])
def test_a_flip_is_its_own_inverse(how):
    assert torch.equal(flip(flip(IMAGES, how), how), IMAGES)
    assert (how == "none") == torch.equal(flip(IMAGES, how), IMAGES)


def test_flips_reverse_the_named_axes():
    x = torch.arange(6).view(1, 2, 3)
    assert flip(x, "horizontal").tolist() == [[[2, 1, 0], [5, 4, 3]]]
    assert flip(x, "vertical").tolist() == [[[3, 4, 5], [0, 1, 2]]]
    assert flip(x, "both").tolist() == [[[5, 4, 3], [2, 1, 0]]]


def test_without_flips_it_is_the_model():
    expected = Redness()(IMAGES).sigmoid()
    assert torch.allclose(Ensemble([Redness()], ["none"], CPU)(IMAGES), expected)


def test_flips_of_a_symmetric_model_change_nothing():
    expected = Redness()(IMAGES).sigmoid()
    for flips in (["horizontal"], ["vertical"], ["both"], ["none", "horizontal", "vertical", "both"]):
        assert torch.allclose(Ensemble([Redness()], flips, CPU)(IMAGES), expected)


def test_predictions_of_flipped_images_are_flipped_back():
    once = Ensemble([Slope()], ["none"], CPU)(IMAGES)
    mirrored = Ensemble([Slope()], ["horizontal"], CPU)(IMAGES)
    assert torch.allclose(mirrored, once.flip(-1))
    both = Ensemble([Slope()], ["none", "horizontal"], CPU)(IMAGES)
    assert torch.allclose(both, both.flip(-1), atol=1e-6)


def test_probabilities_are_averaged_not_logits():
    mean = Ensemble([Constant(0.0), Constant(20.0)], ["none"], CPU)(IMAGES)
    assert mean.unique().item() == pytest.approx(0.75)


def test_every_class_has_a_map():
    assert Ensemble([Constant(1.0, channels=3)], ["none"], CPU, CLASSES)(IMAGES).shape == (3, 2, 20, 30)


def test_overflow_is_an_error():
    with pytest.raises(UserError, match=r"the probabilities are not finite; predict with train\.precision = float32"):
        Ensemble([Constant(float("nan"))], ["none"], CPU)(IMAGES)


def test_models_of_different_recipes_are_no_member(recipe, tmp_path):
    for name, other in (("a", recipe), ("b", changed_recipe(recipe, seed=1))):
        metadata = WeightsMetadata("tiny", "0", "", "1", "0", "", "")
        save_weights(tmp_path / f"{name}.safetensors", build_model(other.network), other, metadata)
    with pytest.raises(
        UserError,
        match=r"b\.safetensors: was trained .* than \S*a\.safetensors \(.*seed: 0 / 1.*; give .* RECIPE=one\+other$",
    ):
        load_ensemble_member([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], CPU)


def test_models_of_different_classes_are_no_member(recipe, tmp_path):
    for name, names in (("a", "[]"), ("b", '["x", "y"]')):
        metadata = WeightsMetadata("tiny", "0", "", "1", "0", "", "", classes=names)
        model = build_model(recipe.network, metadata.model_classes())
        save_weights(tmp_path / f"{name}.safetensors", model, recipe, metadata)
    with pytest.raises(
        UserError, match=r"b\.safetensors: has other classes than .*a\.safetensors; train both on one competition$"
    ):
        load_ensemble_member([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], CPU)


def test_float32_for_all_if_one_recipe_asks_for_it(recipe, monkeypatch):
    # Not on every device do the two choices differ.
    monkeypatch.setattr("pipeline.inference.ensemble.choose_device", lambda precision: precision)
    fast = changed_recipe(recipe, train__precision="bf16")
    assert choose_prediction_device([fast, recipe]) == "float32"
    assert choose_prediction_device([fast]) == "auto"


@pytest.fixture
def two_folds(recipe, tmp_path):
    """Weights files of two random models of one recipe, and the models."""
    torch.manual_seed(0)
    models, paths = [], []
    for fold in ("0", "1"):
        models.append(build_model(recipe.network, CLASSES).eval())
        paths.append(tmp_path / f"{fold}.safetensors")
        metadata = WeightsMetadata("tiny", fold, "", "1", "0", "", "", classes='["a", "b"]', exclusive="yes")
        save_weights(paths[-1], models[-1], recipe, metadata)
    return models, paths


def test_a_member_averages_the_models_of_all_files_with_the_flips_of_its_recipe(two_folds, recipe):
    models, paths = two_folds
    member, metadata = load_ensemble_member(paths, CPU)
    assert (member.recipe, [each.fold for each in metadata]) == (recipe, ["0", "1"])
    expected = Ensemble(models, recipe.predict.flips, CPU, CLASSES)(IMAGES)
    assert torch.allclose(member.ensemble(IMAGES), expected, atol=1e-6)
    weight = next(parameter for parameter in member.ensemble.models[1].parameters() if parameter.ndim == 4)
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_the_recipe_of_the_first_file_counts(two_folds, recipe):
    models, paths = two_folds
    metadata = WeightsMetadata("tiny", "1", "", "1", "0", "", "", classes='["a", "b"]', exclusive="yes")
    save_weights(paths[1], models[1], changed_recipe(recipe, predict__flips=["none"]), metadata)
    assert load_ensemble_member(paths, CPU)[0].recipe == recipe


def test_models_are_moved_to_the_device(two_folds):
    _, paths = two_folds
    member, _ = load_ensemble_member(paths, ComputeDevice(torch.device("meta"), "float32", "test"))
    assert {parameter.device.type for model in member.ensemble.models for parameter in model.parameters()} == {"meta"}


def test_the_flips_of_today_s_recipe_replace_those_of_the_training(two_folds, recipe):
    models, paths = two_folds
    today = changed_recipe(recipe, predict__flips=["vertical"])
    member, _ = load_ensemble_member(paths, CPU, today)
    assert member.recipe == today
    assert torch.allclose(member.ensemble(IMAGES), Ensemble(models, ["vertical"], CPU, CLASSES)(IMAGES), atol=1e-6)
