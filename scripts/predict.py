"""Predict the test set with all trained folds and write a checked submission."""

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
    MinutesOption,
    RunSeedOption,
    RunSetOption,
    RunsOption,
    ShardOption,
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
    minutes: MinutesOption = None,
    allow_broken: AllowBrokenOption = False,
    best_effort: Annotated[bool, typer.Option("--best-effort", help="Write a file in any case.")] = False,
    shard: ShardOption = "",
    overrides: RunSetOption = None,
    seed: RunSeedOption = None,
) -> None:
    """Write one file with the threshold and ensemble weights of the evaluation. The same command resumes."""
    from pipeline import paths
    from pipeline.competition import load_competition
    from pipeline.options import parse_data, parse_folds
    from pipeline.overrides import given_overrides, load_run_recipes
    from pipeline.shard import parse_shard

    chosen, runs_folders = load_competition(competition), paths.runs_folders(competition, recipe, runs)
    recipes = load_run_recipes(recipe, runs_folders, given_overrides(overrides, seed))
    numbers, part = parse_folds(folds, chosen.folds), parse_shard(shard)
    results, path = runs or paths.runs_folder(competition, recipe), out or paths.submission_csv(competition, recipe)
    from pipeline.evaluation.predict import predict_as_evaluated as predict

    options: dict[str, Any] = {"threshold": threshold, "minutes": minutes, "shard": part, "best_effort": best_effort}
    options["allow_broken"] = allow_broken
    if not predict(chosen, recipes, parse_data(data, competition), runs_folders, numbers, results, path, **options):
        sys.exit(3)
    print(paths.submission_part(path, part.number, part.count) if part else path)


if __name__ == "__main__":
    run(main, results=True)
