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
    RunSeedOption,
    RunSetOption,
    RunsOption,
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
    overrides: RunSetOption = None,
    seed: RunSeedOption = None,
) -> None:
    """Train one fold and write its weights. The same command resumes an interrupted training."""
    from pipeline import paths
    from pipeline.competition import load_competition
    from pipeline.gpu_slots import take_gpu
    from pipeline.options import parse_data
    from pipeline.overrides import given_overrides, load_run_recipe

    chosen, number = load_competition(competition), paths.parse_fold(fold)
    folder = runs or paths.runs_folder(competition, recipe)
    wanted, _ = load_run_recipe(recipe, folder, given_overrides(overrides, seed))
    target = paths.fold_run(folder, number)
    table = folds_csv or paths.folds_csv(competition)

    with take_gpu():
        # Imported after the files are read, so that a mistake in them shows at once: torch takes seconds.
        from pipeline.training.fold import train_fold

        if not train_fold(chosen, wanted, parse_data(data, competition), table, number, target, minutes):
            sys.exit(3)
    print(target.weights)


if __name__ == "__main__":
    run(main, results=True)
