"""Stages of whole files: write, check, blend and score a submission; start a script."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import cycle, islice, repeat

from benchmarks.stage import OURS, BenchData, Stage, Target
from benchmarks.usual import write_usual_csv
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.row_format import submission_format

ROWS = 100_064
"""Rows of a submission of the Carvana challenge."""


def row_stages(data: BenchData) -> Iterator[Stage]:
    """Write, check, blend and score full submissions, on all cores; the scripts are timed from their start."""
    format = submission_format(data.competition)
    ids = [f"{number:012x}_01.jpg" for number in range(ROWS)]
    masks = [row.rle for row in read_mask_csv(data.folder / "train_masks.csv", format)]
    texts = list(islice(cycle(masks), ROWS))
    folder = data.scratch / "full"
    folder.mkdir()
    first, second, third, usual, out = (folder / f"{number}.csv.gz" for number in range(5))
    ways = {
        OURS: lambda: write_mask_csv(first, format, ((id, 0, text) for id, text in zip(ids, texts, strict=True))),
        "usual": lambda: write_usual_csv(usual, ids[: ROWS // 20], texts[: ROWS // 20]),
    }
    scale = {"usual": 20.0}
    yield Stage("submission: write", ROWS, "row", ways, Target(seconds=15, items=ROWS), scale=scale, rounds=1)
    write_mask_csv(folder / "sample_submission.csv", format, ((id, 0, "1 1") for id in ids))
    for shift, path in ((1, second), (2, third)):
        write_mask_csv(path, format, zip(ids, repeat(0), islice(cycle(masks), shift, None), strict=False))
    common = ("--competition", "carvana")
    for name, command, seconds in (
        ("check", ("check_submission", first, *common, "--data", folder), 10),
        ("blend of three", ("blend", f"{first} {second} {third}", *common, "--out", out), 30),
        ("score", ("score", first, *common, "--data", folder, "--solution", second), 10),
    ):
        yield Stage(
            f"submission: {name}", ROWS, "row", {OURS: start(*command)}, Target(seconds=seconds, items=ROWS), rounds=1
        )


def start(script: str, *arguments: object) -> Callable[[], object]:
    """Return a function that runs a script to its end."""
    command = [sys.executable, "-m", f"scripts.{script}", *map(str, arguments)]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def start_stages(_: BenchData) -> Iterator[Stage]:
    """Start `make help`, and the help of a script."""
    help = lambda: subprocess.run(["make", "help"], check=True, capture_output=True)  # noqa: E731
    yield Stage("make help", 1, "start", {OURS: help}, Target(seconds=0.3))
    yield Stage("a script's --help", 1, "start", {OURS: start("predict", "--help")}, Target(seconds=0.7))
