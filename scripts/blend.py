"""Blend finished submissions by a weighted majority."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import run


def main(
    files: Annotated[list[Path], typer.Argument(help="Two or more .csv or .csv.gz files; their rows in any order.")],
    out: Annotated[Path, typer.Option(help="The .csv or .csv.gz file to write.")],
    weights: Annotated[
        str, typer.Option(help="One number above 0 for each file, such as '0.5 0.3 0.2'; all alike if not given.")
    ] = "",
) -> None:
    """A pixel is in the blend if more than half of the weight has it."""
    from pipeline.errors import UserError
    from pipeline.submission.blend import blend_submissions

    try:
        numbers = [float(word) for word in weights.replace(",", " ").split()]
    except ValueError:
        raise UserError(f"--weights '{weights}'", "expected numbers separated by spaces") from None
    print(f"{out}: {blend_submissions(files, out, numbers or None):,} rows")


if __name__ == "__main__":
    run(main)
