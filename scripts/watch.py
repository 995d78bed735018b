"""Show the trainings of a competition in TensorBoard, while they run."""

import threading
from contextlib import suppress
from typing import Annotated

import typer

from scripts.common import CompetitionOption, run


def main(
    competition: CompetitionOption,
    recipe: Annotated[
        str, typer.Option("--recipe", help="Only the runs of this recipe; of all recipes if empty.")
    ] = "",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes the first free one from 6006.")
    ] = 0,
) -> None:
    """Print the address of the page, and serve it on this computer until Ctrl-C."""
    from pipeline.competition import load_competition

    name = load_competition(competition).name

    from pipeline.report.watch import start_tensorboard

    print(f"{start_tensorboard(name, recipe, port)} (Ctrl-C stops it)", flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    run(main)
