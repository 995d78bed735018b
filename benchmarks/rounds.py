"""Time several ways of doing the same thing in interleaved rounds.

The machines are shared and their speed changes by the minute. Ways that are timed in turn, within seconds, see the same
machine, so their ratio is stable where the times are not.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

MIN_SECONDS = 0.05
"""Shortest time to measure; a faster call is repeated."""


class Ratio(NamedTuple):
    """How many times as long one way takes as another, over the rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def time_rounds(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Call each way once per round, in turn, after one call to warm up if there are several rounds.

    Args:
        ways: name -> the function.
        rounds: number of rounds.

    Returns:
        name -> seconds per call, one value per round.
    """
    repeats = dict.fromkeys(ways, 1)
    for name, function in ways.items() if rounds > 1 else ():
        function()
        repeats[name] = max(1, math.ceil(MIN_SECONDS / max(_time(function, 1), 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, function in ways.items():
            seconds[name].append(_time(function, repeats[name]))
    return seconds


def compute_ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """Return the ratio of two ways' times, computed round by round: median, lowest, highest."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def _time(function: Callable[[], object], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - started) / repeats
