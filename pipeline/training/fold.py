"""Train one fold: data, model, loop, weights."""

import json
import logging
import math
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from pipeline.competition import Competition
from pipeline.data import dataset
from pipeline.data.corrections import correct_samples, fingerprint_repairs
from pipeline.data.folds import fingerprint_ids, read_folds, split_samples
from pipeline.data.labels import LabelReader
from pipeline.data.pseudo import load_pseudo_samples
from pipeline.data.samples import Sample, load_training_samples
from pipeline.data.window_dataset import WindowDataset
from pipeline.errors import UserError
from pipeline.files import explain_os_error, fingerprint_file, lock, require_space, write_text
from pipeline.host import git_commit
from pipeline.interrupts import catch_stop_signals, raise_on_sigterm
from pipeline.metrics import load_metric
from pipeline.models.checkpoint import WeightsMetadata, read_weights_metadata, save_weights
from pipeline.models.classes import classes_of
from pipeline.models.device import choose_device, describe_hardware, explain_out_of_memory, release_gpu_memory
from pipeline.models.zoo import count_parameters
from pipeline.paths import ALL, Fold, Run, label_cache, pseudo_csv, recipe_toml
from pipeline.recipe import Recipe, read_recipe, save_recipe
from pipeline.training.fold_data import build_train_set, build_validation, require_no_second_stage
from pipeline.training.loop import NoEventLog, TrainContext, train_loop
from pipeline.training.progress import format_duration, mean_speed
from pipeline.training.ranks import Ranks, join_ranks
from pipeline.training.sanity import TrainingMonitor, check_masks
from pipeline.training.second_stage import TileDataset, init_second_stage, remove_tiles, tile_bytes
from pipeline.training.state import init_state, parallelize_state, resume_state

log = logging.getLogger(__name__)

_WORKER_DIED = re.compile(r"DataLoader worker .* (exited unexpectedly|is killed by signal: Killed)")


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

    A run of another recipe or another split in the same folder is renamed, not overwritten. If torchrun started several
    processes, they train the fold together; the main process writes the files and resumes from its own.

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
        KeyboardInterrupt: stopped by SIGINT, after a checkpoint was saved.
        SystemExit: stopped by SIGTERM, with code 143, after a checkpoint was saved.
    """
    require_no_second_stage(competition, recipe)
    samples = load_training_samples(competition, data)
    train, validation = split_samples(samples, read_folds(folds_csv, samples), fold)
    corrected = correct_samples(competition, samples, train)
    repairs = fingerprint_repairs(train, corrected)
    fingerprint = f"{fingerprint_ids(corrected)} {fingerprint_ids(validation)} {repairs}".rstrip() + "\n"
    if recipe.train.pseudo:
        labels = pseudo_csv(competition.name, recipe.train.pseudo, fold)
        corrected += load_pseudo_samples(labels, validation, data)
        fingerprint = f"{fingerprint.strip()} {fingerprint_file(labels)}\n"
    deadline = time.monotonic() + 60 * minutes if minutes is not None else math.inf
    with join_ranks() as ranks:
        split = Split(corrected, validation, fingerprint, fold)
        return _train_run(competition, recipe, split, run, deadline, ranks)


@dataclass(frozen=True)
class Split:
    """The images of a fold."""

    train: Sequence[Sample]
    validation: Sequence[Sample]
    fingerprint: str
    """Fingerprint of both parts and of repaired masks, as in ``split.txt``."""
    fold: Fold


def _train_run(competition: Competition, recipe: Recipe, split: Split, run: Run, deadline: float, ranks: Ranks) -> bool:
    """Train into a folder, the first stage into another one beside it; see `train_fold`."""
    busy = f"another training of {run.folder.name} is running here"
    if ranks.broadcast(_is_trained(run, recipe, split.fingerprint)):
        log.info("%s: is already trained with this recipe, on these images; nothing to do", run.weights)
        # The disk may be read only, or another process about to finish this training.
        with suppress(OSError, UserError):
            run.weights.touch()  # newer than an edited recipe that trains the same, for make
            with lock(run.lock, busy, keep=False):
                _remove_leftovers(run)
        return True
    with lock(run.lock, busy, keep=False) if ranks.is_main else nullcontext():
        if ranks.is_main:
            _prepare_run(run, recipe, split.fingerprint)
            if recipe.refine and not run.tiles.exists():
                remove_tiles(run.tiles)  # of a process that was killed while it cut them
                channels = competition.images.num_channels + 2 * competition.num_classes
                require_space(run.tiles, tile_bytes(recipe.refine, len(split.train), channels))
        if recipe.refine and not _train_run(competition, recipe.stages()[0], split, run.coarse, deadline, ranks):
            return False
        ranks.broadcast(True)  # the others wait until the weights of the first stage are written
        return _train(competition, recipe, split, run, deadline, ranks)


def _train(competition: Competition, recipe: Recipe, split: Split, run: Run, deadline: float, ranks: Ranks) -> bool:
    """Train the last stage of a recipe in a prepared folder."""
    fold, train, validation = split.fold, split.train, split.validation
    stage = recipe.stages()[-1]
    check_masks(train, competition)

    device = choose_device(recipe.train.precision, deterministic=recipe.train.deterministic)
    release_gpu_memory(device)  # of the first stage
    classes = classes_of(competition)
    labels = LabelReader(competition, label_cache(competition.name))

    train_set: dataset.TrainDataset | WindowDataset | TileDataset
    with _explain_training_errors(recipe, run), raise_on_sigterm():
        if recipe.refine:
            state, train_set = init_second_stage(recipe, train, labels, run, classes, device, fold, ranks)
        else:
            state = init_state(recipe, classes, device, fold)
            train_set = build_train_set(competition, recipe, train, labels, device, ranks)
    dataset.require_batch(len(train_set), stage.train.batch_size, ranks.world_size)
    if ranks.broadcast(run.checkpoint.exists()):
        resume_state(state, run.checkpoint, ranks)
        log.info("%s: resumes at step %d", run.folder, state.step)
    parallelize_state(state, recipe, device, ranks)
    sampler = dataset.EpochSampler(
        len(train_set), stage.train.batch_size, stage.train.epochs, recipe.seed, state.step,
        rank=ranks.rank, world_size=ranks.world_size,
    )  # fmt: skip
    workers = dataset.num_loader_workers(device.device.type == "cpu", ranks.local_world_size)

    with (
        _explain_training_errors(recipe, run),
        catch_stop_signals() as stop,
        _open_event_log(run, state.step) if ranks.is_main else nullcontext(NoEventLog()) as writer,
    ):
        context = TrainContext(
            recipe=stage,
            device=device,
            train_loader=dataset.train_loader(train_set, sampler, workers, device.is_cuda),
            validate=build_validation(competition, recipe, validation, labels, device, ranks),
            steps_per_epoch=sampler.steps_per_epoch,
            run=run,
            writer=writer,
            monitor=TrainingMonitor(may_be_empty=competition.masks.may_be_empty),
            classes=classes,
            metric=load_metric(competition),
            should_stop=lambda: stop.is_set() or time.monotonic() > deadline,
            ranks=ranks,
        )
        log.info(
            "%s: %d training %sand %d validation images, %d steps, %.1f M parameters%s",
            run.folder, len(train_set), "tiles " if recipe.refine else "", len(validation), context.total_steps,
            count_parameters(state.model) / 1e6,
            f", {ranks.world_size} processes" if ranks.world_size > 1 else "",
        )  # fmt: skip
        finished = train_loop(state, context)
    if not finished:
        log.info("%s: stopped at step %d of %d; the same command resumes", run.folder, state.step, context.total_steps)
        stop.raise_if_set()
        return False
    if not ranks.is_main:
        return True
    speed, hardware = mean_speed(state.history), describe_hardware(device)
    if ranks.world_size > 1:
        hardware = f"{ranks.world_size} × {hardware}"
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
        image_channels=str(classes.image_channels),
        hardware=hardware,
        minutes=f"{state.seconds / 60:.1f}",
        split=split.fingerprint.strip(),
        images_per_second=f"{speed:.1f}" if speed and recipe.refine is None else "",
    )
    save_weights(run.weights, state.eval_model, recipe, metadata)
    log.info("%s: trained in %s on %s", run.folder, format_duration(state.seconds), hardware)
    _remove_leftovers(run)
    return True


def _remove_leftovers(run: Run) -> None:
    """Delete the checkpoint and tiles of a finished training.

    They are left if the process was killed right after it wrote the weights.
    """
    run.checkpoint.unlink(missing_ok=True)
    remove_tiles(run.tiles)


def _is_trained(run: Run, recipe: Recipe, split: str) -> bool:
    """Return whether the weights in the folder of a run are those of this recipe and split.

    A store may have restored weights beside the files of another training.
    """
    if not run.weights.exists() or _differences(run, recipe, split):
        return False
    trained, metadata = read_weights_metadata(run.weights)
    return not trained.training_differences(recipe) and metadata.split in ("", split.strip())


def _differences(run: Run, recipe: Recipe, split: str) -> list[str]:
    """List how the training in the folder of a run differs from this one; nothing if there is none."""
    if not run.recipe.exists():
        return []
    differences = read_recipe(run.recipe).training_differences(recipe)
    if not run.split.exists() or run.split.read_text() != split:
        # Resuming would train on images that are now validation images.
        differences.append("other training images")
    return differences


def _prepare_run(run: Run, recipe: Recipe, split: str) -> None:
    """Prepare the folder for this recipe and split. Rename a folder that holds another training."""
    if differences := _differences(run, recipe, split):
        remove_tiles(run.tiles)  # gigabytes that nothing reads again
        renamed = run.set_aside()
        log.info("%s: holds another training (%s); renamed to %s", run.folder, "; ".join(differences), renamed)
    elif run.weights.exists():
        renamed = run.weights.rename(run.weights.with_stem("weights-of-another-training"))
        log.warning("%s: is of another recipe or of other images; renamed to %s", run.weights, renamed)
    write_text(run.split, split)
    save_recipe(recipe, run.recipe)


@contextmanager
def _open_event_log(run: Run, step: int) -> Iterator[SummaryWriter]:
    """Open the TensorBoard log of a run that is at some step.

    Its thread reports an error where it happens and again to the next call. Only the second report is needed.
    """
    before = threading.excepthook

    def report(problem: threading.ExceptHookArgs) -> None:
        if not isinstance(problem.exc_value, OSError):
            before(problem)

    threading.excepthook = report
    try:
        # Purge only what was logged after the checkpoint: those steps are done again.
        with SummaryWriter(run.folder, purge_step=step + 1) as writer:
            yield writer
    finally:
        threading.excepthook = before


@contextmanager
def _explain_training_errors(recipe: Recipe, run: Run) -> Iterator[None]:
    """Turn errors of the disk, CUDA out-of-memory errors and the death of a worker into a UserError."""
    worker_died = UserError(
        "",
        "a worker of the data loader was killed, probably because memory ran out",
        "free some and run the same command again: it resumes",
    )
    try:
        key = "refine.batch_size" if recipe.refine else "train.batch_size"
        with explain_out_of_memory(recipe_toml(recipe.name), recipe.stages()[-1].train.batch_size, f"lower {key}"):
            yield
    except (ConnectionError, EOFError):  # while a batch is fetched from the worker
        raise worker_died from None
    except OSError as error:
        # The TensorBoard log names no file.
        raise explain_os_error(error, Path(error.filename or run.folder)) from None
    except RuntimeError as error:
        if "shared memory" in str(error) or "Bus error" in str(error):
            fix = "give the container more, for example with docker run --shm-size=8g"
            raise UserError("", "the data loader's workers ran out of shared memory", fix) from None
        if "deterministic" in str(error) and recipe.train.deterministic:
            raise UserError("train.deterministic", str(error).partition(".")[0], "set it to false") from None
        if _WORKER_DIED.search(str(error)):
            raise worker_died from None
        raise
