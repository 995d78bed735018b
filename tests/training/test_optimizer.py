"""Muon orthogonalizes the updates of matrices only, and learns faster than Adam."""

import pytest
import torch
from timm.optim.muon import zeropower_via_newtonschulz  # before `build_optimizer` replaces it
from torch import nn

from pipeline.models.unet import UNet
from pipeline.recipe import LossConfig, TrainConfig, UNetConfig
from pipeline.training.losses import SegmentationLoss
from pipeline.training.optimizer import build_optimizer, orthogonalize


def config(optimizer: str = "muon", learning_rate: float = 0.01, weight_decay: float = 0.0) -> TrainConfig:
    return TrainConfig(
        epochs=1, batch_size=1, optimizer=optimizer, learning_rate=learning_rate, weight_decay=weight_decay
    )


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(16, 32, 3), nn.Conv2d(32, 64, 1), nn.BatchNorm2d(64), nn.Conv2d(64, 4, 1))


def step_once(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Set random gradients, step, and return the updates of all parameters."""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return [after.detach() - old for after, old in zip(model.parameters(), before, strict=True)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_optimizers_get_the_values_of_the_recipe(name, kind):
    optimizer = build_optimizer(convolutions(), config(name, 0.02, 0.3))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    assert name != "sgd" or (group["momentum"], group["nesterov"]) == (0.9, True)


def test_updates_of_matrices_are_orthogonal_with_the_size_of_adam_s():
    """All singular values are about equal, and the root mean square is 0.2 of the learning rate."""
    model = convolutions()
    updates = step_once(model, build_optimizer(model, config()))
    for update in (updates[0], updates[2]):
        matrix = update.flatten(1)
        values = torch.linalg.svdvals(matrix)
        assert values.max() / values.min() < 3
        assert 0.0014 < matrix.square().mean().sqrt() < 0.0026


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (32, 32), (1, 9)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_orthogonalization_equals_the_iteration_on_the_whole_matrix(shape, scale):
    torch.manual_seed(0)
    matrix = scale * torch.randn(shape) * torch.logspace(-6, 0, shape[0]).unsqueeze(1)
    coefficients = [(3.4445, -4.7750, 2.0315), (3.0, -3.2, 1.2)]
    expected = zeropower_via_newtonschulz(matrix, 5, coefficients, dtype=torch.float64)
    assert (orthogonalize(matrix, 5, coefficients) - expected).norm() < 1e-4 * expected.norm()


def test_the_first_update_of_a_matrix_is_its_orthogonalized_gradient():
    model = convolutions()
    optimizer = build_optimizer(model, config())
    (update, *_), gradient = step_once(model, optimizer), model[0].weight.grad.flatten(1)
    expected = orthogonalize(gradient, 5, [(3.4445, -4.7750, 2.0315)])
    scale = 0.01 * 0.2 * max(gradient.shape) ** 0.5
    assert torch.allclose(update.flatten(1), -scale * expected, atol=1e-6)


def test_a_gradient_of_zeros_gives_an_update_of_zeros():
    assert not orthogonalize(torch.zeros(4, 9), 5, [(3.4445, -4.7750, 2.0315)]).any()


def test_the_last_layer_and_vectors_use_nadamw():
    """The first update of Adam with Nesterov momentum 0.9 is 1.9 learning rates in every coordinate."""
    model = convolutions()
    updates = step_once(model, build_optimizer(model, config()))
    for number in (1, 3, 4, 5, 6, 7):
        assert updates[number].abs().mean().item() == pytest.approx(0.019, rel=0.02)


def test_weight_decay_applies_to_matrices_only():
    model = convolutions()
    optimizer = build_optimizer(model, config(weight_decay=0.5))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    shrunk = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert shrunk == [True, False, True, False, False, False, False, False]
    assert torch.allclose(model[0].weight, before[0] * (1 - 0.01 * 0.5))


@pytest.mark.slow
def test_a_unet_learns_faster_with_muon_than_with_adam():
    """Squares among stripes, thirty steps."""

    def loss_after(optimizer: str, learning_rate: float) -> float:
        torch.manual_seed(0)
        image, target = torch.randint(0, 120, (4, 3, 64, 64)).float(), torch.zeros(4, 1, 64, 64)
        image[:, :, ::8] += 60
        for number in range(4):
            target[number, :, 8 * number : 8 * number + 30, 16:48] = 1
        image += 40 * target
        model, loss = UNet(UNetConfig(name="unet", width=8, depth=2)).train(), SegmentationLoss(LossConfig())
        steps = build_optimizer(model, config(optimizer, learning_rate))
        for _ in range(30):
            value = loss(model(image / 128 - 1), target)
            steps.zero_grad()
            value.backward()
            steps.step()
        return value.item()

    assert loss_after("muon", 0.03) < 0.9 * min(loss_after("adam", rate) for rate in (0.003, 0.01, 0.03))


@pytest.mark.parametrize(("ratio", "sign"), [(2.15, 1), (2.18, -1)])
def test_muon_uses_nesterov_momentum_of_095(ratio, sign):
    """After the gradients −r·G and G, Nesterov momentum m moves along (m²·r − (1 + m))·G, which turns round at r = (1 + m)/m² = 2.16."""
    model = convolutions()
    optimizer = build_optimizer(model, config())
    direction = torch.randn_like(model[0].weight)
    for factor in (-ratio, 1.0):
        before = model[0].weight.detach().clone()
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        model[0].weight.grad = factor * direction
        optimizer.step()
    moved = (before - model[0].weight.detach()).flatten() @ direction.flatten()
    assert moved.sign() == sign
