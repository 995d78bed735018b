"""Estimate GPU memory and time of a recipe from its operations, without running it."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, RecipeOption, SeedOption, SetOption, run

CARVANA_IMAGES = 4070
"""Training images of a fold of Carvana's full data, assumed where there is no data."""


def main(
    recipe: RecipeOption,
    competition: CompetitionOption = "carvana",
    data: DataOption = "",
    images: Annotated[
        int, typer.Option(min=0, help="Training images of a fold; if 0 those of the data, or Carvana's without data.")
    ] = 0,
    overrides: SetOption = [],  # noqa: B006 - typer needs a list
    seed: SeedOption = "",
) -> None:
    """Print operations and memory of a training step, and the estimated time on some GPUs and on CPU cores."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_overrides
    from pipeline.paths import data_folder
    from pipeline.recipe import load_recipe

    chosen, described = load_recipe(recipe, parse_overrides(overrides, seed)), load_competition(competition)

    from pipeline.data.samples import count_fold_images

    folder = Path(data) if data else data_folder(competition)  # data in an object store is not mirrored for this
    if not images and folder.is_dir():
        images = count_fold_images(described, folder)
    elif not images:
        images = CARVANA_IMAGES
        print(f"{folder}: no such folder; assumes {images} training images, those of a fold of Carvana's full data")

    from pipeline.training.cost import describe_cost

    print(describe_cost(chosen, images, described))


if __name__ == "__main__":
    run(main)
