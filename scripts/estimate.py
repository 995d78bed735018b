"""Estimate GPU memory and time of a recipe from its operations, without running it."""

from typing import Annotated

import typer

from scripts.common import CompetitionOption, RecipeOption, SeedOption, SetOption, run


def main(
    recipe: RecipeOption,
    competition: CompetitionOption = "carvana",
    images: Annotated[int, typer.Option(min=1, help="Training images of a fold.")] = 4070,
    overrides: SetOption = [],  # noqa: B006 - typer needs a list
    seed: SeedOption = "",
) -> None:
    """Print operations and memory of a training step, and the estimated time on some GPUs and on CPU cores."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_overrides
    from pipeline.recipe import load_recipe

    chosen, described = load_recipe(recipe, parse_overrides(overrides, seed)), load_competition(competition)

    from pipeline.training.cost import describe_cost

    print(describe_cost(chosen, images, described))


if __name__ == "__main__":
    run(main)
