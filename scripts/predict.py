"""Predict the test set with all trained folds and write a checked submission."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from scripts.common import (
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
    best_effort: Annotated[
        bool, typer.Option("--best-effort", help="Leave masks empty that cannot be predicted, instead of stopping.")
    ] = False,
    overrides: SetOption = [],  # noqa: B006 - typer needs a list
    seed: SeedOption = "",
) -> None:
    """Write one file with the threshold and ensemble weights of the evaluation. The same command resumes."""
    from pipeline import paths
    from pipeline.competition import load_competition
    from pipeline.options import parse_data, parse_folds, parse_overrides
    from pipeline.recipe import load_recipe
    from pipeline.stages import split_recipe_names

    chosen, names = load_competition(competition), split_recipe_names(recipe)
    recipes = [load_recipe(name, parse_overrides(overrides, seed)) for name in names]
    numbers, runs_folders = parse_folds(folds, chosen.folds), paths.runs_folders(competition, names, runs)
    path = out or paths.submission_csv(competition, recipe)

    from pipeline.evaluation.predict import predict_as_evaluated

    finished = predict_as_evaluated(
        chosen,
        recipes,
        parse_data(data, competition),
        runs_folders,
        numbers,
        runs or paths.runs_folder(competition, recipe),
        path,
        threshold=threshold,
        minutes=minutes,
        best_effort=best_effort,
    )
    if not finished:
        sys.exit(3)
    print(path)


if __name__ == "__main__":
    run(main)
