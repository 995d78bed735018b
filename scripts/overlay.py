"""Predict single images: write the mask, its run-length encoding, and the mask drawn over the image."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import run


def main(
    images: Annotated[list[str], typer.Argument(help="Image files, or folders of images.")],
    weights: Annotated[
        str, typer.Option(help="A weights file, a run or a runs folder; by default your runs, else weights/.")
    ] = "",
    competition: Annotated[str, typer.Option(help="With --recipe, selects the default weights.")] = "carvana",
    recipe: Annotated[str, typer.Option(help="See --competition.")] = "baseline",
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("overlays"),
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Threshold of the probability; the recipe's by default.")
    ] = None,
) -> None:
    """Write <name>_mask.png, <name>_rle.csv and <name>_overlay.jpg for each image."""
    from pipeline.options import parse_paths, require_option
    from pipeline.weights import default_weights

    files = parse_paths(images)
    require_option(files, "IMG", "make overlay IMG=image.jpg")
    source = Path(weights) if weights else default_weights(competition, recipe)

    from pipeline.inference.overlay import write_overlays

    for path in write_overlays(source, files, out, threshold):
        print(path)


if __name__ == "__main__":
    run(main)
