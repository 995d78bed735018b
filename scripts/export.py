"""Export the folds of a recipe as an ONNX file and as a program of torch.export."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, RecipeOption, run


def main(
    competition: CompetitionOption,
    recipe: RecipeOption,
    data: DataOption = "",
    weights: Annotated[str, typer.Option(help="A weights file, a run or a runs folder; see scripts.overlay.")] = "",
    flips: Annotated[str, typer.Option(help="Views to average: 'none horizontal'; the recipe's if empty.")] = "",
    out: Annotated[Path | None, typer.Option(help="exports/<competition>-<recipe>.onnx by default.")] = None,
) -> None:
    """Write an ONNX file, a .pt2 file and a card, and compare them with the model on test or rendered images."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_data, parse_flips
    from pipeline.paths import exported_model
    from pipeline.weights import default_weights

    chosen, views = load_competition(competition), parse_flips(flips)
    source = Path(weights) if weights else default_weights(competition, recipe)
    path = out or exported_model(competition, recipe)

    from pipeline.inference.export import export_model
    from pipeline.inference.export_images import comparison_images

    with comparison_images(chosen, parse_data(data, competition)) as images:
        for written in export_model(source, images, path, views):
            print(written)


if __name__ == "__main__":
    run(main)
