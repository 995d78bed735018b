"""Estimate GPU memory and time of a recipe from its operations, without running it."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, RecipeOption, SeedOption, SetOption, run


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

    # Data in an object store are not mirrored for this.
    images = images or count_fold_images(described, Path(data) if data else data_folder(competition))

    from pipeline.training.cost import describe_cost

    print(describe_cost(chosen, images, described))


if __name__ == "__main__":
    run(main)
