"""The progress of a training: its speed, the time left, and a line of text per epoch."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.recipe import Recipe, TrainConfig
from pipeline.training.state import input_size_at

History = Sequence[Mapping[str, Any]]
"""Rows of ``metrics.jsonl``."""


class Pace:
    """A stopwatch that knows how much of the time was spent waiting for data."""

    def __init__(self) -> None:
        self._started, self._waited = time.monotonic(), 0.0

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Count the time in the block as waiting."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    def restart(self) -> tuple[float, float]:
        """Return the seconds since the last restart and the part of them spent waiting; start again at 0."""
        before, waited = self._started, self._waited
        self._started, self._waited = time.monotonic(), 0.0
        return self._started - before, waited


def is_validated(epoch: int, config: TrainConfig) -> bool:
    """Return whether the model is validated after an epoch, counted from 1."""
    return epoch % config.validate_every == 0 or epoch == config.epochs


def seconds_left(history: History, recipe: Recipe, steps_per_epoch: int) -> float:
    """Estimate the time of the rest of a training from its last epoch and its last validation.

    Args:
        history: the finished epochs.
        recipe: its epochs are counted, in proportion to the pixels of their input where ``train.resize_schedule``
            changes it.
        steps_per_epoch: number of steps.

    Returns:
        Seconds, with the validations that are due.
    """
    config, done = recipe.train, history[-1]["epoch"]
    sizes = [input_size_at(n * steps_per_epoch, config.epochs * steps_per_epoch, recipe) for n in range(config.epochs)]
    pixels = [width * height for width, height in sizes]
    epoch = steps_per_epoch * config.batch_size / history[-1]["images_per_second"]
    validation = next((row["validation_seconds"] for row in reversed(history) if "validation_seconds" in row), 0.0)
    validations = sum(is_validated(number, config) for number in range(done + 1, config.epochs + 1))
    return float(epoch * sum(pixels[done:]) / pixels[done - 1] + validations * validation)


def mean_speed(history: History) -> float | None:
    """Return the images per second of the epochs whose speed is known; None if there are none."""
    speeds = [row["images_per_second"] for row in history if "images_per_second" in row]
    # All epochs have as many images, so their times are proportional to the reciprocals.
    return len(speeds) / sum(1 / speed for speed in speeds) if speeds else None


def describe_epoch(history: History, epochs: int, metric: str, label: str, left: float) -> str:
    """Describe the last epoch in one line.

    Args:
        history: the finished epochs.
        epochs: number of epochs of the training.
        metric: key of the score.
        label: name of the score in texts.
        left: seconds that the rest of the training takes.
    """
    row = history[-1]
    parts = [f"epoch {row['epoch']} of {epochs}"]
    if metric in row:
        parts.append(f"{label} {row[metric]:.5f}")
    if scored := [each for each in history if metric in each]:
        best = max(scored, key=lambda each: float(each[metric]))
        parts.append(f"best {best[metric]:.5f} in epoch {best['epoch']}")
    parts += [
        f"loss {row['loss']:.4f}",
        f"{row['images_per_second']:.1f} images/s",
        f"{row['wait']:.0%} waiting for data",
        f"{format_duration(left)} left" if left else "done",
    ]
    return ", ".join(parts)


def format_duration(seconds: float) -> str:
    """Format a time: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if round(seconds) < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
