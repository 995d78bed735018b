"""Predict every held-out image by the fold that has not seen it; say what to expect on the leaderboard."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import Changes, CompetitionName, DataFolder, FoldList, RecipeName, fold_numbers, run

WORST = 20


def main(
    competition: CompetitionName,
    recipe: RecipeName,
    data: DataFolder,
    fold: FoldList = "",
    folds: Annotated[Path | None, typer.Option(help="Table of folds; folds/<competition>.csv if not given.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs; runs/<competition>-<recipe> if not given.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Where to write; the folder of the runs if not given.")] = None,
    changes: Changes = [],  # noqa: B006 (typer wants a list)
) -> None:
    """Write evaluation.json and oof.csv."""
    from pipeline import competition as competitions
    from pipeline import recipe as recipes
    from pipeline import runs
    from pipeline.evaluate import evaluate

    chosen = competitions.load(competition)
    folder = out or runs.FOLDER / runs.name(competition, recipe)
    table_path = folds or Path("folds") / f"{competition}.csv"
    numbers = fold_numbers(fold, chosen.folds)
    result, table = evaluate(chosen, recipes.load(recipe, changes), data, table_path, folder, numbers, results)
    print(f"{min(WORST, len(table))} worst of {result.images} images:")
    print(table.nsmallest(WORST, "dice").to_string(index=False, float_format="{:.5f}".format))
    print("\nDice by fold: " + ", ".join(f"{name} {value:.5f}" for name, value in result.dice_by_fold.items()))
    low, high = result.threshold_gain_interval
    print(
        f"best threshold: {result.best_threshold:.3f}; on cars it was not fitted on it gains "
        f"{result.threshold_gain:+.6f} [{low:+.6f}, {high:+.6f}]; predictions will use {result.threshold:.3f}"
    )
    low, high = result.interval
    print(f"pixel accuracy: {result.accuracy:.5f}")
    print(
        f"out-of-fold Dice: {result.dice:.5f}; "
        f"expect {low:.5f} to {high:.5f} on the leaderboard (95 %, from {result.groups} groups)"
    )
    print((results or folder) / "oof.csv")
    print((results or folder) / "evaluation.json")


if __name__ == "__main__":
    run(main)
