"""Predict the test set with all trained folds and write a checked submission."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from scripts.common import Changes, CompetitionName, DataFolder, FoldList, RecipeName, fold_numbers, run


def main(
    competition: CompetitionName,
    recipe: RecipeName,
    data: DataFolder,
    fold: FoldList = "",
    runs_folder: Annotated[
        Path | None, typer.Option("--runs", help="Folder of the runs; runs/<competition>-<recipe> if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="submissions/<competition>-<recipe>.csv.gz if not given.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="As evaluated, or the recipe's, if not given.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop cleanly after this time, with exit code 3.")] = None,
    changes: Changes = [],  # noqa: B006 (typer wants a list)
) -> None:
    """Write one file; the same command goes on where it was stopped."""
    from pipeline import competition as competitions
    from pipeline import evaluate, runs
    from pipeline import recipe as recipes
    from pipeline.predict.submit import write_submission

    chosen, wanted = competitions.load(competition), recipes.load(recipe, changes)
    folder = runs_folder or runs.FOLDER / runs.name(competition, recipe)
    path = out or Path("submissions") / f"{runs.name(competition, recipe)}.csv.gz"
    numbers = fold_numbers(fold, chosen.folds)
    trained = [runs.of_fold(folder, number) for number in numbers]
    for each in trained:
        evaluate.require_trained(each, wanted)
    facts: dict[str, object] = {"folds": numbers}
    evaluation = evaluate.read(folder)
    if evaluation and evaluation.describes(numbers, wanted):
        facts |= {"oof_dice": evaluation.dice, "oof_interval": evaluation.interval}
        threshold = evaluation.threshold if threshold is None else threshold
    weights = [each.weights for each in trained]
    if not write_submission(chosen, wanted, data, weights, path, threshold=threshold, facts=facts, minutes=minutes):
        sys.exit(3)
    print(path)


if __name__ == "__main__":
    run(main)
