"""Run the stand-in by hand: `python -m tests.standin --data DIR`; it prints what sends the client to it."""

import shlex
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline.competition import load_competition
from pipeline.errors import UserError
from scripts.common import CompetitionName, DataFolder, run
from tests.standin.archives import pack, scorer
from tests.standin.faults import KINDS
from tests.standin.server import HOST, Standin
from tests.standin.world import World

_STEP = "where: ListDataFiles, DownloadDataFile, 'GET train.zip', PUT, CreateSubmission, ListSubmissions, …"


def main(
    data: DataFolder,
    competition: CompetitionName = "carvana",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8017,
    limit: Annotated[int, typer.Option(help="Submissions a day.")] = 5,
    delay: Annotated[float, typer.Option(help="Seconds from a submission to its score.")] = 5.0,
    fault: Annotated[
        list[str],
        typer.Option(help=f"STEP:KIND[:AMOUNT], once each. STEP is {_STEP} KIND is one of {', '.join(KINDS)}."),
    ] = [],  # noqa: B006 (typer wants a list)
) -> None:
    """Offer a data folder as the competition it belongs to, and score what is submitted by its solution."""
    chosen = load_competition(competition)
    if chosen.slug is None or chosen.download is None:
        raise UserError(f"competitions/{competition}.toml", "has no slug or no download table", "add them")
    with tempfile.TemporaryDirectory(prefix="kaggle-standin-") as scratch:
        print(f"packing {data} …", flush=True)
        files = pack(chosen, data, Path(scratch) / "files")
        world = World(chosen.slug, files, scorer(chosen, data), Path(scratch) / "uploads", limit)
        world.delay_s = delay
        with Standin(world, port) as standin:
            for each in fault:
                step, kind, amount = (*each.split(":"), "0")[:3]
                standin.faults.add(step, kind, amount=float(amount))
            print(f"{chosen.title} is on {HOST}:{standin.port} until Ctrl-C. In another terminal:\n")
            environment = {**standin.environment(), "KAGGLE_CONFIG_DIR": f"{scratch}/config"}
            print("export " + " ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items()))
            print(f"make download submit COMPETITION={competition} DATA=data/from-standin", flush=True)
            while True:
                time.sleep(1)


if __name__ == "__main__":
    run(main)
