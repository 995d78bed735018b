"""What changes during a training, one step of it, and how it is written down and taken up again."""

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.model import checkpoint
from pipeline.model.device import Device
from pipeline.model.muon import Muon
from pipeline.model.zoo import Segmenter, build
from pipeline.recipe import Recipe, Train


@dataclass
class State:
    """All that changes during a training."""

    network: Segmenter
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: Segmenter | None
    """Exponential mean of the network's weights and statistics."""
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    epoch_loss: float = 0.0
    """Sum over the steps of the epoch that is under way."""

    @property
    def kept(self) -> Segmenter:
        """The network whose weights are validated and kept."""
        return self.average or self.network


def start(recipe: Recipe, device: Device, fold: int) -> State:
    """A training at step 0; folds start from different weights, which makes their mean worth more."""
    torch.manual_seed(recipe.seed * 1000 + fold)
    settings = recipe.train
    network = build(recipe.network).to(device.torch, memory_format=torch.channels_last)
    optimizer = _optimizer(network, settings)
    average = copy.deepcopy(network).requires_grad_(False).eval() if settings.ema else None
    if settings.compile:
        network.compile()
    scaler = torch.amp.GradScaler(device.torch.type, enabled=device.scaled)
    return State(network, optimizer, scaler, average)


def _optimizer(network: nn.Module, settings: Train) -> torch.optim.Optimizer:
    values: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    match settings.optimizer:
        case "muon":
            return Muon(network, **values)
        case "sgd":
            return torch.optim.SGD(network.parameters(), momentum=0.9, nesterov=True, **values)
        case "adam":
            return torch.optim.Adam(network.parameters(), **values)
        case "adamw":
            return torch.optim.AdamW(network.parameters(), **values)


def capture(state: State) -> dict[str, Any]:
    """Everything that changes, as tensors and plain values."""
    return {
        "network": state.network.state_dict(),
        "average": state.average.state_dict() if state.average else None,
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "progress": {
            "step": state.step,
            "seconds": state.seconds,
            "history": state.history,
            "epoch_loss": state.epoch_loss,
        },
    }


def restore(state: State, path: Path) -> None:
    """Fill a fresh state with what `capture` took."""
    saved = checkpoint.load_state(path)
    try:
        state.network.load_state_dict(saved["network"])
        state.optimizer.load_state_dict(saved["optimizer"])
        if saved["scaler"]:  # empty if the training began where no scaling was needed
            state.scaler.load_state_dict(saved["scaler"])
        if state.average:
            state.average.load_state_dict(saved["average"])
        torch.set_rng_state(saved["random"])
        if torch.cuda.is_available() and saved["random_cuda"] is not None:
            torch.cuda.set_rng_state(saved["random_cuda"])
        for key, value in saved["progress"].items():
            setattr(state, key, value)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path}: is of another network ({str(error)[:120]}); delete it to train from the start"
        ) from None


def learning_rate(step: int, total: int, settings: Train) -> float:
    """The learning rate of a step counted from 0: a linear rise to the peak, then constant or a half cosine to zero."""
    warmup = round(settings.warmup * total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def input_size(step: int, total: int, recipe: Recipe) -> tuple[int, int]:
    """(width, height) that a step counted from 0 trains at."""
    return next((stage.size for stage in recipe.train.early if step < stage.until * total), recipe.input.size)


def shrink(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (n, c, h, w), the mean of each area: (n, c, height, width) float for `size` = (width, height)."""
    width, height = size
    return F.interpolate(pictures.float(), (height, width), mode="area")


def train_step(
    state: State, images: Tensor, target: Tensor, loss: nn.Module, device: Device, settings: Train
) -> Tensor:
    """Forward, backward, update.

    Args:
        state: changed in place.
        images: (n, 3, h, w) uint8 or float, 0 to 255, on the device.
        target: (n, 1, h, w) float 0 to 1 on the device.
        loss: of logits and target.
        device: for its precision.
        settings: for clipping and averaging.

    Returns:
        (3,) float32 on the device: loss, share of the pixels that are true, share that was predicted.
    """
    with device.autocast():
        logits = state.network(images)
    value = loss(logits, target)
    state.scaler.scale(value).backward()
    if settings.clip:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.average:
        update_average(state.average, state.network, state.step, settings.ema)
    state.step += 1
    return torch.stack([value.detach(), target.mean(), (logits.detach() > 0).float().mean()])


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Move an exponential mean towards the network, running statistics included.

    It starts short, so that the random first weights are soon forgotten. Torch's own AveragedModel does the same, but
    asks the device for its counter several times a step, and each time waits until its queue is empty.

    Args:
        average: changed in place.
        network: of the same architecture.
        step: counted from 0.
        decay: of the mean, once it is long.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step)) if step else 1.0
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([mean for mean, _ in floats], [current for _, current in floats], weight)
    for mean, current in pairs:
        if not mean.is_floating_point():
            mean.copy_(current)
