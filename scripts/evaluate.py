"""Predict every held-out image by the fold that has not seen it; say what to expect on the leaderboard."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import Changes, CompetitionName, DataFolder, FoldList, RecipeNames, fold_numbers, run

WORST = 20


def main(
    competition: CompetitionName,
    recipe: RecipeNames,
    data: DataFolder,
    fold: FoldList = "",
    folds: Annotated[Path | None, typer.Option(help="Table of folds; folds/<competition>.csv if not given.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs; runs/<competition>-<recipe> if not given.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Where to write; the folder of the runs if not given.")] = None,
    changes: Changes = [],  # noqa: B006 (typer wants a list)
) -> None:
    """Write evaluation.json, oof.csv, and worst.jpg: photo, mask over it, missed (yellow) and added (cyan)."""
    from pipeline.competition import load_competition
    from pipeline.evaluation.oof import evaluate_oof
    from pipeline.paths import RUNS, run_name, runs_folders
    from pipeline.recipe import load_recipe, split_recipe_names
    from pipeline.report.compare import write_worst_images

    chosen = load_competition(competition)
    names = split_recipe_names(recipe)
    wanted = [load_recipe(name, changes) for name in names]
    folders = runs_folders(competition, names, out)
    results = results or out or RUNS / run_name(competition, recipe)
    table_path = folds or Path("folds") / f"{competition}.csv"
    result, table = evaluate_oof(chosen, wanted, data, table_path, folders, fold_numbers(fold, chosen.folds), results)
    write_worst_images(chosen, wanted, data, folders, result, table, results / "worst.jpg")
    result.save(results)  # last: where it stands, make takes the evaluation for done
    print(f"{min(WORST, len(table))} worst of {result.images} images:")
    print(table.nsmallest(WORST, "dice").to_string(index=False, float_format="{:.5f}".format))
    print("\nDice by fold: " + ", ".join(f"{name} {value:.5f}" for name, value in result.dice_by_fold.items()))
    for sentence in result.fitted():
        print(sentence)
    low, high = result.interval
    print(f"pixel accuracy: {result.accuracy:.5f}")
    print(f"out-of-fold Dice: {result.dice:.5f}, {low:.5f} to {high:.5f} (95 %, from {result.groups} groups)")
    low, high = result.expected
    print(
        f"expect {low:.5f} to {high:.5f} on a test set of {result.test_groups} groups (95 %); more from several folds"
    )
    print(results / "worst.jpg")
    print(results / "oof.csv")
    print(results / "evaluation.json")


if __name__ == "__main__":
    run(main)
