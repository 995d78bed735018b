"""Join the parts of a submission that several machines have predicted, and check the result."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.common import (
    AllowBrokenOption,
    CompetitionOption,
    DataOption,
    EnsembleOption,
    FoldsOption,
    RunSeedOption,
    RunSetOption,
    RunsOption,
    run,
)


def main(
    competition: CompetitionOption,
    recipe: EnsembleOption,
    data: DataOption = "",
    folds: FoldsOption = "",
    runs: RunsOption = None,
    out: Annotated[Path | None, typer.Option(help="submissions/<competition>-<recipe>.csv.gz by default.")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="The evaluation's by default.")] = None,
    allow_broken: AllowBrokenOption = False,
    overrides: RunSetOption = None,
    seed: RunSeedOption = None,
) -> None:
    """Write the submission that one machine would have written. Every part must be there and complete."""
    from pipeline import paths
    from pipeline.competition import load_competition
    from pipeline.options import parse_data, parse_folds
    from pipeline.overrides import given_overrides, load_run_recipes

    chosen, runs_folders = load_competition(competition), paths.runs_folders(competition, recipe, runs)
    recipes = load_run_recipes(recipe, runs_folders, given_overrides(overrides, seed))
    numbers, folder = parse_folds(folds, chosen.folds), parse_data(data, competition)
    results, path = runs or paths.runs_folder(competition, recipe), out or paths.submission_csv(competition, recipe)

    from pipeline.evaluation.predict import predict_as_evaluated as predict

    options: dict[str, Any] = {"threshold": threshold, "allow_broken": allow_broken, "merge": True}
    if not predict(chosen, recipes, folder, runs_folders, numbers, results, path, **options):
        sys.exit(3)
    print(path)


if __name__ == "__main__":
    run(main, results=True)
