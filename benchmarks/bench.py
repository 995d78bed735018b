"""Time every stage beside the usual way, in interleaved rounds.

::

    make bench                # all stages, about eight minutes on two cores
    make bench STAGE=text     # one

Prints a table and writes it to ``benchmarks/results/<machine>.md``, if all stages were timed.
"""

import datetime
import logging
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.data_stages import decode_stages, pair_stages, set_threads, text_stages
from benchmarks.file_stages import row_stages, start_stages
from benchmarks.network_stages import predict_stages, step_stages
from benchmarks.stage import BenchData, Outcome, Stage, run_stage
from pipeline.competition import load_competition
from pipeline.errors import UserError
from pipeline.files import atomic_write
from pipeline.host import available_cores, git_commit
from pipeline.models.device import choose_device
from pipeline.synthetic.dataset import write_synthetic_dataset
from scripts.common import run

STAGES: dict[str, tuple[Callable[[BenchData], Iterator[Stage]], int]] = {
    "decode": (decode_stages, 1),
    "pair": (pair_stages, 1),
    "text": (text_stages, 1),
    "rows": (row_stages, 0),
    "start": (start_stages, 0),
    "step": (step_stages, 0),
    "predict": (predict_stages, 0),
}
"""Name -> the stages, and the number of threads of torch and OpenCV; 0 for all cores."""
HEADER = ("stage", "ours", "other ways", "times as fast (lowest-highest)", "limit", "target", "")
RESULTS = Path(__file__).parent / "results"


def main(
    stage: Annotated[str, typer.Option(help=f"One of {', '.join(STAGES)}; all if empty.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each stage.")] = 5,
    machine: Annotated[str, typer.Option(help="Name of the result file; that of the processor if empty.")] = "",
) -> None:
    """Print the table of all stages."""
    logging.getLogger().setLevel(logging.WARNING)
    if stage not in ("", *STAGES):
        raise UserError("STAGE", f"there is no stage {stage!r}", f"choose one of {', '.join(STAGES)}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        data = BenchData(load_competition("carvana"), Path(name) / "cars", Path(name))
        write_synthetic_dataset(data.folder, train_cars=1, test_cars=1)
        outcomes = list(time_stages(data, [stage] if stage else list(STAGES), rounds))
    report = render_report(outcomes, rounds, time.monotonic() - started)
    print(report)
    if not stage:
        path = RESULTS / f"{re.sub('[^a-z0-9]+', '-', (machine or describe_machine()).lower()).strip('-')}.md"
        with atomic_write(path) as temporary:
            temporary.write_text(report)
        print(f"written to {path}")


def time_stages(data: BenchData, names: Sequence[str], rounds: int) -> Iterator[Outcome]:
    """Time the named stages, and print a line for each."""
    for name in names:
        stages, threads = STAGES[name]
        set_threads(threads or available_cores())
        for stage in stages(data):
            outcome = run_stage(stage, rounds)
            print("  ".join(cell for cell in outcome.row() if cell), file=sys.stderr, flush=True)
            yield outcome


def render_report(outcomes: Sequence[Outcome], rounds: int, seconds: float) -> str:
    """Return the table as Markdown, with the machine and the number of targets met."""
    rows = [HEADER, ["---"] * len(HEADER), *(outcome.row() for outcome in outcomes)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    met = [outcome.met() for outcome in outcomes if outcome.stage.target]
    return (
        f"# {describe_machine()}\n\n"
        f"{datetime.date.today()}, commit {git_commit()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}. Rendered cars of 1918×1280. Medians of {rounds} rounds, in each of which all ways of a "
        f"stage are timed in turn. Decoding, pairs and texts use one thread, the rest {available_cores()}. "
        "Submissions are timed once, from the start of the script; pandas writes 5 % of the rows, scaled.\n\n"
        f"{table}\n\n{sum(met)} of {len(met)} targets met, in {seconds / 60:.1f} minutes.\n"
    )


def describe_machine() -> str:
    """Return processor, cores, precision and GPU."""
    device = choose_device()
    gpu = f", {torch.cuda.get_device_name()}" if device.is_cuda else ""
    return f"{processor_name()}, {available_cores()} cores, {device.precision}{gpu}"


def processor_name() -> str:
    """Return the name of the processor."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


if __name__ == "__main__":
    run(main)
