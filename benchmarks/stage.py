"""A stage of the benchmark: the ways to time, the target, and the row of the table that comes out."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rounds import compute_ratio, time_rounds
from pipeline.competition import Competition

OURS = "ours"


@dataclass(frozen=True)
class Target:
    """What `OURS` must reach: a ratio to another way, or a time."""

    against: str = "usual"
    """The way to compare with."""
    at_least: float | None = None
    """Times as fast as `against`."""
    at_most: float | None = None
    """Largest ratio of the time of `OURS` to that of `against`."""
    seconds: float | None = None
    """Largest time of `items` items."""
    items: int = 1

    def describe(self) -> str:
        """Return the target as text."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}× {self.against}"
        if self.at_most is not None:
            return f"≤ {self.at_most:g}× {self.against}"
        return f"≤ {self.seconds:g} s" + (f" for {self.items:,}" if self.items > 1 else "")


@dataclass(frozen=True)
class Stage:
    """One task, and the implementations to time.

    The way "limit" is the physical limit: the least that any way must do, such as the matrix products of the network
    alone.
    """

    name: str
    items: int
    """Items per call of a way."""
    unit: str
    ways: Mapping[str, Callable[[], object]]
    target: Target | None = None
    limit: str = ""
    """What the limit is."""
    scale: Mapping[str, float] = field(default_factory=dict)
    """Factor of a way's time, if it does only a part of the work."""
    rounds: int | None = None
    """Rounds of a slow stage; with one round there is no call to warm up."""


@dataclass(frozen=True)
class Outcome:
    """The measured times of a stage."""

    stage: Stage
    seconds: Mapping[str, Sequence[float]] = field(repr=False)

    def row(self) -> list[str]:
        """Return the cells: stage, our rate, the rate, ratio and spread of the other ways, target, limit and share."""
        ours = statistics.median(self.seconds[OURS]) / self.stage.items
        others = [name for name in self.seconds if name not in (OURS, "limit")]
        return [
            self.stage.name,
            describe_rate(ours, self.stage.unit),
            "; ".join(
                f"{name} {describe_rate(statistics.median(self.seconds[name]) / self.stage.items, self.stage.unit)}"
                for name in others
            ),
            "; ".join(str(compute_ratio(self.seconds[name], self.seconds[OURS])) for name in others),
            self._limit(),
            self.stage.target.describe() if self.stage.target else "",
            {True: "met", False: "not met", None: ""}[self.met()],
        ]

    def met(self) -> bool | None:
        """Return whether the target is met, by medians; None without a target."""
        target, ours = self.stage.target, self.seconds[OURS]
        if target is None:
            return None
        if target.seconds is not None:
            return statistics.median(ours) / self.stage.items * target.items <= target.seconds
        ratio = compute_ratio(self.seconds[target.against], ours).median
        return ratio >= target.at_least if target.at_least is not None else 1 / ratio <= (target.at_most or 0)

    def _limit(self) -> str:
        if "limit" not in self.seconds:
            return ""
        limit = self.seconds["limit"]
        share = 1 / compute_ratio(self.seconds[OURS], limit).median
        rate = describe_rate(statistics.median(limit) / self.stage.items, self.stage.unit)
        return f"{self.stage.limit}: {rate}, we reach {share:.0%}"


@dataclass(frozen=True)
class BenchData:
    """Rendered cars at the competition's size, and a folder for temporary files."""

    competition: Competition
    folder: Path
    scratch: Path


def run_stage(stage: Stage, rounds: int) -> Outcome:
    """Time all ways of a stage."""
    seconds = time_rounds(stage.ways, stage.rounds or rounds)
    return Outcome(
        stage, {name: [value * stage.scale.get(name, 1) for value in values] for name, values in seconds.items()}
    )


def describe_rate(seconds: float, unit: str) -> str:
    """Return a time per item, with the unit that suits it."""
    for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1 or name == "µs":
            return f"{seconds * factor:.3g} {name}/{unit}"
    raise AssertionError
