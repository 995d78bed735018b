"""Train one fold, or on all images."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from scripts.common import Changes, CompetitionName, DataFolder, RecipeName, one_fold, run


def main(
    competition: CompetitionName,
    recipe: RecipeName,
    data: DataFolder,
    fold: Annotated[str, typer.Option(help="The fold to hold out; 'all' trains on every image.")] = "0",
    folds: Annotated[Path | None, typer.Option(help="Table of folds; folds/<competition>.csv if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where runs go; runs/<competition>-<recipe> if not given.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop cleanly after this time, with exit code 3.")] = None,
    changes: Changes = [],  # noqa: B006 (typer wants a list)
) -> None:
    """Train one fold; the same command goes on where it was stopped."""
    from pipeline.competition import load_competition
    from pipeline.paths import RUNS, fold_run, run_name
    from pipeline.recipe import load_recipe
    from pipeline.training.fold import train_fold

    chosen = load_competition(competition)
    folder = out or RUNS / run_name(competition, recipe)
    number = one_fold(fold)
    target = fold_run(folder, number)
    table = folds or Path("folds") / f"{competition}.csv"
    if not train_fold(chosen, load_recipe(recipe, changes), data, table, number, target, minutes):
        sys.exit(3)
    print(target.weights)


if __name__ == "__main__":
    run(main)
