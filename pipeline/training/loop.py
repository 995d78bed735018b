"""The training loop: steps, reports, validation, checkpoints."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from pipeline.data import dataset
from pipeline.files import atomic_write, write_json_lines
from pipeline.metrics import Metric
from pipeline.models.checkpoint import save_checkpoint
from pipeline.models.classes import Classes
from pipeline.models.device import ComputeDevice, peak_gpu_memory, to_device
from pipeline.paths import Run
from pipeline.recipe import Recipe
from pipeline.training.fold_data import Validate
from pipeline.training.losses import SegmentationLoss
from pipeline.training.progress import Pace, describe_epoch, is_validated, seconds_left
from pipeline.training.ranks import Ranks
from pipeline.training.sanity import TrainingMonitor
from pipeline.training.state import TrainState, downsample, input_size_at, learning_rate_at, train_step

log = logging.getLogger(__name__)

REPORT_EVERY = 20
"""Steps between reports of the loss. Each report waits until the device has finished its queue."""
SAVE_EVERY = 300.0
"""Seconds between checkpoints: the work that a power cut may cost."""


class EventLog(Protocol):
    """Where curves and images go: TensorBoard's SummaryWriter, or `NoEventLog`."""

    def add_scalar(self, tag: str, value: float, step: int, /) -> None:
        """Add a point to a curve."""

    def add_image(self, tag: str, image: np.ndarray, step: int, /, *, dataformats: str) -> None:
        """Add an image."""


class NoEventLog:
    """The event log of all processes but the main one, which writes nothing."""

    def add_scalar(self, tag: str, value: float, step: int, /) -> None:
        """Do nothing."""

    def add_image(self, tag: str, image: np.ndarray, step: int, /, *, dataformats: str) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class TrainContext:
    """Constants of a training: recipe, device, data, outputs."""

    recipe: Recipe
    device: ComputeDevice
    train_loader: DataLoader[Any]
    """Batches of the remaining steps, starting at `state.step`."""
    validate: Validate | None
    """None if there is nothing to validate on."""
    steps_per_epoch: int
    run: Run
    writer: EventLog
    monitor: TrainingMonitor
    classes: Classes
    metric: Metric
    should_stop: Callable[[], bool]
    ranks: Ranks

    @property
    def total_steps(self) -> int:
        """Number of steps of the whole training."""
        return self.recipe.train.epochs * self.steps_per_epoch


def train_loop(state: TrainState, context: TrainContext) -> bool:
    """Run the remaining steps; return False if `context.should_stop` ended the loop before the last one."""
    config, device, total = context.recipe.train, context.device, context.total_steps
    loss = SegmentationLoss(config.loss, context.classes, context.ranks)
    saved = started = time.monotonic()
    seconds_before, pace = state.seconds, Pace()
    figures: list[torch.Tensor] = []
    bar = tqdm(
        total=total * config.batch_size,
        initial=state.step * config.batch_size,
        unit="img",
        desc=context.run.folder.name,
        disable=not context.ranks.is_main,
    )
    state.model.train()
    batches = iter(dataset.iterate(context.train_loader))
    with bar, logging_redirect_tqdm():
        while state.step < total:
            with pace.wait():
                images, masks = next(batches)
            learning_rate = learning_rate_at(state.step, total, config)
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate
            images, target = to_device(images, device), masks.to(device.device, non_blocking=True).float() / 255
            if (size := input_size_at(state.step, total, context.recipe)) != context.recipe.input.size:
                images, target = downsample(images, size), downsample(target, size)
            figures.append(train_step(state, images, target, loss, device, config))
            bar.update(config.batch_size)

            ends_epoch = state.step % context.steps_per_epoch == 0
            stop, save = context.ranks.any(context.should_stop(), time.monotonic() - saved > SAVE_EVERY)
            stop = stop and state.step < total
            save = save or stop or ends_epoch
            if len(figures) == REPORT_EVERY or save:
                value = _report(state, context, figures, learning_rate, pace)
                state.seconds = seconds_before + time.monotonic() - started
                wait = state.epoch_wait / state.epoch_seconds
                bar.set_postfix(loss=f"{value:.4f}", lr=f"{learning_rate:.1e}", wait=f"{wait:.0%}")
                figures.clear()
            if ends_epoch:
                _end_epoch(state, context, learning_rate)
                state.seconds = seconds_before + time.monotonic() - started
            if save:
                if context.ranks.is_main:
                    save_checkpoint(context.run.checkpoint, state.state_dict())
                saved = time.monotonic()
                pace.restart()
            if stop:
                return False
    return True


def _report(
    state: TrainState, context: TrainContext, figures: Sequence[torch.Tensor], learning_rate: float, pace: Pace
) -> float:
    """Log and check the means of the last steps; return the mean loss."""
    # Sums of so few float32 are exact in float64, so the mean of an epoch does not depend on where it was interrupted.
    sums = context.ranks.mean(torch.stack(list(figures)).cpu().double().sum(dim=0))
    loss, true_area, predicted_area = (sums / len(figures)).tolist()
    seconds, waited = pace.restart()  # here, because the copy above has waited for the device
    state.epoch_loss += sums[0].item()
    state.epoch_seconds += seconds
    state.epoch_wait += waited
    context.monitor.update(
        step=state.step, steps=len(figures), loss=loss, true_area=true_area, predicted_area=predicted_area
    )
    scalars = {
        "train/loss": loss,
        "train/learning_rate": learning_rate,
        "speed/images_per_second": len(figures) * context.recipe.train.batch_size / seconds,
        "speed/wait": waited / seconds,
        "speed/gpu_memory_gib": peak_gpu_memory(context.device),
    }
    for name, value in scalars.items():
        if value is not None:
            context.writer.add_scalar(name, value, state.step)
    return float(loss)


def _end_epoch(state: TrainState, context: TrainContext, learning_rate: float) -> None:
    """Validate if it is due, and log the epoch."""
    config, memory = context.recipe.train, peak_gpu_memory(context.device)
    epoch = state.step // context.steps_per_epoch
    row: dict[str, Any] = {
        "epoch": epoch,
        "step": state.step,
        "loss": state.epoch_loss / context.steps_per_epoch,
        "images": state.step * config.batch_size,
        "seconds": round(state.seconds, 1),
        "learning_rate": learning_rate,
        "images_per_second": float(f"{context.steps_per_epoch * config.batch_size / state.epoch_seconds:.4g}"),
        "wait": round(state.epoch_wait / state.epoch_seconds, 4),
    }
    if memory is not None:
        row["gpu_memory_gib"] = round(memory, 2)
    if is_validated(epoch, config) and context.validate:
        started = time.monotonic()
        scores, drawing = context.validate(state.eval_model)
        state.model.train()
        row |= {**scores, "validation_seconds": round(time.monotonic() - started, 1)}
        if context.ranks.is_main:
            with atomic_write(context.run.samples / f"epoch-{epoch:03d}.jpg") as temporary:
                Image.fromarray(drawing).save(temporary, quality=88)
        for name, value in scores.items():
            context.writer.add_scalar(f"validation/{name}", value, state.step)
        context.writer.add_image("validation/samples", drawing, state.step, dataformats="HWC")
    state.history.append(row)
    state.epoch_loss = state.epoch_seconds = state.epoch_wait = 0.0
    if context.ranks.is_main:
        write_json_lines(context.run.metrics, state.history)
    left = seconds_left(state.history, context.recipe, context.steps_per_epoch)
    summary = describe_epoch(state.history, config.epochs, context.metric.name, context.metric.label, left)
    log.info("%s: %s", context.run.folder.name, summary)
