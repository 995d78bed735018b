"""Train one fold of a recipe."""

import sys
from typing import Annotated

import typer

from scripts.common import (
    CompetitionOption,
    DataOption,
    FoldsCsvOption,
    MinutesOption,
    RecipeOption,
    RunsOption,
    SeedOption,
    SetOption,
    run,
)


def main(
    competition: CompetitionOption,
    recipe: RecipeOption,
    data: DataOption = "",
    fold: Annotated[str, typer.Option(help="The fold to validate on; 'all' trains on every image.")] = "0",
    folds_csv: FoldsCsvOption = None,
    runs: RunsOption = None,
    minutes: MinutesOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer needs a list
    seed: SeedOption = "",
) -> None:
    """Train one fold and write its weights. The same command resumes an interrupted training."""
    from pipeline import paths
    from pipeline.competition import load_competition
    from pipeline.options import parse_data, parse_overrides
    from pipeline.recipe import load_recipe

    chosen, number = load_competition(competition), paths.parse_fold(fold)
    wanted = load_recipe(recipe, parse_overrides(overrides, seed))
    target = paths.fold_run(runs or paths.runs_folder(competition, recipe), number)
    table = folds_csv or paths.folds_csv(competition)

    # Imported after the files are read, so that a mistake in them shows at once: torch takes seconds.
    from pipeline.training.fold import train_fold

    if not train_fold(chosen, wanted, parse_data(data, competition), table, number, target, minutes):
        sys.exit(3)
    print(target.weights)


if __name__ == "__main__":
    run(main)
