"""A training learns, resumes to the same weights, follows its golden curve, and stops when it cannot succeed."""

import errno
import io
import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from pipeline.data.augment import Augmentation
from pipeline.data.dataset import EpochSampler, TrainDataset, iterate, train_loader
from pipeline.data.labels import LabelReader
from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError
from pipeline.files import lock
from pipeline.models.checkpoint import load_weights, read_weights_metadata
from pipeline.paths import Run
from pipeline.recipe import AugmentConfig
from pipeline.training import loop as loop_module
from pipeline.training.fold import train_fold
from pipeline.training.sanity import MAX_EMPTY_STEPS, TrainingMonitor, check_masks
from tests.helpers import changed_competition, changed_recipe, save_mask

GOLDEN = Path(__file__).parent / "golden_loss.json"


@pytest.fixture
def train(competition, recipe, data, table, tmp_path):
    """Train fold 0 into a named run with a changed recipe; returns the run."""

    def call(name: str = "run", minutes: float | None = None, **changes) -> Run:
        run = Run(tmp_path / name)
        changed = changed_recipe(recipe, **{"train__epochs": 3, **changes})
        train_fold(competition, changed, data, table, 0, run, minutes)
        return run

    return call


def read_metrics(run: Run) -> list[dict]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


@pytest.mark.slow
def test_learns_and_leaves_a_complete_run(train, caplog):
    with caplog.at_level("INFO"):
        run = train(train__epochs=12, train__validate_every=6)
    history = read_metrics(run)
    assert [row["epoch"] for row in history] == list(range(1, 13))
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["dice"] > 0.9
    assert run.weights.exists()
    assert not run.checkpoint.exists()
    assert list(run.folder.glob("events.*"))
    assert Image.open(run.samples / "epoch-012.jpg").size[0] == 960
    _, recipe, metadata = load_weights(run.weights)
    assert recipe.train.epochs == 12
    assert metadata.fold == "0"
    assert float(metadata.score) == pytest.approx(history[-1]["dice"], abs=1e-5)
    assert metadata.hardware.endswith((", bf16", ", float32", ", fp16"))
    assert float(metadata.minutes) < 5
    speeds = [row["images_per_second"] for row in history]
    assert min(speeds) - 0.1 <= float(metadata.images_per_second) <= max(speeds) + 0.1
    assert all(0 <= row["wait"] <= 1 for row in history)
    line = next(message for message in caplog.messages if "epoch 6 of 12" in message)
    assert re.search(
        r"^run: epoch 6 of 12, Dice 0\.\d{5}, best 0\.\d{5} in epoch 6, loss \d\.\d{4}, \d+\.\d images/s, "
        r"\d+% waiting for data, \d+ s left$",
        line,
    )
    assert caplog.messages[-1].startswith(f"{run.folder}: trained in ")
    check_event_log(run, history)


def check_event_log(run: Run, history: list[dict]) -> None:
    """TensorBoard's sections: what is trained, how fast, and how well, with the same images each time."""
    events = EventAccumulator(str(run.folder)).Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {"train/loss", "train/learning_rate", "speed/images_per_second", "speed/wait", "validation/dice"}
    assert len(events.Scalars("train/loss")) == len(history), "once in each epoch of three steps"
    dice = {row["step"]: row["dice"] for row in history if "dice" in row}
    assert {event.step: event.value for event in events.Scalars("validation/dice")} == pytest.approx(dice)
    shown = events.Images("validation/samples")
    assert [event.step for event in shown] == list(dice)
    first, last = (np.asarray(Image.open(io.BytesIO(event.encoded_image_string)), int) for event in shown)
    assert np.abs(first - last).mean() < 30, "the same images, with similar masks over them"


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), ConnectionRefusedError(), EOFError()], ids=repr)
def test_connection_to_a_killed_worker_is_a_sentence(train, monkeypatch, error):
    """What the main process sees depends on what the worker did when it was killed."""
    monkeypatch.setattr("pipeline.training.fold.train_loop", Mock(side_effect=error))
    with pytest.raises(UserError, match="a worker of the data loader was killed"):
        train("killed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("epochs", "changes"),
    [
        (3, {"network": {"name": "unet", "width": 8, "depth": 2}}),
        (3, {"network": {"name": "unet", "width": 8, "depth": 2}, "train__optimizer": "muon"}),
        (2, {"network": {"name": "FPN", "encoder": "timm-mobilenetv3_small_minimal_100"}}),
    ],
    ids=["unet", "muon", "dropout"],
)
def test_resumes_to_the_same_weights(train, epochs, changes):
    """Stopped after every single step, also within epochs, or never: bit for bit the same weights."""
    changes = {"augment__brightness": 0.2, "augment__rotate": 10.0, "train__validate_every": 2, **changes}
    changes["train__epochs"] = epochs
    straight = train("straight", **changes)
    stops = 0
    while not (interrupted := train("interrupted", minutes=0.0, **changes)).weights.exists():
        stops += 1
        assert interrupted.checkpoint.exists()
        assert stops < 20
    assert stops == 3 * epochs - 1, "three steps an epoch"
    left, right = (load_weights(run.weights)[0].state_dict() for run in (straight, interrupted))
    assert all(torch.equal(left[key], right[key]) for key in left)
    for one, other in zip(read_metrics(straight), read_metrics(interrupted), strict=True):
        assert one["loss"] == other["loss"]
        assert one.get("dice") == other.get("dice")


@pytest.mark.slow
def test_golden_curve(train):
    """21 steps against a stored curve: shows when the same recipe trains differently.

    To accept new numbers, delete the file, run this test twice and commit what it wrote.
    """
    run = train(train__epochs=7, augment__rotate=5.0, train__precision="float32")
    losses = [row["loss"] for row in read_metrics(run)]
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps([round(loss, 5) for loss in losses]) + "\n")
        pytest.fail(f"{GOLDEN.name} was missing and has been written")
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), rel=0.02)


@pytest.mark.slow
def test_leftovers_of_a_process_that_was_killed_at_its_end_are_deleted(train):
    run = train()
    run.checkpoint.write_bytes(b"x")
    run.lock.touch()
    run.tiles.mkdir()
    train()
    assert not any(path.exists() for path in (run.checkpoint, run.lock, run.tiles))


def test_weights_of_another_training_are_not_taken_for_its_own(train):
    """A store may restore them beside the files of this training."""
    other = train("other", train__epochs=2).weights.read_bytes()
    run = train()
    run.weights.write_bytes(other)
    assert read_weights_metadata(train().weights)[0].train.epochs == 3
    assert run.weights.with_stem("weights-of-another-training").read_bytes() == other


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(train, caplog):
    run = train()
    before = run.weights.read_bytes()
    with caplog.at_level("INFO"):
        train()
    assert "is already trained" in caplog.text
    assert run.weights.read_bytes() == before


@pytest.mark.slow
def test_a_run_of_another_recipe_is_renamed(train, caplog):
    run = train()
    before = run.weights.read_bytes()
    with caplog.at_level("INFO"):
        train(train__learning_rate=0.005)
    assert "train.learning_rate: 0.03 / 0.005" in caplog.text
    assert Run(run.folder.with_name("run~1")).weights.read_bytes() == before
    assert run.weights.read_bytes() != before


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [0.0, None], ids=["unfinished", "finished"])
def test_a_run_of_another_split_is_renamed(train, table, minutes):
    """Resuming would train on images that are now validation images."""
    run = train(minutes=minutes)
    swapped = pd.read_csv(table)
    swapped.assign(fold=1 - swapped.fold).to_csv(table, index=False)
    train()
    assert run.folder.with_name("run~1").exists()
    assert read_metrics(run)[0]["step"] == 3, "from the start"


@pytest.mark.slow
def test_a_checkpoint_of_another_network_is_refused(train):
    train(minutes=0.0)
    run = train(name="other", minutes=0.0, network={"name": "unet", "width": 4, "depth": 2})
    run.checkpoint.replace(run.folder.with_name("run") / "checkpoint.pt")
    with pytest.raises(UserError, match="belongs to another network"):
        train()


@pytest.mark.slow
def test_sigint_finishes_the_step_and_saves_a_checkpoint(train, tmp_path):
    main, before = threading.main_thread().ident, signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while signal.getsignal(signal.SIGINT) is before:  # until the loop has started
            time.sleep(0.01)
        time.sleep(0.5)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train(train__epochs=2000, train__validate_every=100)
    assert Run(tmp_path / "run").checkpoint.exists()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_trains_without_ema_and_with_other_optimizers(train, optimizer):
    run = train(optimizer, train__epochs=1, train__ema_decay=0.0, train__optimizer=optimizer)
    assert run.weights.exists()


def test_the_fold_all_has_no_validation_images(competition, recipe, data, table, tmp_path):
    run = Run(tmp_path / "foldall")
    assert train_fold(competition, changed_recipe(recipe, train__epochs=2), data, table, "all", run)
    rows = read_metrics(run)
    assert all(row["step"] == 6 * row["epoch"] for row in rows), "12 images in batches of 2"
    assert not any("dice" in row for row in rows)
    _, metadata = read_weights_metadata(run.weights)
    assert (metadata.fold, metadata.score) == ("all", "")


def test_unknown_fold_and_large_batch_are_refused(competition, recipe, data, table, tmp_path, train):
    with pytest.raises(UserError, match="there is no fold 7; choose one of 0, 1"):
        train_fold(competition, recipe, data, table, 7, Run(tmp_path / "run"))
    with pytest.raises(UserError, match=r"has 6 training images; set a smaller train\.batch_size"):
        train(train__batch_size=64)


@pytest.mark.slow
def test_the_model_sees_the_sizes_of_the_schedule(train, monkeypatch):
    seen, step = [], loop_module.train_step
    monkeypatch.setattr(loop_module, "train_step", lambda s, x, y, *rest: seen.append((x, y)) or step(s, x, y, *rest))
    train(train__resize_schedule=({"until": 0.3, "size": (32, 16)}, {"until": 0.5, "size": (32, 32)}))
    shapes = [tuple(images.shape[2:]) for images, _ in seen]
    assert shapes == [(16, 32)] * 3 + [(32, 32)] * 2 + [(48, 64)] * 4, "nine steps"
    assert all(images.shape[2:] == target.shape[2:] and target.max() <= 1 for images, target in seen)


class TestSanityChecks:
    def test_masks_of_other_values(self, competition, data):
        other = changed_competition(competition, masks__positive=255)
        with pytest.raises(UserError, match=r"expected only 0 and 255; set masks.positive = 1"):
            check_masks(load_training_samples(other, data), other)

    def test_masks_of_another_size(self, train, data):
        for path in (data / "train_masks").iterdir():
            save_mask(np.ones((30, 40), bool), path)
        with pytest.raises(UserError, match="is 40×30, but its image is 94×62"):
            train()

    def test_empty_masks(self, train, data):
        for path in (data / "train_masks").iterdir():
            save_mask(np.zeros((62, 94), bool), path)
        with pytest.raises(UserError, match="is empty, and so are all"):
            train()

    def test_diverging_loss(self, train):
        with pytest.raises(UserError, match=r"the loss is (nan|inf) at step"):
            train(train__learning_rate=1e30, train__optimizer="sgd", train__max_grad_norm=0.0)

    def test_broken_image(self, train, data, tmp_path):
        """Truncated behind the header, so that only decoding in a worker finds it."""
        for path in (data / "train").glob("*_01.jpg"):
            path.write_bytes(path.read_bytes()[:-300])
        with pytest.raises(
            UserError, match=r"^\S+_01\.jpg: cannot be decoded .*download the file again, or remove it$"
        ):
            train()
        assert not Run(tmp_path / "run").weights.exists()

    @pytest.mark.slow
    def test_full_disk(self, train, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match=r"checkpoint\.pt: no space is left on this disk"):
            train(minutes=0.0)


class TestMonitor:
    FIGURES = {"steps": 20, "loss": 0.5, "true_area": 0.2, "predicted_area": 0.0}

    def test_no_prediction_for_long_is_an_error(self):
        monitor = TrainingMonitor(may_be_empty=False)
        for step in range(20, MAX_EMPTY_STEPS, 20):
            monitor.update(step=step, **self.FIGURES)
        message = f"predicts only background in the {MAX_EMPTY_STEPS} steps before step {MAX_EMPTY_STEPS}"
        with pytest.raises(UserError, match=message):
            monitor.update(step=MAX_EMPTY_STEPS, **self.FIGURES)

    def test_a_late_start_is_accepted(self):
        monitor = TrainingMonitor(may_be_empty=False)
        for step in range(20, 10 * MAX_EMPTY_STEPS, 20):
            monitor.update(step=step, **self.FIGURES | {"predicted_area": 0.1 if step % 180 == 0 else 0.0})

    def test_empty_batches_are_an_error_unless_masks_may_be_empty(self):
        empty = self.FIGURES | {"true_area": 0.0, "predicted_area": 0.3}
        with pytest.raises(UserError, match="all masks of the 20 batches before step 20 are empty"):
            TrainingMonitor(may_be_empty=False).update(step=20, **empty)
        TrainingMonitor(may_be_empty=True).update(step=20, **empty)

    @pytest.mark.parametrize("loss", [float("nan"), float("inf")])
    def test_loss_that_is_not_finite_is_an_error(self, loss):
        with pytest.raises(UserError, match=f"the loss is {loss} at step 20; lower train.learning_rate"):
            TrainingMonitor(may_be_empty=True).update(step=20, **self.FIGURES | {"loss": loss})


class TestOneTrainingPerFolder:
    @pytest.mark.slow
    def test_second_training_of_a_fold_is_refused(self, train, tmp_path):
        run = Run(tmp_path / "run")
        with (
            lock(run.lock, "x"),
            pytest.raises(UserError, match=r"another training of run is running here; wait until it has finished"),
        ):
            train()
        assert not run.folder.exists()
        train(minutes=0.0)
        assert not run.lock.exists()

    @pytest.mark.slow
    def test_finished_fold_needs_no_writable_disk(self, train, monkeypatch):
        train()

        def refuse(*_, **__):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        for name in ("touch", "write_text", "mkdir"):
            monkeypatch.setattr(Path, name, refuse)
        train()


class TestFullDisk:
    def test_event_log_on_a_full_disk_is_a_sentence_without_a_traceback(self, train, monkeypatch, capfd):
        """The log is written by a thread, whose error names no file."""

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(RecordWriter, "write", full)
        with pytest.raises(UserError, match=r"/run: no space is left on this disk; free some"):
            train()
        assert "Traceback" not in capfd.readouterr().err


def test_samples_do_not_depend_on_workers_and_threads(competition, data):
    samples = load_training_samples(competition, data)
    augmentation = Augmentation(AugmentConfig(rotate=10, brightness=0.2, hue=0.1), seed=3)

    def batches(workers: int, threads: int) -> list:
        cv2.setNumThreads(threads)
        torch.set_num_threads(threads)
        labels = LabelReader(competition, data / "cache")
        dataset = TrainDataset(samples, labels, (64, 48), augmentation)
        loader = train_loader(dataset, EpochSampler(len(samples), 2, 2, seed=3), workers, pin_memory=False)
        return [tensor for batch in iterate(loader) for tensor in batch]

    try:
        first = batches(0, 1)
        for workers, threads in ((1, 2), (2, 1)):
            assert all(map(torch.equal, first, batches(workers, threads)))
    finally:
        torch.set_num_threads(1)


@pytest.mark.slow
def test_same_seed_gives_the_same_weights(train):
    changes = {"augment__rotate": 10.0, "train__epochs": 2}
    first, second, other = (
        load_weights(train(name, **changes, **more).weights)[0].state_dict()
        for name, more in (("a", {}), ("b", {"train__deterministic": True}), ("c", {"seed": 1}))
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
