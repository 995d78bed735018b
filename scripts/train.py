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
    from pipeline import competition as competitions
    from pipeline import recipe as recipes
    from pipeline import runs
    from pipeline.train import train_fold

    chosen = competitions.load(competition)
    folder = out or runs.FOLDER / runs.name(competition, recipe)
    number = one_fold(fold)
    target = runs.of_fold(folder, number)
    table = folds or Path("folds") / f"{competition}.csv"
    if not train_fold(chosen, recipes.load(recipe, changes), data, table, number, target, minutes):
        sys.exit(3)
    print(target.weights)


if __name__ == "__main__":
    run(main)
