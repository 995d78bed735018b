"""Training state: initialize, step, save, resume."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.classes import Classes
from pipeline.models.device import ComputeDevice
from pipeline.models.ema import update_ema
from pipeline.models.zoo import SegmentationModel, build_model
from pipeline.paths import ALL, Fold
from pipeline.recipe import Recipe, TrainConfig
from pipeline.training.optimizer import build_optimizer
from pipeline.training.parallel_model import parallelize
from pipeline.training.ranks import ONE_PROCESS, Ranks


@dataclass
class TrainState:
    """Everything that changes during a training."""

    model: SegmentationModel
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema_model: SegmentationModel | None
    """Exponential moving average of the model; None if ``train.ema_decay`` is 0."""
    parallel_model: nn.Module
    """The same model for training steps: it averages the gradients over the ranks."""
    step: int = 0
    seconds: float = 0.0
    """Time of the whole training with its validations."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per finished epoch, as in ``metrics.jsonl``."""
    epoch_loss: float = 0.0
    """Sum of the losses of the current epoch's steps."""
    epoch_seconds: float = 0.0
    """Time of the current epoch's steps."""
    epoch_wait: float = 0.0
    """The part of `epoch_seconds` that was spent waiting for data."""
    complete: Callable[[SegmentationModel], SegmentationModel] | None = None
    """Adds what is not trained to the trained model; None if that is all of it."""

    @property
    def eval_model(self) -> SegmentationModel:
        """The model that is validated and saved: the EMA if there is one."""
        trained = self.ema_model or self.model
        return self.complete(trained) if self.complete else trained

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "ema_model": self.ema_model.state_dict() if self.ema_model else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "progress": {
                "step": self.step,
                "seconds": self.seconds,
                "history": self.history,
                "epoch_loss": self.epoch_loss,
                "epoch_seconds": self.epoch_seconds,
                "epoch_wait": self.epoch_wait,
            },
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume from what `state_dict` returned.

        Raises:
            KeyError, RuntimeError, ValueError: it belongs to another model or optimizer.
        """
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if saved["scaler"]:  # empty if the training started on a device without gradient scaling
            self.scaler.load_state_dict(saved["scaler"])
        if self.ema_model:
            self.ema_model.load_state_dict(saved["ema_model"])
        torch.set_rng_state(saved["rng"])
        if torch.cuda.is_available() and saved["rng_cuda"] is not None:
            torch.cuda.set_rng_state(saved["rng_cuda"])
        for key, value in saved["progress"].items():
            setattr(self, key, value)


def init_state(
    recipe: Recipe,
    classes: Classes,
    device: ComputeDevice,
    fold: Fold,
    build: Callable[[Classes], SegmentationModel] | None = None,
) -> TrainState:
    """Build the state at step 0, with the recipe's network or the model that `build` makes.

    The random seed is ``recipe.seed * 1000 + fold``, with -1 for the fold "all". So each fold starts from other random
    weights, which makes their ensemble better.
    """
    torch.manual_seed(recipe.seed * 1000 + (-1 if fold == ALL else fold))
    model = build(classes) if build else build_model(recipe.network, classes)
    model = model.to(device.device).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, recipe.train)
    ema_model = copy.deepcopy(model).requires_grad_(False).eval() if recipe.train.ema_decay else None
    if recipe.train.compile:
        model.compile(dynamic=False)  # a resize schedule has few sizes, and kernels for one size are faster
    scaler = torch.amp.GradScaler(device.device.type, enabled=device.needs_grad_scaler)
    return TrainState(model, optimizer, scaler, ema_model, parallel_model=model)


def resume_state(state: TrainState, checkpoint: Path, ranks: Ranks = ONE_PROCESS) -> None:
    """Load a checkpoint into a fresh state, on every rank from the file of the main process.

    Raises:
        UserError: the checkpoint is damaged or belongs to another network.
    """
    try:
        state.load_state_dict(ranks.broadcast(load_checkpoint(checkpoint) if ranks.is_main else {}))
    except (KeyError, RuntimeError, ValueError) as error:
        what = f"belongs to another network ({str(error)[:120]})"
        raise UserError(checkpoint, what, "delete it to train from the start") from None


def parallelize_state(state: TrainState, recipe: Recipe, device: ComputeDevice, ranks: Ranks) -> None:
    """Let the training steps of a state, fresh or resumed, average over the ranks."""
    state.parallel_model = parallelize(state.model, device, ranks)
    if not ranks.is_main:
        # Dropout differs between the ranks. The main process goes on with the random numbers of its checkpoint.
        torch.manual_seed(hash((recipe.seed, state.step, ranks.rank)))


def learning_rate_at(step: int, total: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then constant or cosine annealing to 0.

    Args:
        step: number of the step, from 0.
        total: number of steps of the training.
        config: the recipe's ``[train]`` table.
    """
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def input_size_at(step: int, total: int, recipe: Recipe) -> tuple[int, int]:
    """Return the input size (width, height) of a step, counted from 0, by ``train.resize_schedule``."""
    stages = recipe.train.resize_schedule
    return next((stage.size for stage in stages if step < stage.until * total), recipe.input.size)


def downsample(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (n, c, h, w) to `size` = (width, height) by the mean of each area; returns float."""
    width, height = size
    return F.interpolate(images.float(), (height, width), mode="area")


def train_step(
    state: TrainState, images: Tensor, target: Tensor, loss: nn.Module, device: ComputeDevice, config: TrainConfig
) -> Tensor:
    """Run one step: forward, backward, optimizer, EMA.

    Args:
        state: updated in place.
        images: (n, 3, h, w) uint8 or float, 0 to 255, on the device.
        target: (n, classes, h, w) float, 0 to 1, on the device.
        loss: function of logits and target.
        device: its autocast precision is used.
        config: gradient clipping and EMA decay.

    Returns:
        (3,) float32 on the device: loss, fraction of mask pixels in the target, fraction of predicted mask
            pixels.
    """
    with device.autocast():
        logits = state.parallel_model(images)
    value = loss(logits, target)
    state.scaler.scale(value).backward()
    if config.max_grad_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), config.max_grad_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema_model:
        update_ema(state.ema_model, state.model, state.step, config.ema_decay)
    state.step += 1
    return torch.stack([value.detach(), target.mean(), (logits.detach() > 0).float().mean()])
