"""Time trainings from the start of the command to written weights: the minutes to a Dice on cars that were held out.

::

    make speedrun DATA=../shared/carvana                # all records, three seeds each
    make speedrun DATA=../shared/carvana TARGET=0.99    # those for a Dice
    make speedrun DATA=../shared/carvana TARGET=seed    # those of a recipe

Records are listed in ``benchmarks/speedrun.toml``. Each training is appended to ``benchmarks/results/speedrun.jsonl``.
Nothing else should run on the machine.
"""

import datetime
import json
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipeline import paths
from pipeline.errors import UserError
from pipeline.host import git_commit
from pipeline.models.checkpoint import read_weights_metadata
from scripts.common import DataOption, run

RECORDS = Path(__file__).with_name("speedrun.toml")
RESULTS = Path(__file__).parent / "results" / "speedrun.jsonl"
COMPETITION = "carvana"
HEADER = ("Dice", "recipe", "idea", "minutes", "Dice reached", "seeds", "hardware", "commit")


@dataclass(frozen=True)
class Record:
    """The fastest training known to reach a Dice, or the reference."""

    dice: float
    recipe: str
    set: str
    """Overrides of the recipe, as for ``SET``."""
    idea: str
    """What makes it fast."""


@dataclass(frozen=True)
class Timing:
    """One training."""

    target: float
    recipe: str
    set: str
    seed: int
    minutes: float
    """From the start of the command to its end, with the start of Python and the last validation."""
    dice: float
    """On the validation images at their native size, without flips."""
    hardware: str
    commit: str
    date: str


def main(
    data: DataOption = "",
    target: Annotated[str, typer.Option(help="A Dice, such as 0.99, or a recipe; all records if empty.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, separated by spaces.")] = "0 1 2",
) -> None:
    """Time the records and print the table."""
    records = [record for record in read_records() if target in ("", str(record.dice), record.recipe)]
    if not records:
        raise UserError(RECORDS, f"has no record for {target!r}", "set TARGET to a Dice or a recipe of the file")
    timings = []
    for record in records:
        for seed in map(int, seeds.split()):
            timings.append(time_training(record, seed, data))
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(timings[-1])) + "\n")
    print(describe(records, timings))


def read_records() -> list[Record]:
    """Read the list of records."""
    return [Record(**values) for values in tomllib.loads(RECORDS.read_text(encoding="utf-8"))["record"]]


def time_training(record: Record, seed: int, data: str) -> Timing:
    """Train fold 0 into a folder of its own, which is deleted afterwards.

    Raises:
        UserError: the training failed.
    """
    runs = paths.runs_folder(COMPETITION, "speedrun")
    shutil.rmtree(runs, ignore_errors=True)
    options = ["--competition", COMPETITION, "--recipe", record.recipe, "--data", data, "--fold", "0"]
    options += ["--set", record.set, "--seed", str(seed), "--runs", str(runs)]
    started = time.monotonic()
    code = subprocess.run([sys.executable, "-m", "scripts.train", *options], check=False).returncode
    minutes = (time.monotonic() - started) / 60
    if code:
        raise UserError(record.recipe, f"its training ended with exit code {code}", "see above")
    metadata = read_weights_metadata(paths.fold_run(runs, 0).weights)[1]
    shutil.rmtree(runs)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Timing(
        record.dice, record.recipe, record.set, seed, round(minutes, 2), float(metadata.score), metadata.hardware,
        git_commit(), date,
    )  # fmt: skip


def describe(records: Iterable[Record], timings: Sequence[Timing]) -> str:
    """Return the table of records as Markdown: mean (lowest to highest) over the seeds."""
    lines = ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
    for record in records:
        mine = [timing for timing in timings if (timing.recipe, timing.set) == (record.recipe, record.set)]
        dice, minutes = [timing.dice for timing in mine], [timing.minutes for timing in mine]
        reached = "" if np.mean(dice) >= record.dice else ", not reached"
        overrides = f" `{record.set}`" if record.set else ""
        cells = (
            f"{record.dice:g}", f"`{record.recipe}`{overrides}", record.idea,
            f"{np.mean(minutes):.1f} ({min(minutes):.1f} to {max(minutes):.1f})",
            f"{np.mean(dice):.5f} ({min(dice):.5f} to {max(dice):.5f}){reached}",
            str(len(mine)), mine[-1].hardware, mine[-1].commit,
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
