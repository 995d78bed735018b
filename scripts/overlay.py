"""Cut out what is on a photo: write its mask, and the mask laid over it."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import run


def main(
    pictures: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    weights: Annotated[Path, typer.Option(help="A weights file, the folder of a run, or a folder of runs.")],
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("overlays"),
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the probability; the recipe's if not given.")
    ] = None,
) -> None:
    """Write <name>_mask.png and <name>_overlay.jpg for each photo."""
    from pipeline.inference.overlay import write_overlays

    for path in write_overlays(weights, pictures, out, threshold):
        print(path)


if __name__ == "__main__":
    run(main)
