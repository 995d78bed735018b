"""Predict the test set with all trained folds and write a checked submission."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from scripts.common import (
    AllowBrokenOption,
    CompetitionOption,
    DataOption,
    EnsembleOption,
    FoldsOption,
    MinutesOption,
    RunsOption,
    SeedOption,
    SetOption,
    run,
)


def main(
    competition: CompetitionOption,
    recipe: EnsembleOption,
    data: DataOption = "",
    folds: FoldsOption = "",
    runs: RunsOption = None,
    out: Annotated[Path | None, typer.Option(help="submissions/<competition>-<recipe>.csv.gz by default.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="That of the evaluation by default, else the recipe's.")
    ] = None,
    minutes: MinutesOption = None,
    allow_broken: AllowBrokenOption = False,
    best_effort: Annotated[bool, typer.Option("--best-effort", help="Write a file in any case.")] = False,
    overrides: SetOption = [],  # noqa: B006 - typer needs a list
    seed: SeedOption = "",
) -> None:
    """Write one file with the threshold and ensemble weights of the evaluation. The same command resumes."""
    from pipeline import paths
    from pipeline.competition import load_competition
    from pipeline.options import parse_data, parse_folds, parse_overrides
    from pipeline.recipe import load_recipes

    chosen, recipes = load_competition(competition), load_recipes(recipe, parse_overrides(overrides, seed))
    numbers, runs_folders = parse_folds(folds, chosen.folds), paths.runs_folders(competition, recipe, runs)
    results, path = runs or paths.runs_folder(competition, recipe), out or paths.submission_csv(competition, recipe)

    from pipeline.evaluation.predict import predict_as_evaluated

    predict = partial(predict_as_evaluated, allow_broken=allow_broken, best_effort=best_effort)
    predict = partial(predict, threshold=threshold, minutes=minutes)
    if not predict(chosen, recipes, parse_data(data, competition), runs_folders, numbers, results, path):
        sys.exit(3)
    print(path)


if __name__ == "__main__":
    run(main)
