"""Run the stand-in by hand: `python -m tests.standin --competition NAME --data DIR`."""

import shlex
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline import paths
from pipeline.competition import load_competition
from pipeline.errors import UserError
from pipeline.options import parse_data
from scripts.common import CompetitionOption, DataOption, run
from tests.standin.archives import make_scorer, pack_files
from tests.standin.backend import Backend
from tests.standin.faults import KINDS
from tests.standin.server import HOST, StandinServer

_STEPS = "ListDataFiles, DownloadDataFile, 'GET train.zip', PUT, CreateSubmission, ListSubmissions or another"


def main(
    competition: CompetitionOption,
    data: DataOption = "",
    port: Annotated[int, typer.Option(help="0 for a free one.")] = 8017,
    limit: Annotated[int, typer.Option(help="Submissions per day.")] = 5,
    delay: Annotated[float, typer.Option(help="Seconds from a submission to its score.")] = 5.0,
    fault: Annotated[
        list[str],
        typer.Option(help=f"STEP:KIND[:AMOUNT], occurs once. STEP is {_STEPS}; KIND is one of {', '.join(KINDS)}."),
    ] = [],  # noqa: B006 - typer needs a list
) -> None:
    """Offer a data folder as its competition, and score submissions with its solution, until Ctrl-C."""
    chosen, folder = load_competition(competition), parse_data(data, competition)
    if chosen.slug is None or chosen.download is None:
        raise UserError(paths.competition_toml(competition), "has no slug or no [download] table", "add them")
    with tempfile.TemporaryDirectory(prefix="kaggle-standin-") as scratch:
        print(f"packing {folder} …", flush=True)
        files = pack_files(chosen, folder, Path(scratch) / "files")
        backend = Backend(chosen.slug, files, make_scorer(chosen, folder), Path(scratch) / "uploads", limit)
        backend.scoring_delay_s = delay
        with StandinServer(backend, port) as standin:
            for text in fault:
                step, kind, amount = (*text.split(":"), "0")[:3]
                standin.faults.add(step, kind, amount=float(amount))
            print(f"{chosen.title} is on {HOST}:{standin.port} until Ctrl-C. In another terminal:\n")
            environment = {**standin.environment(), "KAGGLE_CONFIG_DIR": f"{scratch}/config"}
            print("export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items()))
            print(f"make download submit COMPETITION={competition} DATA=data/from-standin", flush=True)
            while True:
                time.sleep(1)


if __name__ == "__main__":
    run(main)
