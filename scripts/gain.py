"""What one choice adds to another: folds, flips, thresholds, recipes."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import run


def main(
    first: Annotated[Path, typer.Argument(help="Scores without it: an oof.csv, or what `scripts.score --out` saved.")],
    second: Annotated[Path, typer.Argument(help="Scores of the same images with it.")],
) -> None:
    """Print the mean difference second − first and its paired interval over groups."""
    from pipeline.evaluation.statistics import paired_gain

    result = paired_gain(first, second)
    low, high = result.interval
    verdict = "real" if result.real else "could be chance"
    print(
        f"{result.mean:+.6f} [{low:+.6f}, {high:+.6f}], 95 %, paired over {result.groups} groups and "
        f"{result.images} images: {verdict}"
    )


if __name__ == "__main__":
    run(main)
