"""One fold, from images to weights."""

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from pipeline import runs
from pipeline.competition import Competition, training_samples
from pipeline.data import dataset, draw, folds
from pipeline.errors import UserError
from pipeline.files import atomic, write_text
from pipeline.model import checkpoint, metrics
from pipeline.model.device import Device, choose, to_device
from pipeline.model.loss import SegmentationLoss
from pipeline.model.state import State, capture, input_size, learning_rate, restore, shrink, start, train_step
from pipeline.model.zoo import Segmenter, parameters
from pipeline.preflight import Watch, look_at_masks
from pipeline.recipe import Recipe
from pipeline.recipe import read as read_recipe
from pipeline.recipe import save as save_recipe

log = logging.getLogger(__name__)

REPORT_EVERY = 20
"""Steps between two looks at the loss: each look waits for the device to finish its queue."""
SAVE_EVERY = 300.0
"""Seconds of work that a power cut may cost."""
SAMPLES = 4


def train_fold(
    competition: Competition,
    recipe: Recipe,
    data: Path,
    folds_file: Path,
    fold: int | None,
    run: runs.Run,
    minutes: float | None = None,
) -> bool:
    """Train one fold; go on where an earlier call stopped; do nothing if it is done already.

    A run of another recipe in the folder is set aside, not overwritten.

    Args:
        competition: what the data is.
        recipe: how to train.
        data: the folder that holds the competition's files.
        folds_file: which images are held out.
        fold: the one to hold out; None trains on every image, and nothing is left to judge the result by.
        run: where results go.
        minutes: stop after this time, with the state saved.

    Returns:
        Whether the training is finished.

    Raises:
        UserError: the data, the folds or the recipe do not allow it, or the training cannot succeed.
    """
    samples = training_samples(competition, data)
    train, held_out = folds.hold_out(samples, folds.read(folds_file, samples), fold)
    if not _prepare(run, recipe, f"{folds.fingerprint(train)} {folds.fingerprint(held_out)}\n"):
        log.info("%s: is trained already", run.weights)
        return True
    dataset.require_batch(len(train), recipe.train.batch)
    look_at_masks(train, competition)

    device = choose(recipe.train.precision)
    state = start(recipe, device, -1 if fold is None else fold)
    if run.state.exists():
        restore(state, run.state)
        log.info("%s: goes on at step %d", run.folder, state.step)
    steps_per_epoch = len(train) // recipe.train.batch
    total = recipe.train.epochs * steps_per_epoch
    log.info(
        "%s: %d images to train on, %d held out, %d steps, %.1f M parameters",
        run.folder, len(train), len(held_out), total, parameters(state.network) / 1e6,
    )  # fmt: skip

    on_cpu = device.torch.type == "cpu"
    workers = dataset.worker_count(on_cpu)
    # Decoding takes time from the network only where both run on the same cores.
    keep = on_cpu and dataset.fits_in_memory(len(train), recipe.input.size)
    log.info("decoded images are %s", "kept in memory" if keep else "not kept: every epoch reads them again")
    training_set = dataset.TrainingSet(train, competition, recipe, keep)
    sampler = dataset.EpochSampler(len(train), recipe.train.batch, recipe.train.epochs, recipe.seed, state.step)
    loader = dataset.training_loader(training_set, sampler, workers, device.is_gpu)
    held_out_set = dataset.ValidationSet(held_out, competition, recipe.input.size)
    held_out_loader = dataset.validation_loader(held_out_set, recipe.train.batch, workers, device.is_gpu)
    deadline = time.monotonic() + 60 * minutes if minutes is not None else math.inf

    # What was logged at the step itself stays; only what came after it is done again.
    board = SummaryWriter(run.folder, purge_step=state.step + 1)
    with _explained(recipe), stop_requests() as stop, board:
        finished = _loop(
            state, recipe, device, loader, held_out_loader, steps_per_epoch, run, board, Watch(competition),
            lambda: stop.is_set() or time.monotonic() > deadline,
        )  # fmt: skip
    if not finished:
        log.info("%s: stopped at step %d of %d; the same command goes on", run.folder, state.step, total)
        if stop.is_set():
            raise KeyboardInterrupt
        return False
    origin = checkpoint.Origin(
        competition=competition.name,
        fold="all" if fold is None else str(fold),
        held_out=folds.fingerprint(held_out),
        epochs=str(recipe.train.epochs),
        dice="" if fold is None else f"{state.history[-1]['dice']:.6f}",
        commit=checkpoint.commit(),
        torch=torch.__version__,
    )
    checkpoint.save_weights(run.weights, state.kept, recipe, origin)
    run.state.unlink(missing_ok=True)
    return True


@torch.inference_mode()
def validate(network: Segmenter, loader: DataLoader, device: Device) -> tuple[dict[str, float], np.ndarray]:
    """Score a network on held-out images at their native size.

    Returns:
        Means over images, {"dice": …, "accuracy": …}, and a picture (h, w, 3) uint8 of a few predictions and errors.
    """
    network.eval()
    scores: list[tuple[float, float]] = []
    shown = set(np.linspace(0, len(loader.dataset) - 1, SAMPLES).astype(int).tolist())
    pictures = []
    for images, truths in tqdm(loader, desc="validate", unit="batch", leave=False):
        with device.autocast():
            logits = network(to_device(images, device))
        for image, logit, truth in zip(images, logits.float(), truths, strict=True):
            truth = truth.to(device.torch, non_blocking=True)
            mask = metrics.enlarge(logit.sigmoid()[None], truth.shape)[0, 0] >= 0.5
            if len(scores) in shown:
                pictures.append(_sample_picture(image, mask, truth))
            scores.append((metrics.dice(mask, truth), metrics.accuracy(mask, truth)))
    dice, accuracy = np.mean(scores, axis=0).tolist()
    return {"dice": dice, "accuracy": accuracy}, draw.grid(pictures)


def _loop(
    state: State,
    recipe: Recipe,
    device: Device,
    loader: DataLoader,
    held_out: DataLoader,
    steps_per_epoch: int,
    run: runs.Run,
    board: SummaryWriter,
    watch: Watch,
    must_stop: Any,
) -> bool:
    """Run the steps that are left; False if `must_stop` ended it before the last one."""
    settings = recipe.train
    total = settings.epochs * steps_per_epoch
    loss = SegmentationLoss(settings.loss)
    saved = started = time.monotonic()
    before, waited, recent = state.seconds, 0.0, []
    bar = tqdm(total=total * settings.batch, initial=state.step * settings.batch, unit="img", desc=run.folder.name)
    state.network.train()
    batches = iter(loader)
    with bar, logging_redirect_tqdm():
        while state.step < total:
            waiting = time.monotonic()
            images, masks = next(batches)
            waited += time.monotonic() - waiting
            for group in state.optimizer.param_groups:
                group["lr"] = rate = learning_rate(state.step, total, settings)
            images, target = to_device(images, device), masks.to(device.torch, non_blocking=True).float() / 255
            if (size := input_size(state.step, total, recipe)) != recipe.input.size:
                images, target = shrink(images, size), shrink(target, size)
            recent.append(train_step(state, images, target, loss, device, settings))
            bar.update(settings.batch)
            ends_epoch = state.step % steps_per_epoch == 0
            stop = must_stop() and state.step < total
            save = stop or ends_epoch or time.monotonic() - saved > SAVE_EVERY
            if len(recent) == REPORT_EVERY or save:
                value, true, predicted = torch.stack(recent).mean(dim=0).tolist()
                state.epoch_loss += value * len(recent)
                watch.check(step=state.step, steps=len(recent), loss=value, truth=true, predicted=predicted)
                recent.clear()
                state.seconds = before + time.monotonic() - started
                bar.set_postfix(
                    loss=f"{value:.4f}", lr=f"{rate:.1e}", wait=f"{waited / (time.monotonic() - started):.0%}"
                )
                board.add_scalar("loss", value, state.step)
                board.add_scalar("learning_rate", rate, state.step)
            if ends_epoch:
                _end_epoch(state, recipe, device, held_out, steps_per_epoch, run, board)
                state.seconds = before + time.monotonic() - started
            if save:
                checkpoint.save_state(run.state, capture(state))
                saved = time.monotonic()
            if stop:
                return False
    return True


def _end_epoch(
    state: State,
    recipe: Recipe,
    device: Device,
    held_out: DataLoader,
    steps_per_epoch: int,
    run: runs.Run,
    board: SummaryWriter,
) -> None:
    """Validate if it is due, and write down how the epoch went."""
    epoch = state.step // steps_per_epoch
    row: dict[str, Any] = {
        "epoch": epoch,
        "step": state.step,
        "loss": state.epoch_loss / steps_per_epoch,
        "images": state.step * recipe.train.batch,
        "seconds": round(state.seconds, 1),
    }
    due = epoch % recipe.train.validate_every == 0 or epoch == recipe.train.epochs
    if due and len(held_out.dataset):
        scores, picture = validate(state.kept, held_out, device)
        state.network.train()
        row |= scores
        path = run.samples / f"epoch-{epoch:03d}.jpg"
        with atomic(path) as temporary:
            Image.fromarray(picture).save(temporary, quality=88)
        for name, value in scores.items():
            board.add_scalar(name, value, state.step)
        board.add_image("samples", picture, state.step, dataformats="HWC")
    state.history.append(row)
    state.epoch_loss = 0.0
    runs.write_json_lines(run.metrics, state.history)
    log.info(
        ", ".join(
            f"{name} {value:.5f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
        )
    )


def _prepare(run: runs.Run, recipe: Recipe, split: str) -> bool:
    """Make the folder ready for this recipe and split; False if it holds the finished training already."""
    if run.recipe.exists():
        differences = read_recipe(run.recipe).differences(recipe)
        if not run.split.exists() or run.split.read_text() != split:
            # To go on would mix images that one split trains on with those that the other holds out.
            differences.append("the images it was trained on")
        if differences:
            kept = run.set_aside()
            log.info("%s: was another training (%s); kept as %s", run.folder, "; ".join(differences), kept)
        elif run.weights.exists():
            run.weights.touch()  # for make, which compares times: an edit that changed nothing is no reason to train
            return False
    write_text(run.split, split)
    save_recipe(recipe, run.recipe)
    return True


def _sample_picture(image: Tensor, mask: Tensor, truth: Tensor) -> list[np.ndarray]:
    """Overlay and errors of one held-out image, at the size of its mask."""
    height, width = truth.shape
    picture = draw.resize_image(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), (width, height))
    found, true = mask.cpu().numpy(), truth.cpu().numpy()
    return [draw.overlay(picture, found), draw.errors(picture, found, true)]


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a termination sets, so that a step is finished and saved; a second one ends at once."""
    event = threading.Event()

    def request(number: int, _: Any) -> None:
        event.set()
        signal.signal(number, previous[number])

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, request) for number in numbers}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _explained(recipe: Recipe) -> Iterator[None]:
    """One sentence for what comes out of the depths of a training."""
    try:
        yield
    except UserError as error:
        # A loader's worker wraps what it raised into the text of its traceback.
        raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            f"recipes/{recipe.name}.toml: a batch of {recipe.train.batch} does not fit into this GPU's memory; "
            f"lower train.batch"
        ) from None
    except RuntimeError as error:
        if "shared memory" not in str(error) and "Bus error" not in str(error):
            raise
        raise UserError(
            "the loader's workers ran out of shared memory; give the container more (docker run --shm-size=8g)"
        ) from None
