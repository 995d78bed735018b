"""Compare two evaluations of the same images: folds, flips, thresholds, recipes."""

from typing import Annotated

import typer

from scripts.common import run


def main(
    files: Annotated[
        list[str], typer.Argument(help="Scores before and after: oof.csv files, or what `scripts.score --out` wrote.")
    ],
) -> None:
    """Print the mean difference after − before with its paired 95 % confidence interval (bootstrap over groups)."""
    from pipeline.evaluation.statistics import describe_gain
    from pipeline.options import parse_paths

    print(describe_gain(parse_paths(files)))


if __name__ == "__main__":
    run(main)
