"""Submit a file to Kaggle and wait for its score."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, DataOption, EnsembleOption, run


def main(
    competition: CompetitionOption,
    recipe: EnsembleOption,
    data: DataOption = "",
    file: Annotated[
        str, typer.Option(help="A .csv or .csv.gz file; submissions/<competition>-<recipe>.csv.gz if empty.")
    ] = "",
    message: Annotated[
        str, typer.Option(help="Shown in Kaggle's list of submissions; the recipe's name if empty.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Submit a file again that was submitted before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything but the upload.")] = False,
) -> None:
    """Check the file, upload it once, wait for its score and write a row into submissions/ledger.csv."""
    from pipeline.competition import load_competition
    from pipeline.kaggle.scores import describe_entry
    from pipeline.kaggle.upload import submit_file
    from pipeline.options import parse_data
    from pipeline.paths import submission_csv

    path = Path(file) if file else submission_csv(competition, recipe)
    chosen, folder = load_competition(competition), parse_data(data, competition)
    entry = submit_file(chosen, folder, path, message, force=force, dry_run=dry_run)
    print(describe_entry(entry, path, dry_run))


if __name__ == "__main__":
    run(main, results=True)
