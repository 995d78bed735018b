"""A training learns, resumes to the same numbers, follows its golden curve, and stops when it cannot succeed."""

import errno
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError
from pipeline.models.checkpoint import load_weights, read_weights_metadata
from pipeline.paths import Run
from pipeline.recipe import Recipe, TrainConfig
from pipeline.training import fold as training
from pipeline.training.fold import train_fold, train_step
from pipeline.training.sanity import TrainingMonitor, check_masks
from pipeline.training.state import downsample, input_size_at, learning_rate_at
from tests.helpers import save_mask

GOLDEN = Path(__file__).parent / "golden_loss.json"


@pytest.fixture
def train(competition, recipe, data, table, tmp_path):
    """Train fold 0 into a named run with a changed recipe; returns the run."""

    def call(name: str = "run", minutes: float | None = None, **changes) -> Run:
        values = recipe.model_dump()
        values["train"]["epochs"] = 3
        for key, value in changes.items():
            section, _, last = key.partition("__")
            values[section] = values[section] | {last: value} if last else value
        run = Run(tmp_path / name)
        train_fold(competition, Recipe.model_validate(values), data, table, 0, run, minutes)
        return run

    return call


def test_learns_and_leaves_a_complete_run(train):
    run = train(train__epochs=8)
    history = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["dice"] > 0.9
    assert run.weights.exists()
    assert not run.checkpoint.exists()
    assert list(run.folder.glob("events.*"))
    assert Image.open(run.samples / "epoch-008.jpg").size[0] == 960
    _, recipe, origin = load_weights(run.weights)
    assert recipe.train.epochs == 8
    assert origin.fold == "0"
    assert float(origin.dice) == pytest.approx(history[-1]["dice"], abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"name": "unet", "width": 8, "depth": 2}},
        {"network": {"name": "unet", "width": 8, "depth": 2}, "train__optimizer": "muon"},
        {"network": {"name": "FPN", "encoder": "resnet18"}},
    ],
    ids=["unet", "muon", "dropout"],
)
def test_resumes_to_the_same_numbers(train, changes):
    """Stopped after every single step, in the middle of epochs too, or never: the same weights to the last bit."""
    changes = {"augment__brightness": 0.2, "augment__rotate": 10.0, **changes}
    straight = train("straight", **changes)
    stops = 0
    while not (broken := train("broken", minutes=0.0, **changes)).weights.exists():
        stops += 1
        assert broken.state.exists()
        assert stops < 20
    assert stops == 8, "nine steps in all"
    left, right = (load_weights(run.weights)[0].state_dict() for run in (straight, broken))
    assert all(torch.equal(left[key], right[key]) for key in left)
    rows = [[json.loads(line) for line in run.metrics.read_text().splitlines()] for run in (straight, broken)]
    for one, other in zip(*rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
        assert one["dice"] == other["dice"]


def test_golden_curve(train):
    """Twenty steps against a stored curve: tells when the same recipe no longer trains the same.

    To accept a change of the numbers, delete the file, run this test twice and commit what it wrote.
    """
    run = train(train__epochs=7, augment__rotate=5.0, train__precision="float32")
    losses = [json.loads(line)["loss"] for line in run.metrics.read_text().splitlines()]
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps([round(loss, 5) for loss in losses]) + "\n")
        pytest.fail(f"{GOLDEN.name} was missing and has been written")
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), rel=0.02)


def test_a_finished_run_is_left_alone(train, caplog):
    run = train()
    before = run.weights.read_bytes()
    with caplog.at_level("INFO"):
        train()
    assert "is trained already" in caplog.text
    assert run.weights.read_bytes() == before


def test_another_recipe_sets_the_old_run_aside(train, caplog):
    run = train()
    before = run.weights.read_bytes()
    with caplog.at_level("INFO"):
        train(train__learning_rate=0.005)
    assert "train.learning_rate: 0.03 / 0.005" in caplog.text
    assert Run(run.folder.with_name("run~1")).weights.read_bytes() == before
    assert run.weights.read_bytes() != before


@pytest.mark.parametrize("minutes", [0.0, None], ids=["unfinished", "finished"])
def test_another_split_sets_the_old_run_aside(train, table, minutes):
    """Going on would train on images that are then held out."""
    run = train(minutes=minutes)
    again = pd.read_csv(table)
    again.assign(fold=1 - again.fold).to_csv(table, index=False)
    train()
    assert run.folder.with_name("run~1").exists()
    assert json.loads(run.metrics.read_text().splitlines()[0])["step"] == 3, "from the start"


def test_a_state_of_another_network_is_refused(train, recipe):
    train(minutes=0.0)
    run = train(name="other", minutes=0.0, network={"name": "unet", "width": 4, "depth": 2})
    run.checkpoint.replace(run.folder.with_name("run") / "checkpoint.pt")
    with pytest.raises(UserError, match="is of another network"):
        train()


def test_ctrl_c_finishes_the_step_and_saves(train, tmp_path):
    main, before = threading.main_thread().ident, signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while signal.getsignal(signal.SIGINT) is before:  # until the steps have begun
            time.sleep(0.01)
        time.sleep(0.5)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train(train__epochs=2000, train__validate_every=100)
    assert Run(tmp_path / "run").state.exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_folds_without_ema_and_with_scaler_free_optimisers(train):
    for optimizer in ("adam", "sgd"):
        assert train(optimizer, train__epochs=1, train__ema_decay=0.0, train__optimizer=optimizer).weights.exists()


def test_on_all_images_nothing_is_held_out(train, competition, recipe, data, table, tmp_path):
    run = Run(tmp_path / "all")
    assert train_fold(competition, recipe, data, table, None, run)
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert all(row["step"] == 6 * row["epoch"] for row in rows), "12 images in batches of 2"
    assert not any("dice" in row for row in rows)
    _, origin = read_weights_metadata(run.weights)
    assert (origin.fold, origin.dice) == ("all", "")


def test_unknown_fold_and_large_batch(competition, recipe, data, table, tmp_path, train):
    with pytest.raises(UserError, match="there is no fold 7; folds are 0, 1"):
        train_fold(competition, recipe, data, table, 7, Run(tmp_path / "run"))
    with pytest.raises(UserError, match=r"trains on 6 images; set a smaller train\.batch"):
        train(train__batch_size=64)


class TestEarlyStages:
    EARLY = ({"until": 0.3, "size": (32, 16)}, {"until": 0.5, "size": (32, 32)})

    def test_sizes_by_step(self, recipe):
        values = recipe.model_dump()
        staged = Recipe.model_validate(values | {"train": values["train"] | {"resize_schedule": self.EARLY}})
        assert [input_size_at(step, 10, staged) for step in range(10)] == [(32, 16)] * 3 + [(32, 32)] * 2 + [
            (64, 48)
        ] * 5
        assert {input_size_at(step, 10, recipe) for step in range(10)} == {(64, 48)}

    def test_shrinking_is_the_mean_of_areas(self):
        picture = torch.arange(2 * 3 * 4 * 6, dtype=torch.uint8).view(2, 3, 4, 6)
        small = downsample(picture, (3, 2))
        assert small.shape == (2, 3, 2, 3)
        assert small[0, 0, 0, 0] == picture[0, 0, :2, :2].float().mean()

    def test_the_network_sees_them(self, train, monkeypatch):
        seen = []
        step = train_step
        monkeypatch.setattr(training, "train_step", lambda s, x, y, *rest: seen.append((x, y)) or step(s, x, y, *rest))
        train(train__resize_schedule=self.EARLY)
        shapes = [tuple(images.shape[2:]) for images, _ in seen]
        assert shapes == [(16, 32)] * 3 + [(32, 32)] * 2 + [(48, 64)] * 4, "nine steps"
        assert all(images.shape[2:] == target.shape[2:] and target.max() <= 1 for images, target in seen)


class TestSchedule:
    SETTINGS = TrainConfig(epochs=1, batch_size=1, learning_rate=2.0, warmup=0.1)

    def test_rises_then_falls_to_zero(self):
        rates = [learning_rate_at(step, 100, self.SETTINGS) for step in range(100)]
        assert rates[0] == pytest.approx(0.2)
        assert max(rates) == rates[10] == 2.0
        assert np.all(np.diff(rates[10:]) < 0)
        assert rates[-1] < 0.001

    def test_constant(self):
        settings = self.SETTINGS.model_copy(update={"schedule": "constant", "warmup": 0.0})
        assert {learning_rate_at(step, 9, settings) for step in range(9)} == {2.0}


class TestPreflight:
    def test_masks_of_wrong_values(self, competition, data):
        other = competition.model_copy(update={"masks": competition.masks.model_copy(update={"positive": 255})})
        with pytest.raises(UserError, match=r"expected \{0, 255\}: set masks.positive = 1"):
            check_masks(load_training_samples(other, data), other)

    def test_masks_of_wrong_size(self, train, data):
        for path in (data / "train_masks").iterdir():
            save_mask(np.ones((30, 40), bool), path)
        with pytest.raises(UserError, match="is 40×30, but its image is 94×62"):
            train()

    def test_empty_masks(self, train, data):
        for path in (data / "train_masks").iterdir():
            save_mask(np.zeros((62, 94), bool), path)
        with pytest.raises(UserError, match="is empty, as all"):
            train()

    def test_loss_that_explodes(self, train):
        with pytest.raises(UserError, match=r"the loss is (nan|inf) at step"):
            train(train__learning_rate=1e30, train__optimizer="sgd", train__max_grad_norm=0.0)

    def test_broken_image_while_training(self, train, data, tmp_path):
        """Cut behind its header, so that only decoding finds it, in a worker's process."""
        for path in (data / "train").glob("*_01.jpg"):
            path.write_bytes(path.read_bytes()[:-300])
        with pytest.raises(UserError, match=r"^\S+_01\.jpg: cannot be decoded .*fetch the file again, or remove it$"):
            train()
        assert not Run(tmp_path / "run").weights.exists()

    def test_silence(self, competition):
        watch = TrainingMonitor(competition)
        for step in range(20, 200, 20):
            watch.check(step=step, steps=20, loss=0.5, truth=0.2, predicted=0.0)
        with pytest.raises(UserError, match="has predicted no pixel in 200 steps"):
            watch.check(step=200, steps=20, loss=0.5, truth=0.2, predicted=0.0)

    def test_a_late_start_is_forgiven(self, competition):
        watch = TrainingMonitor(competition)
        for step in range(20, 2000, 20):
            watch.check(step=step, steps=20, loss=0.5, truth=0.2, predicted=0.1 if step % 180 == 0 else 0.0)

    def test_empty_batches(self, competition):
        with pytest.raises(UserError, match="masks of the 20 batches up to step 20 are empty"):
            TrainingMonitor(competition).check(step=20, steps=20, loss=0.5, truth=0.0, predicted=0.3)


def test_full_disk_is_a_sentence(train, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"state\.pt: no space is left on this disk"):
        train(minutes=0.0)
