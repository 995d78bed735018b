"""Schedules and steps do what the recipe says."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.models.classes import SINGLE_CLASS
from pipeline.models.device import ComputeDevice
from pipeline.recipe import LossConfig, TrainConfig
from pipeline.training.losses import SegmentationLoss
from pipeline.training.state import (
    downsample,
    init_state,
    input_size_at,
    learning_rate_at,
    train_step,
)
from tests.helpers import changed_recipe

CONFIG = TrainConfig(epochs=1, batch_size=1, learning_rate=2.0, warmup=0.1)
CPU = ComputeDevice(torch.device("cpu"), "float32", "test")


class TestLearningRate:
    def test_rises_linearly_then_falls_along_a_half_cosine(self):
        rates = [learning_rate_at(step, 100, CONFIG) for step in range(100)]
        assert rates[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
        assert rates[10] == 2.0
        assert rates[55] == pytest.approx(1.0)
        assert np.all(np.diff(rates[10:]) < 0)
        assert rates[-1] == pytest.approx(1 + np.cos(np.pi * 89 / 90))

    def test_constant_after_the_warm_up(self):
        config = CONFIG.model_copy(update={"schedule": "constant"})
        assert [learning_rate_at(step, 20, config) for step in range(4)] == [1.0, 2.0, 2.0, 2.0]

    def test_without_warm_up_it_starts_at_the_peak(self):
        assert learning_rate_at(0, 9, CONFIG.model_copy(update={"warmup": 0.0})) == 2.0


class TestResizeSchedule:
    STAGES = ({"until": 0.3, "size": (32, 16)}, {"until": 0.5, "size": (32, 32)})

    def test_sizes_by_step(self, recipe):
        staged = changed_recipe(recipe, train__resize_schedule=self.STAGES)
        sizes = [input_size_at(step, 10, staged) for step in range(10)]
        assert sizes == [(32, 16)] * 3 + [(32, 32)] * 2 + [(64, 48)] * 5
        assert {input_size_at(step, 10, recipe) for step in range(10)} == {(64, 48)}

    def test_downsampling_is_the_mean_of_areas(self):
        images = torch.arange(2 * 3 * 4 * 6, dtype=torch.uint8).view(2, 3, 4, 6)
        small = downsample(images, (3, 2))
        assert small.shape == (2, 3, 2, 3)
        assert small[0, 0, 0, 0] == images[0, 0, :2, :2].float().mean()


class TestStep:
    @pytest.fixture
    def batch(self):
        torch.manual_seed(0)
        images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
        target = torch.zeros(2, 1, 32, 32)
        target[..., :8] = 1
        return images, target

    def step(self, recipe, batch, **changes):
        changed = changed_recipe(recipe, **changes)
        state = init_state(changed, SINGLE_CLASS, CPU, 0)
        gradients = {}
        for name, parameter in state.model.named_parameters():
            parameter.register_post_accumulate_grad_hook(lambda p, name=name: gradients.update({name: p.grad.clone()}))
        before = [parameter.detach().clone() for parameter in state.model.parameters()]
        figures = train_step(state, *batch, SegmentationLoss(LossConfig()), CPU, changed.train)
        after = [parameter.detach() for parameter in state.model.parameters()]
        return state, figures, gradients, before, after

    def test_reports_loss_and_areas(self, recipe, batch):
        state, figures, *_ = self.step(recipe, batch)
        assert figures.shape == (3,)
        assert figures[1].item() == 0.25
        assert 0 <= figures[2].item() <= 1
        assert state.step == 1

    def test_gradients_are_clipped_to_the_norm(self, recipe, batch):
        changes = {"train__optimizer": "sgd", "train__learning_rate": 1.0, "train__weight_decay": 0.0}
        for limit, expected in ((0.01, 0.01), (0.0, None)):
            _, _, gradients, before, after = self.step(recipe, batch, train__max_grad_norm=limit, **changes)
            norm = torch.sqrt(sum((new - old).square().sum() for old, new in zip(before, after, strict=True)))
            raw = torch.sqrt(sum(gradient.square().sum() for gradient in gradients.values()))
            # SGD with Nesterov momentum 0.9 makes a first step of 1.9 gradients.
            assert norm.item() / 1.9 == pytest.approx(expected or raw.item(), rel=1e-3)

    def test_ema_model_is_validated_if_there_is_one(self, recipe, batch):
        state, *_ = self.step(recipe, batch)
        assert state.eval_model is state.ema_model
        assert not any(parameter.requires_grad for parameter in state.ema_model.parameters())
        assert self.step(recipe, batch, train__ema_decay=0.0)[0].ema_model is None

    def test_folds_start_from_different_weights_and_repeat(self, recipe):
        def first_weight(fold):
            return next(init_state(recipe, SINGLE_CLASS, CPU, fold).model.parameters()).detach()

        assert torch.equal(first_weight(0), first_weight(0))
        assert not torch.equal(first_weight(0), first_weight(1))
        assert not torch.equal(first_weight(0), first_weight("all"))

    def test_state_survives_a_round_trip(self, recipe, batch):
        state, *_ = self.step(recipe, batch)
        other = init_state(recipe, SINGLE_CLASS, CPU, 1)
        other.load_state_dict(state.state_dict())
        assert other.step == 1
        pairs = zip(state.model.state_dict().values(), other.model.state_dict().values(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)


def test_grad_scaler_is_enabled_for_fp16_only(recipe):
    assert not init_state(recipe, SINGLE_CLASS, CPU, 0).scaler.is_enabled()
    fp16 = ComputeDevice(torch.device("cpu"), "fp16", "test")
    assert init_state(recipe, SINGLE_CLASS, fp16, 0).scaler.is_enabled()
    assert isinstance(init_state(recipe, SINGLE_CLASS, CPU, 0).model, nn.Module)
