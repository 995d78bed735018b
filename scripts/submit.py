"""Submit a file to Kaggle and wait for its score."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionName, DataFolder, run


def main(
    file: Annotated[Path, typer.Argument(help="A .csv or .csv.gz file.")],
    competition: CompetitionName,
    data: DataFolder,
    message: Annotated[str, typer.Option(help="Shown in Kaggle's list; the recipe's name if not given.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Submit the same file once more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do all but the upload.")] = False,
) -> None:
    """Check it, upload it once, look it up, wait, and write the line into submissions/ledger.csv."""
    from pipeline.competition import load_competition
    from pipeline.kaggle.upload import submit_file
    from pipeline.paths import LEDGER

    entry = submit_file(load_competition(competition), data, file, message, force=force, dry_run=dry_run)
    if dry_run and entry.status == "UPLOADING":
        print(
            f"would upload {file} ({file.stat().st_size / 1e6:.1f} MB) as “{entry.description}”; nothing was uploaded"
        )
    elif entry.status == "COMPLETE":
        print(f"{entry.reference}: public {entry.public or '?'}, private {entry.private or '?'}")
    else:
        print(f"{entry.reference}: not scored yet; run make scores later")
    for name in ("sha256", "commit", "recipe", "folds", "oof_dice", "threshold"):
        print(f"  {name:9} {getattr(entry, name) or '–'}")
    if not dry_run:
        print(LEDGER)


if __name__ == "__main__":
    run(main)
