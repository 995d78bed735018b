"""The loss equals its formula, does not overflow, and weights the boundary."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss

from pipeline.models.classes import Classes
from pipeline.recipe import LossConfig
from pipeline.training.losses import SegmentationLoss, boundary_weight, box_mean, soft_dice_loss

TARGET = torch.zeros(2, 1, 32, 48)
TARGET[:, :, 8:24, 12:36] = 1


def test_terms_equal_their_formulas():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    p = logits.sigmoid()
    bce = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    dice = (p - target).abs().sum() / (p.sum() + target.sum())
    assert SegmentationLoss(LossConfig(bce=1, dice=0))(logits, target) == pytest.approx(bce.item(), abs=1e-5)
    assert SegmentationLoss(LossConfig(bce=0, dice=2))(logits, target) == pytest.approx(2 * dice.item(), abs=1e-5)
    both = SegmentationLoss(LossConfig(bce=0.5, dice=2))(logits, target)
    assert both == pytest.approx((0.5 * bce + 2 * dice).item(), abs=1e-5)


@pytest.mark.parametrize("config", [(1, 0, 0), (1, 0, 3), (0, 1, 0), (0.7, 1.3, 2)])
def test_gradient_of_independent_classes_equals_that_of_autograd(config):
    torch.manual_seed(0)
    bce, dice, boundary = config
    logits, target = (3 * torch.randn(2, 3, 9, 8)).requires_grad_(), torch.rand(2, 3, 9, 8).round(decimals=1)
    target[:, 2] = 0  # a class without a pixel
    weight = boundary_weight(target, boundary) if boundary else None
    expected = bce * F.binary_cross_entropy_with_logits(logits, target, weight)
    expected = expected + dice * soft_dice_loss(logits.sigmoid(), target)
    (wanted,) = torch.autograd.grad(expected, logits)
    loss = SegmentationLoss(LossConfig(bce=bce, dice=dice, boundary=boundary), Classes(("a", "b", "c")))(logits, target)
    (gradient,) = torch.autograd.grad(2 * loss, logits)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient, 2 * wanted, rtol=1e-5, atol=1e-9)


def test_loss_of_very_certain_logits_is_finite_and_exact():
    logits = torch.tensor([-200.0, 200.0, -200.0, 200.0]).view(1, 1, 2, 2).requires_grad_()
    target = torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2)
    loss = SegmentationLoss(LossConfig(bce=1, dice=0))(logits, target)
    loss.backward()
    assert loss.item() == 100
    torch.testing.assert_close(logits.grad.flatten(), torch.tensor([0, 0, -0.25, 0.25]))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 3, 9), (2, 1, 20, 13)])
def test_box_mean_equals_the_average_pooling(shape):
    x = torch.rand(shape)
    torch.testing.assert_close(box_mean(x), F.avg_pool2d(x, 7, 1, 3, count_include_pad=False))


@pytest.mark.parametrize("binary", [True, False])
def test_dice_equals_that_of_the_library(binary):
    torch.manual_seed(0)
    logits, target = torch.randn(3, 2, 8, 8), torch.rand(3, 2, 8, 8)
    target = (target > 0.5).float() if binary else target
    target[:, 1] = 0
    ours = soft_dice_loss(logits.sigmoid(), target)
    assert ours == pytest.approx(DiceLoss("multilabel")(logits, target).item(), abs=1e-6)


def test_dice_of_a_binary_target_is_one_minus_dice():
    torch.manual_seed(0)
    p, target = torch.rand(1, 1, 8, 8), (torch.rand(1, 1, 8, 8) > 0.5).float()
    assert soft_dice_loss(p, target) == pytest.approx((1 - 2 * (p * target).sum() / (p.sum() + target.sum())).item())


def test_dice_of_a_fractional_target_is_lowest_at_the_target():
    target = torch.full((1, 1, 4, 4), 0.3)
    losses = [soft_dice_loss(torch.full_like(target, p), target).item() for p in (0.1, 0.3, 0.5, 0.9)]
    assert losses[1] == 0
    assert min(losses[0], losses[2], losses[3]) > 0.2


def test_classes_are_averaged_and_absent_ones_cost_nothing_in_the_dice():
    logits = torch.full((1, 2, 4, 4), 9.0)
    target = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])[None]
    loss = SegmentationLoss(LossConfig(bce=0, dice=1), Classes(("a", "b")))
    assert loss(logits, target) < 1e-3
    assert loss(-logits, target) == pytest.approx(0.5, abs=1e-3), "one of two classes is wrong"


def test_exclusive_classes_use_the_categorical_cross_entropy():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 5, 5))
    target = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()[:, 1:]
    loss = SegmentationLoss(LossConfig(bce=1, dice=0), Classes(("a", "b", "c"), exclusive=True))
    assert loss(logits, target) == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-6)


def test_boundary_weights_of_exclusive_classes_are_the_mean_over_the_classes():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 9, 11), torch.randint(0, 4, (2, 9, 11))
    target = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()[:, 1:]
    target[:, :, :5] = 0
    labels[:, :5] = 0
    loss = SegmentationLoss(LossConfig(bce=1, dice=0, boundary=3), Classes(("a", "b", "c"), exclusive=True))
    entropy = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    expected = (entropy * boundary_weight(target, 3).mean(dim=1)).mean()
    assert loss(logits, target) == pytest.approx(expected.item(), rel=1e-5)
    assert loss(logits, target) != pytest.approx(entropy.mean().item(), rel=1e-3)


def test_a_class_with_a_fraction_of_a_pixel_counts_in_the_dice():
    target = torch.zeros(1, 1, 4, 4)
    target[..., 0, 0] = 0.5
    assert soft_dice_loss(torch.zeros_like(target), target) == 1


def test_half_precision_does_not_overflow():
    """Sums over a 1280×1918 image exceed the largest fp16 number by far."""
    logits = torch.full((1, 1, 1280, 1918), 9.0, dtype=torch.float16)
    assert SegmentationLoss(LossConfig())(logits, torch.ones_like(logits)).item() < 0.01


def test_boundary_weight_equals_a_slow_loop():
    target = (np.random.default_rng(0).random((9, 11)) > 0.5).astype(np.float32)
    expected = np.empty_like(target)
    for y, x in np.ndindex(*target.shape):
        p = target[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].mean()
        expected[y, x] = 1 + 2.5 * 4 * p * (1 - p)
    weight = boundary_weight(torch.from_numpy(target)[None, None], 2.5)[0, 0].numpy()
    assert weight == pytest.approx(expected / expected.mean(), rel=1e-5)


def test_boundary_counts_more_and_the_mean_is_one():
    weight = boundary_weight(TARGET, 3.0)
    assert weight.mean() == pytest.approx(1, abs=1e-5)
    assert weight[0, 0, 16, 12] / weight[0, 0, 16, 24] == pytest.approx(4, rel=0.1)
    assert weight[0, 0, 0, 0] == weight[0, 0, 16, 24] == weight.min()


def test_an_error_at_the_boundary_costs_more():
    plain, weighted = SegmentationLoss(LossConfig(dice=0)), SegmentationLoss(LossConfig(dice=0, boundary=5))
    logits = (TARGET * 2 - 1) * 8
    at_boundary, inside = logits.clone(), logits.clone()
    at_boundary[:, :, 16, 12] *= -1
    inside[:, :, 16, 24] *= -1
    assert plain(at_boundary, TARGET) == pytest.approx(plain(inside, TARGET).item(), rel=1e-4)
    assert weighted(at_boundary, TARGET) > 3 * weighted(inside, TARGET)
