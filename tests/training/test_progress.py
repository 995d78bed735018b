"""The line of each epoch, and the estimate of the time that is left."""

import time

import pytest

from pipeline.training.progress import (
    Pace,
    describe_epoch,
    format_duration,
    is_validated,
    mean_speed,
    seconds_left,
)
from tests.helpers import changed_recipe

ROW = {"epoch": 1, "loss": 0.51234, "images_per_second": 40.0, "wait": 0.031}


def test_the_best_epoch_so_far_is_named():
    history = [{**ROW, "dice": 0.9}, {**ROW, "epoch": 2, "dice": 0.95}, {**ROW, "epoch": 3, "dice": 0.94}]
    assert describe_epoch(history, 9, "dice", "Dice", 605) == (
        "epoch 3 of 9, Dice 0.94000, best 0.95000 in epoch 2, loss 0.5123, 40.0 images/s, 3% waiting for data, "
        "10 min left"
    )


def test_epochs_without_a_validation_repeat_the_best_score():
    history = [{**ROW, "dice": 0.9}, {**ROW, "epoch": 2}]
    assert describe_epoch(history, 2, "dice", "Dice", 0).startswith("epoch 2 of 2, best 0.90000 in epoch 1, loss")
    assert describe_epoch(history, 2, "dice", "Dice", 0).endswith("waiting for data, done")


def test_the_fold_all_has_no_score():
    assert describe_epoch([ROW], 2, "dice", "Dice", 30) == (
        "epoch 1 of 2, loss 0.5123, 40.0 images/s, 3% waiting for data, 30 s left"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (3569, "59 min"), (3571, "1 h 00 min"), (11_100, "3 h 05 min")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_validations_are_due_every_few_epochs_and_at_the_end(recipe):
    config = changed_recipe(recipe, train__epochs=7, train__validate_every=3).train
    assert [epoch for epoch in range(1, 8) if is_validated(epoch, config)] == [3, 6, 7]


def test_time_left_counts_epochs_and_validations(recipe):
    """Ten steps of two images at 40 images/s are half a second an epoch."""
    plain = changed_recipe(recipe, train__epochs=7, train__batch_size=2, train__validate_every=3)
    history = [{**ROW, "epoch": 3, "validation_seconds": 2.0}, {**ROW, "epoch": 4}]
    assert seconds_left(history, plain, 10) == pytest.approx(3 * 0.5 + 2 * 2.0)
    assert seconds_left([{**ROW, "epoch": 2}], plain, 10) == pytest.approx(5 * 0.5), "no validation is known yet"
    assert seconds_left([{**ROW, "epoch": 7, "validation_seconds": 2.0}], plain, 10) == 0


def test_time_left_grows_with_the_size_of_the_input(recipe):
    stages = ({"until": 0.5, "size": (32, 24)},)
    growing = changed_recipe(recipe, train__epochs=4, train__batch_size=2, train__resize_schedule=stages)
    assert recipe.input.size == (64, 48)
    assert seconds_left([ROW], growing, 10) == pytest.approx(0.5 * (1 + 4 + 4))
    assert seconds_left([{**ROW, "epoch": 3}], growing, 10) == pytest.approx(0.5)


def test_mean_speed_is_images_per_time():
    """As many images at 10 and at 30 images/s take as long as twice as many at 15."""
    assert mean_speed([{"images_per_second": 10.0}, {"images_per_second": 30.0}]) == pytest.approx(15)
    assert mean_speed([{"loss": 1.0}, {"images_per_second": 30.0}]) == 30
    assert mean_speed([{"loss": 1.0}]) is None, "a checkpoint of an older version"


def test_pace_separates_waiting():
    pace = Pace()
    with pace.wait():
        time.sleep(0.02)
    time.sleep(0.01)
    seconds, waited = pace.restart()
    assert 0.02 <= waited < seconds
    assert seconds >= 0.03
    assert pace.restart()[1] == 0
