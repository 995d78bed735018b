"""Predict the test set with all trained folds and write a checked submission."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from scripts.common import Changes, CompetitionName, DataFolder, FoldList, RecipeNames, fold_numbers, run


def main(
    competition: CompetitionName,
    recipe: RecipeNames,
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
    """Write one file, with threshold and weights as evaluated; the same command goes on where it was stopped."""
    from pipeline.competition import load_competition
    from pipeline.evaluation.oof import require_trained
    from pipeline.evaluation.result import read_evaluation
    from pipeline.inference.submission import write_submission
    from pipeline.paths import RUNS, fold_run, run_name, runs_folders
    from pipeline.recipe import load_recipe, split_recipe_names

    chosen, names = load_competition(competition), split_recipe_names(recipe)
    wanted = [load_recipe(name, changes) for name in names]
    name = run_name(competition, recipe)
    path = out or Path("submissions") / f"{name}.csv.gz"
    numbers = fold_numbers(fold, chosen.folds)
    weights = []
    for each, folder in zip(wanted, runs_folders(competition, names, runs_folder), strict=True):
        trained = [fold_run(folder, number) for number in numbers]
        for one in trained:
            require_trained(one, each)
        weights.append([one.weights for one in trained])
    facts: dict[str, object] = {"folds": numbers}
    shares = None
    result = read_evaluation(runs_folder or RUNS / name)
    if result and result.describes(numbers, wanted):
        facts |= {"oof_dice": result.dice, "oof_interval": result.interval}
        threshold = result.threshold if threshold is None else threshold
        shares = result.weights
    options = {"shares": shares, "threshold": threshold, "facts": facts, "minutes": minutes}
    if not write_submission(chosen, wanted, data, weights, path, **options):
        sys.exit(3)
    print(path)


if __name__ == "__main__":
    run(main)
