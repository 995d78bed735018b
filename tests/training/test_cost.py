"""The counted cost of a step is that of a real step, and grows as it must."""

import pytest
import torch

from pipeline.models.classes import Classes
from pipeline.models.zoo import build_model, count_parameters
from pipeline.recipe import UNetConfig
from pipeline.training.cost import CPU, GPUS, describe_cost, estimate_cost, estimate_refine_cost, relative_step_cost
from pipeline.training.losses import SegmentationLoss
from tests.helpers import changed_competition, changed_recipe


@pytest.fixture
def change(recipe):
    return lambda **changes: changed_recipe(recipe, **changes)


@pytest.mark.slow
def test_known_multiply_adds_of_the_64_1024_unet(change):
    """452 G at 640×960."""
    unet = {"name": "unet", "width": 64, "depth": 4, "up": "transpose"}
    cost = estimate_cost(change(network=unet, input__size=(960, 640), train__batch_size=1))
    assert cost.forward_flops / 2e9 == pytest.approx(452, rel=0.01)
    assert 2.9 < cost.flops / cost.forward_flops <= 3
    assert cost.parameters == count_parameters(build_model(UNetConfig(**unet)))


@pytest.mark.slow
def test_multiply_adds_of_a_tiny_unet_counted_by_hand(change):
    """One level and one filter."""
    cost = estimate_cost(change(network={"name": "unet", "width": 1, "depth": 1, "max_width": 1}, input__size=(32, 16)))
    full, half = 32 * 16, 16 * 8
    by_hand = full * 9 * (3 + 1) + half * 9 * (1 + 1) + half * 1 + full * 9 * (2 + 1) + full * 1
    assert cost.forward_flops == 2 * by_hand * cost.batch_size


@pytest.mark.slow
def test_cost_grows_with_size_batch_and_classes(change):
    one, two, large = (
        estimate_cost(change(train__batch_size=batch, input__size=size))
        for batch, size in ((1, (96, 64)), (2, (96, 64)), (1, (192, 128)))
    )
    for name, factor in (("flops", 1.99), ("bytes_moved", 1.5), ("activation_bytes", 1.99)):
        assert getattr(two, name) / getattr(one, name) >= factor
        assert getattr(large, name) / getattr(one, name) >= 2 * factor
    assert one.memory < two.memory < large.memory
    assert one.seconds(GPUS[-1]) < one.seconds(GPUS[0]), "an H200 is faster than a T4"
    small = change(train__batch_size=1, input__size=(96, 64))
    assert estimate_cost(small, Classes(("a", "b"))).flops > one.flops


@pytest.mark.slow
def test_optimizers_keep_one_or_two_states(change):
    weights = {
        name: estimate_cost(change(train__optimizer=name, train__ema_decay=0.0)).weight_bytes
        for name in ("adamw", "muon")
    }
    assert weights["adamw"] / weights["muon"] == pytest.approx(4 / 3)


def test_activation_bytes_are_those_of_a_real_step(change):
    """The same count on real tensors."""
    recipe = change(network={"name": "unet", "width": 4, "depth": 2, "up": "transpose"}, train__batch_size=2)
    storages: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    width, height = recipe.input.size
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = build_model(recipe.network).train()(torch.rand(2, 3, height, width))
        SegmentationLoss(recipe.train.loss)(logits, torch.ones(2, 1, height, width))
    real = sum(t.numel() * (2 if t.is_floating_point() else t.element_size()) for t in storages.values())
    assert estimate_cost(recipe).activation_bytes == pytest.approx(real, rel=0.02)


@pytest.mark.slow
def test_an_encoder_that_computes_while_it_is_built_is_counted(change):
    assert estimate_cost(change(network={"name": "Unet", "encoder": "mit_b0"}, input__size=(64, 64))).flops > 0


def test_relative_cost_follows_the_resize_schedule(change):
    stages = ({"until": 0.4, "size": (32, 24)}, {"until": 0.8, "size": (64, 24)})
    assert relative_step_cost(change()) == 1
    assert relative_step_cost(change(train__resize_schedule=stages)) == pytest.approx(0.4 / 4 + 0.4 / 2 + 0.2)


@pytest.mark.slow
def test_every_step_takes_some_time_on_a_cpu_whatever_its_size(change):
    cost = estimate_cost(change())
    assert cost.seconds(CPU, scale=0) == CPU.step_seconds > 0
    half, full = (cost.seconds(CPU, scale) - CPU.step_seconds for scale in (0.5, 1.0))
    assert full == pytest.approx(2 * half)
    assert cost.seconds(GPUS[0], scale=0.25) == pytest.approx(cost.seconds(GPUS[0]) / 4)


def test_description_names_every_processor(change, competition):
    text = describe_cost(change(), 100, competition)
    assert "notebook" not in text
    assert all(processor.name in text for processor in (*GPUS, CPU))
    assert "Nothing was run" in text


def test_windows_are_counted_instead_of_images(change, competition):
    windowed = changed_competition(
        competition,
        windows={"size": (32, 32), "per_image": 7},
        masks__may_be_empty=True,
        notebook={"minutes": 540, "images": 5},
    )
    text = describe_cost(change(), 100, windowed)
    assert "epochs of 700 windows" in text
    assert "images" not in text


@pytest.mark.parametrize(("images", "verdict"), [(1000, "within"), (10**9, "over")])
def test_a_notebook_is_compared_with_its_time_limit(change, competition, images, verdict):
    code_competition = changed_competition(competition, notebook={"minutes": 540, "images": images})
    text = describe_cost(change(predict__flips=("none", "both")), 100, code_competition)
    assert f"{images} images, 2 folds and 2 flips" in text
    assert f"{verdict} the limit of 540 min" in text


def test_second_stage_is_counted_by_tiles(change, competition):
    network = {"name": "unet", "width": 1, "depth": 1, "max_width": 1}
    refine = {
        "size": (64, 64),
        "network": network,
        "tile": 32,
        "tiles": 5,
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 1,
    }
    recipe = change(refine=refine)
    full, half = 32 * 32, 16 * 16
    by_hand = full * 9 * (4 + 1) + half * 9 * (1 + 1) + half * 1 + full * 9 * (2 + 1) + full * 1
    assert estimate_refine_cost(recipe).forward_flops == 2 * by_hand * 4
    assert estimate_cost(recipe) == estimate_cost(change())
    text = describe_cost(recipe, 100, competition)
    assert "2 epochs of 500 tiles" in text
    assert "second stage" not in describe_cost(change(), 100, competition)
    assert "does not fit" not in text
    large = change(refine=refine | {"size": (1024, 1024), "tile": 1024, "batch_size": 4096})
    second = describe_cost(large, 100, competition).partition("second stage")[2]
    assert "does not fit" in second
    assert f"{estimate_refine_cost(large).memory / 2**30:.1f} GiB of GPU memory" in second


@pytest.mark.slow
def test_a_forward_pass_costs_less_than_half_a_step(change):
    cost = estimate_cost(change())
    assert 0.2 < cost.forward_flops / cost.flops < 0.45
    assert 0.1 < cost.forward_bytes / cost.bytes_moved < 0.5
    for gpu in GPUS:
        assert cost.prediction_seconds(gpu) < cost.seconds(gpu) / 2
