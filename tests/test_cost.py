"""What is counted of a step is what a step does, and grows as it must."""

import pytest
import torch
from pipeline.models.cost import GPUS, estimate_cost, relative_step_cost

from pipeline.models.zoo import build_model, count_parameters
from pipeline.recipe import Recipe, UNetConfig


@pytest.fixture
def change(recipe):
    """The small recipe with changed values, such as `train__batch_size=4`."""

    def call(**changes) -> Recipe:
        values = recipe.model_dump()
        for key, value in changes.items():
            section, _, last = key.partition("__")
            values[section] = values[section] | {last: value} if last else value
        return Recipe.model_validate(values)

    return call


def test_known_unets(change):
    """Multiply-adds of the 64-1024 UNet, known from elsewhere: 452 G at 640×960, 1,806 G at 1280×1920."""
    unet = {"name": "unet", "width": 64, "depth": 4, "up": "transpose"}
    counted = estimate_cost(change(network=unet, input__size=(960, 640), train__batch_size=1))
    assert counted.forward / 2e9 == pytest.approx(452, rel=0.01)
    assert 2.9 < counted.flops / counted.forward <= 3
    assert counted.parameters == count_parameters(build_model(UNetConfig(**unet)))


def test_a_convolution_by_hand(change):
    """One level, one filter: every multiply-add can be counted with a pencil."""
    counted = estimate_cost(
        change(network={"name": "unet", "width": 1, "depth": 1, "max_width": 1}, input__size=(32, 16))
    )
    full, half = 32 * 16, 16 * 8
    pencil = full * 9 * (3 + 1) + half * 9 * (1 + 1) + half * 1 + full * 9 * (2 + 1) + full * 1
    assert counted.forward == 2 * pencil * counted.batch


def test_grows_with_the_picture_and_the_batch(change):
    one, two, large = (
        estimate_cost(change(train__batch_size=batch, input__size=size))
        for batch, size in ((1, (96, 64)), (2, (96, 64)), (1, (192, 128)))
    )
    for name, least in (("flops", 1.99), ("moved", 1.5), ("kept", 1.99)):
        assert getattr(two, name) / getattr(one, name) >= least
        assert getattr(large, name) / getattr(one, name) >= 2 * least
    assert one.memory < two.memory < large.memory
    assert one.seconds(GPUS[-1]) < one.seconds(GPUS[0]), "an H200 is faster than a T4"


def test_optimisers_remember_differently(change):
    kept = {
        name: estimate_cost(change(train__optimizer=name, train__ema_decay=0.0)).weights for name in ("adamw", "muon")
    }
    assert kept["adamw"] / kept["muon"] == pytest.approx(4 / 3)


def test_kept_bytes_are_those_of_a_real_step(change):
    """The same count on real tensors in float32 is twice that in half precision, but for places of maxima."""
    chosen = change(network={"name": "unet", "width": 4, "depth": 2, "up": "transpose"}, train__batch_size=2)
    storages: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    from pipeline.training.losses import SegmentationLoss

    width, height = chosen.input.size
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = build_model(chosen.network).train()(torch.rand(2, 3, height, width))
        SegmentationLoss(chosen.train.loss)(logits, torch.ones(2, 1, height, width))
    real = sum(t.numel() * (2 if t.is_floating_point() else t.element_size()) for t in storages.values())
    assert estimate_cost(chosen).kept == pytest.approx(real, rel=0.02)


def test_an_encoder_that_computes_while_it_is_built(change):
    assert estimate_cost(change(network={"name": "Unet", "encoder": "mit_b0"}, input__size=(64, 64))).flops > 0


def test_early_stages_cost_less(change):
    early = ({"until": 0.5, "size": (32, 24)},)
    assert relative_step_cost(change()) == 1
    assert relative_step_cost(change(input__size=(64, 48), train__resize_schedule=early)) == pytest.approx(
        0.5 + 0.5 / 4
    )
