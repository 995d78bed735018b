"""Score the out-of-fold predictions of a recipe or an ensemble of recipes."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import (
    CompetitionOption,
    DataOption,
    EnsembleOption,
    FoldsCsvOption,
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
    folds_csv: FoldsCsvOption = None,
    runs: RunsOption = None,
    results: Annotated[Path | None, typer.Option(help="Where results go; the runs folder by default.")] = None,
    overrides: RunSetOption = None,
    seed: RunSeedOption = None,
) -> None:
    """Write evaluation.json, analysis.json, oof.csv, oof_masks.csv.gz and worst.jpg (image, mask, missed, added)."""
    from pipeline import paths
    from pipeline.competition import load_competition
    from pipeline.options import parse_data, parse_folds
    from pipeline.overrides import given_overrides, load_run_recipes

    chosen, runs_folders = load_competition(competition), paths.runs_folders(competition, recipe, runs)
    recipes = load_run_recipes(recipe, runs_folders, given_overrides(overrides, seed))
    numbers = parse_folds(folds, chosen.folds)

    from pipeline.report.oof import write_oof_report

    folder = results or runs or paths.runs_folder(competition, recipe)
    table = folds_csv or paths.folds_csv(competition)
    print(write_oof_report(chosen, recipes, parse_data(data, competition), table, runs_folders, numbers, folder))


if __name__ == "__main__":
    run(main, results=True)
