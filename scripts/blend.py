"""Blend finished submissions by a weighted majority vote."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import CompetitionOption, run


def main(
    files: Annotated[list[str], typer.Argument(help="Two or more .csv or .csv.gz files, rows in any order.")],
    competition: CompetitionOption = "carvana",
    out: Annotated[str, typer.Option(help="The .csv or .csv.gz file; submissions/blend.csv.gz if empty.")] = "",
    weights: Annotated[
        str, typer.Option(help="One number above 0 per file, such as '0.5 0.3 0.2'; equal weights if empty.")
    ] = "",
) -> None:
    """A pixel is in the blend if files with more than half of the total weight have it."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_numbers, parse_paths
    from pipeline.paths import SUBMISSIONS
    from pipeline.submission.blend import blend_submissions

    path = Path(out) if out else SUBMISSIONS / "blend.csv.gz"
    rows = blend_submissions(
        parse_paths(files), path, load_competition(competition), parse_numbers(weights, "--weights") or None
    )
    print(f"{path}: {rows:,} rows")


if __name__ == "__main__":
    run(main)
