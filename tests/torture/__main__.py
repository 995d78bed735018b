"""Disturb stages at random moments: ``python -m tests.torture [STAGE] [--kills 25] [--seed 0]``."""

import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from pipeline.errors import UserError
from scripts.common import run
from tests.torture.disturbances import KINDS, Bench, describe_full_disk
from tests.torture.stages import NAME, RENDERED, build_stages, render

FIRST_MOMENT_S = 0.1
"""Python itself starts in this time. It shows a traceback for SIGINT, before it has read a line of this project."""


def main(
    stage: Annotated[str, typer.Argument(help="train, predict, download or blend; all if empty.")] = "",
    kills: Annotated[int, typer.Option(min=1, help="Disturbances per stage.")] = 25,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal moments, as fractions of an undisturbed run.")] = 0,
) -> None:
    """Exit with 1 if a stage does not survive a disturbance: then the same command does not give the same result."""
    # A background job of a shell ignores SIGINT, and so would the commands that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        world, scratch = Path(name) / "world", Path(name) / "scratch"
        (world / "data").mkdir(parents=True)
        scratch.mkdir()
        print(f"full disk: {describe_full_disk(scratch)}", flush=True)
        render(world / "data" / NAME)
        with build_stages(world, RENDERED) as stages:
            if stage and stage not in stages:
                raise UserError(f"STAGE {stage}", "there is no such stage", f"choose one of {', '.join(stages)}")
            benches = [Bench(stages[each], world, scratch) for each in ([stage] if stage else stages)]
            counts = [_torture(bench, kills, seed) for bench in benches]
    _print_table(benches, counts)
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(any(survived < total for stage_counts in counts for total, survived in stage_counts.values()))


def _torture(bench: Bench, kills: int, seed: int) -> dict[str, tuple[int, int]]:
    """Disturb one stage, print a line each time, and return how often each kind came and was survived."""
    random = Random(f"{seed} {bench.stage.name}")
    total: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    print(f"{bench.stage.name}: {bench.seconds:.1f} s undisturbed", flush=True)
    for index in range(kills):
        kind = list(KINDS)[index % len(KINDS)]
        moment = random.uniform(FIRST_MOMENT_S, bench.seconds)
        verdict = bench.disturb(kind, moment)
        total[kind] += 1
        survived[kind] += not verdict.faults
        outcome = "; ".join(verdict.faults) or "survived"
        print(f"{bench.stage.name:9} {kind:17} {moment:5.2f} s  exit code {verdict.code!s:5} {outcome}", flush=True)
        if verdict.faults:
            print(verdict.text, flush=True)
    return {kind: (total[kind], survived[kind]) for kind in total}


def _print_table(benches: list[Bench], counts: list[dict[str, tuple[int, int]]]) -> None:
    print(f"\n{'stage':9} {'kind':17} {'total':>5} {'survived':>8}")
    for bench, stage_counts in zip(benches, counts, strict=True):
        for kind, (total, survived) in stage_counts.items():
            print(f"{bench.stage.name:9} {kind:17} {total:5} {survived:8}")


if __name__ == "__main__":
    run(main)
