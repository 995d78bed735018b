"""Simulate the prediction of very many images by many workers that fail and share a store.

::

    .venv/bin/python -m benchmarks.scale --rate 22 --images 100000000

Each worker takes a part of the images at a time. It reads them from a store whose bandwidth and requests all workers
share, loses its unwritten rows when it fails, and needs a replacement. The defaults stand in docs/scale.md.
"""

import heapq
import random
from dataclasses import dataclass
from typing import Annotated

import typer

from scripts.common import run

WORKERS = (1, 10, 100, 1000)


@dataclass(frozen=True)
class Plan:
    """What is known, or assumed, of a long prediction."""

    images: int
    rate: float
    """Images per second of a worker that has all the data it wants."""
    parts: int
    """Parts that the images are divided into."""
    image_kb: float
    store_mb_per_second: float
    store_requests_per_second: float
    hours_between_failures: float
    """Mean time between two failures of one worker."""
    minutes_to_replace: float
    seconds_unwritten: float
    """Work that a failure costs besides the replacement."""


@dataclass(frozen=True)
class Outcome:
    """What a simulation gives."""

    hours: float
    failures: int
    repeated_images: int
    requests_per_second: float
    limited_by: str


def simulate(plan: Plan, workers: int, seed: int = 0) -> Outcome:
    """Run the parts on the workers, event by event."""
    limits = {
        "workers": plan.rate * workers,
        "bandwidth of the store": plan.store_mb_per_second * 1000 / plan.image_kb,
        "requests to the store": plan.store_requests_per_second,
    }
    limited_by = min(limits, key=lambda name: limits[name])
    rate = limits[limited_by] / workers
    uniform, left = random.Random(seed), plan.parts
    size = plan.images / plan.parts
    free = [0.0] * min(workers, plan.parts)
    failures, repeated, end = 0, 0.0, 0.0
    while left:
        now = heapq.heappop(free)
        left -= 1
        remaining = size / rate
        while (failure := uniform.expovariate(1 / (3600 * plan.hours_between_failures))) < remaining:
            failures += 1
            lost = min(failure, plan.seconds_unwritten)
            repeated += lost * rate
            remaining -= failure - lost
            now += failure + 60 * plan.minutes_to_replace
        now += remaining
        end = max(end, now)
        heapq.heappush(free, now)
    return Outcome(end / 3600, failures, round(repeated), limits[limited_by], limited_by)


def main(
    images: Annotated[int, typer.Option(min=1, help="Number of images.")] = 100_000_000,
    rate: Annotated[float, typer.Option(min=0.001, help="Images per second of one worker.")] = 22.0,
    parts: Annotated[int, typer.Option(min=1, help="Parts of the test set.")] = 10_000,
    image_kb: Annotated[float, typer.Option(help="Size of an image in kB.")] = 100.0,
    store_mb: Annotated[float, typer.Option(help="Bandwidth of the store in MB/s.")] = 10_000.0,
    store_requests: Annotated[float, typer.Option(help="Requests per second of the store.")] = 5_500.0,
    hours_between_failures: Annotated[float, typer.Option(help="Of one worker.")] = 200.0,
    price: Annotated[float, typer.Option(help="Price of an hour of one worker.")] = 0.08,
) -> None:
    """Print a Markdown table."""
    plan = Plan(images, rate, parts, image_kb, store_mb, store_requests, hours_between_failures, 5.0, 10.0)
    print("| workers | hours | images/s | limited by | failures | images repeated | price |")
    print("|---|---|---|---|---|---|---|")
    for workers in WORKERS:
        result = simulate(plan, workers)
        cells = (
            f"{workers:,}", f"{result.hours:,.1f}", f"{result.requests_per_second:,.0f}", result.limited_by,
            f"{result.failures:,}", f"{result.repeated_images:,}", f"{price * workers * result.hours:,.0f}",
        )  # fmt: skip
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    run(main)
