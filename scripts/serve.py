"""Serve a local page: drop a photo, see its mask."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import run


def main(
    weights: Annotated[
        str, typer.Option(help="A weights file, a run or a runs folder; by default your runs, else weights/.")
    ] = "",
    competition: Annotated[str, typer.Option(help="With --recipe, selects the default weights.")] = "carvana",
    recipe: Annotated[str, typer.Option(help="See --competition.")] = "baseline",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes any free one.")] = 8000,
) -> None:
    """Serve a page on 127.0.0.1 until Ctrl-C: photos in, masks, PNG and run-length encoding out."""
    from pipeline.weights import default_weights

    source = Path(weights) if weights else default_weights(competition, recipe)

    from pipeline.inference.image_model import load_image_model
    from pipeline.serve.server import address, listen, serve

    with listen(port) as listener:
        model = load_image_model(source)
        if model.competition:
            model.competition.require_whole_images("make serve")
        print(f"{address(listener)} (Ctrl-C stops it)", flush=True)
        serve(model, listener)


if __name__ == "__main__":
    run(main)
