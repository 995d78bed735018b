"""Train one fold: data, model, loop, weights."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from pipeline.competition import Competition
from pipeline.data import dataset
from pipeline.data.augment import Augmentation
from pipeline.data.folds import fingerprint_ids, read_folds, split_samples
from pipeline.data.labels import LabelReader
from pipeline.data.samples import Sample, load_training_samples
from pipeline.errors import UserError
from pipeline.files import atomic_write, write_json_lines, write_text
from pipeline.host import git_commit
from pipeline.inference.postprocess import Postprocess, default_postprocess
from pipeline.metrics import Metric, load_metric
from pipeline.models.checkpoint import WeightsMetadata, save_checkpoint, save_weights
from pipeline.models.classes import Classes, classes_of
from pipeline.models.device import ComputeDevice, choose_device, to_device
from pipeline.models.zoo import count_parameters
from pipeline.paths import ALL, Fold, Run, recipe_toml
from pipeline.recipe import Recipe, read_recipe, save_recipe
from pipeline.training.interrupts import catch_stop_signals
from pipeline.training.losses import SegmentationLoss
from pipeline.training.sanity import TrainingMonitor, check_masks
from pipeline.training.state import (
    TrainState,
    downsample,
    init_state,
    input_size_at,
    learning_rate_at,
    resume_state,
    train_step,
)
from pipeline.training.validation import validate_model

log = logging.getLogger(__name__)

REPORT_EVERY = 20
"""Steps between reports of the loss. Each report waits until the device has finished its queue."""
VALIDATION_THRESHOLD = 0.5
"""Probability threshold of the validation during a training."""
SAVE_EVERY = 300.0
"""Seconds between checkpoints: the work that a power cut may cost."""


@dataclass(frozen=True)
class TrainContext:
    """What stays the same during a training."""

    recipe: Recipe
    device: ComputeDevice
    train_loader: DataLoader[Any]
    """Endless batches, from the first step that is left."""
    validation_loader: DataLoader[Any]
    validation_samples: int
    steps_per_epoch: int
    run: Run
    writer: SummaryWriter
    monitor: TrainingMonitor
    classes: Classes
    metric: Metric
    postprocess: Postprocess
    """With which the validation binarizes."""
    should_stop: Callable[[], bool]

    @property
    def total_steps(self) -> int:
        """Number of steps of the whole training."""
        return self.recipe.train.epochs * self.steps_per_epoch


def train_fold(
    competition: Competition,
    recipe: Recipe,
    data: Path,
    folds_csv: Path,
    fold: Fold,
    run: Run,
    minutes: float | None = None,
) -> bool:
    """Train one fold. Resume an interrupted training; do nothing if it is finished.

    A run of another recipe or another split in the same folder is renamed, not overwritten.

    Args:
        competition: describes the data.
        recipe: how to train.
        data: the data folder.
        folds_csv: the fold of every image.
        fold: the fold to validate on; "all" trains on every image and validates on none.
        run: where the results go.
        minutes: stop after this time and save a checkpoint.

    Returns:
        Whether the training is finished.

    Raises:
        UserError: the data, the folds or the recipe are faulty, or the training cannot succeed.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM, after a checkpoint was saved.
    """
    samples = load_training_samples(competition, data)
    train, validation = split_samples(samples, read_folds(folds_csv, samples), fold)
    if not _prepare_run(run, recipe, f"{fingerprint_ids(train)} {fingerprint_ids(validation)}\n"):
        log.info("%s: is already trained", run.weights)
        return True
    dataset.require_batch(len(train), recipe.train.batch_size)
    check_masks(train, competition)

    device = choose_device(recipe.train.precision)
    classes = classes_of(competition)
    state = init_state(recipe, classes, device, fold)
    if run.checkpoint.exists():
        resume_state(state, run.checkpoint)
        log.info("%s: resumes at step %d", run.folder, state.step)
    train_loader, validation_loader = _build_loaders(competition, recipe, train, validation, device, state.step)
    deadline = time.monotonic() + 60 * minutes if minutes is not None else math.inf

    # Purge only what was logged after the checkpoint: those steps are done again.
    writer = SummaryWriter(run.folder, purge_step=state.step + 1)
    with _explain_training_errors(recipe), catch_stop_signals() as stop, writer:
        context = TrainContext(
            recipe=recipe,
            device=device,
            train_loader=train_loader,
            validation_loader=validation_loader,
            validation_samples=len(validation),
            steps_per_epoch=len(train) // recipe.train.batch_size,
            run=run,
            writer=writer,
            monitor=TrainingMonitor(may_be_empty=competition.masks.may_be_empty),
            classes=classes,
            metric=load_metric(competition),
            postprocess=default_postprocess(competition, VALIDATION_THRESHOLD),
            should_stop=lambda: stop.is_set() or time.monotonic() > deadline,
        )
        log.info(
            "%s: %d training and %d validation images, %d steps, %.1f M parameters",
            run.folder, len(train), len(validation), context.total_steps, count_parameters(state.model) / 1e6,
        )  # fmt: skip
        finished = _train_loop(state, context)
    if not finished:
        log.info("%s: stopped at step %d of %d; the same command resumes", run.folder, state.step, context.total_steps)
        if stop.is_set():
            raise KeyboardInterrupt
        return False
    metadata = WeightsMetadata(
        competition=competition.name,
        fold=str(fold),
        held_out=fingerprint_ids(validation),
        epochs=str(recipe.train.epochs),
        score="" if fold == ALL else f"{state.history[-1][competition.metric]:.6f}",
        commit=git_commit(),
        torch=torch.__version__,
        classes=json.dumps(classes.names),
        exclusive="yes" if classes.exclusive else "",
    )
    save_weights(run.weights, state.eval_model, recipe, metadata)
    run.checkpoint.unlink(missing_ok=True)
    return True


def _prepare_run(run: Run, recipe: Recipe, split: str) -> bool:
    """Prepare the folder for this recipe and split; return False if it holds the finished training already."""
    if run.recipe.exists():
        differences = read_recipe(run.recipe).training_differences(recipe)
        if not run.split.exists() or run.split.read_text() != split:
            # Resuming would train on images that are now validation images.
            differences.append("other training images")
        if differences:
            renamed = run.set_aside()
            log.info("%s: holds another training (%s); renamed to %s", run.folder, "; ".join(differences), renamed)
        elif run.weights.exists():
            run.weights.touch()  # newer than an edited recipe that trains the same, for make
            return False
    write_text(run.split, split)
    save_recipe(recipe, run.recipe)
    return True


def _build_loaders(
    competition: Competition,
    recipe: Recipe,
    train: Sequence[Sample],
    validation: Sequence[Sample],
    device: ComputeDevice,
    first_step: int,
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Build the loaders of the steps that are left and of the validation images."""
    config = recipe.train
    on_cpu = device.device.type == "cpu"
    workers = dataset.num_loader_workers(on_cpu)
    # Decoding costs training time only where both share the same cores.
    cache = on_cpu and dataset.fits_in_memory(len(train), recipe.input.size, competition.num_classes)
    log.info("decoded images are %s", "cached in memory" if cache else "not cached")
    augmentation = Augmentation(recipe.augment, recipe.seed)
    labels, size = LabelReader(competition), recipe.input.size
    train_set = dataset.TrainDataset(train, labels, size, augmentation, cache=cache)
    sampler = dataset.EpochSampler(len(train), config.batch_size, config.epochs, recipe.seed, first_step)
    instances = load_metric(competition).needs_instances
    validation_set = dataset.ValidationDataset(validation, labels, size, instances=instances)
    return (
        dataset.train_loader(train_set, sampler, workers, device.is_cuda),
        dataset.validation_loader(validation_set, config.batch_size, workers, device.is_cuda),
    )


def _train_loop(state: TrainState, context: TrainContext) -> bool:
    """Run the steps that are left; return False if `context.should_stop` ended the loop before the last one."""
    config, device, total = context.recipe.train, context.device, context.total_steps
    loss = SegmentationLoss(config.loss, context.classes)
    saved = started = time.monotonic()
    seconds_before, waited = state.seconds, 0.0
    figures: list[torch.Tensor] = []
    bar = tqdm(
        total=total * config.batch_size,
        initial=state.step * config.batch_size,
        unit="img",
        desc=context.run.folder.name,
    )
    state.model.train()
    batches = iter(dataset.iterate(context.train_loader))
    with bar, logging_redirect_tqdm():
        while state.step < total:
            waiting = time.monotonic()
            images, masks = next(batches)
            waited += time.monotonic() - waiting
            learning_rate = learning_rate_at(state.step, total, config)
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate
            images, target = to_device(images, device), masks.to(device.device, non_blocking=True).float() / 255
            if (size := input_size_at(state.step, total, context.recipe)) != context.recipe.input.size:
                images, target = downsample(images, size), downsample(target, size)
            figures.append(train_step(state, images, target, loss, device, config))
            bar.update(config.batch_size)

            ends_epoch = state.step % context.steps_per_epoch == 0
            stop = context.should_stop() and state.step < total
            save = stop or ends_epoch or time.monotonic() - saved > SAVE_EVERY
            if len(figures) == REPORT_EVERY or save:
                value = _report(state, context, figures, learning_rate)
                state.seconds = seconds_before + time.monotonic() - started
                wait = waited / (time.monotonic() - started)
                bar.set_postfix(loss=f"{value:.4f}", lr=f"{learning_rate:.1e}", wait=f"{wait:.0%}")
                figures.clear()
            if ends_epoch:
                _end_epoch(state, context)
                state.seconds = seconds_before + time.monotonic() - started
            if save:
                save_checkpoint(context.run.checkpoint, state.state_dict())
                saved = time.monotonic()
            if stop:
                return False
    return True


def _report(state: TrainState, context: TrainContext, figures: Sequence[torch.Tensor], learning_rate: float) -> float:
    """Log and check the means of the last steps; return the mean loss."""
    loss, true_area, predicted_area = torch.stack(list(figures)).mean(dim=0).tolist()
    state.epoch_loss += loss * len(figures)
    context.monitor.update(
        step=state.step, steps=len(figures), loss=loss, true_area=true_area, predicted_area=predicted_area
    )
    context.writer.add_scalar("loss", loss, state.step)
    context.writer.add_scalar("learning_rate", learning_rate, state.step)
    return float(loss)


def _end_epoch(state: TrainState, context: TrainContext) -> None:
    """Validate if it is due, and log the epoch."""
    config = context.recipe.train
    epoch = state.step // context.steps_per_epoch
    row: dict[str, Any] = {
        "epoch": epoch,
        "step": state.step,
        "loss": state.epoch_loss / context.steps_per_epoch,
        "images": state.step * config.batch_size,
        "seconds": round(state.seconds, 1),
    }
    due = epoch % config.validate_every == 0 or epoch == config.epochs
    if due and context.validation_samples:
        scores, drawing = validate_model(
            state.eval_model,
            context.validation_loader,
            context.validation_samples,
            context.device,
            context.classes,
            context.metric,
            context.postprocess,
        )
        state.model.train()
        row |= scores
        with atomic_write(context.run.samples / f"epoch-{epoch:03d}.jpg") as temporary:
            Image.fromarray(drawing).save(temporary, quality=88)
        for name, value in scores.items():
            context.writer.add_scalar(name, value, state.step)
        context.writer.add_image("samples", drawing, state.step, dataformats="HWC")
    state.history.append(row)
    state.epoch_loss = 0.0
    write_json_lines(context.run.metrics, state.history)
    log.info(
        ", ".join(
            f"{name} {value:.5f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
        )
    )


@contextmanager
def _explain_training_errors(recipe: Recipe) -> Iterator[None]:
    """Turn CUDA out-of-memory and shared-memory errors into a UserError."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        what = f"a batch of {recipe.train.batch_size} does not fit into the memory of this GPU"
        raise UserError(recipe_toml(recipe.name), what, "lower train.batch_size") from None
    except RuntimeError as error:
        if "shared memory" not in str(error) and "Bus error" not in str(error):
            raise
        fix = "give the container more, for example with docker run --shm-size=8g"
        raise UserError("", "the data loader's workers ran out of shared memory", fix) from None
