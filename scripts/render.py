"""Render the embedded data set: cars on a turntable, in the layout of the competition's download."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import run


def main(
    out: Annotated[Path, typer.Option(help="The folder to create.")],
    train_cars: Annotated[int, typer.Option(help="Number of training cars, 16 views each.")] = 16,
    test_cars: Annotated[int, typer.Option(help="Number of test cars, 16 views each.")] = 4,
    width: Annotated[int, typer.Option(help="Width of the images in pixels.")] = 960,
    height: Annotated[int, typer.Option(help="Height of the images in pixels.")] = 640,
    seed: Annotated[int, typer.Option(help="Seed of the cars; equal seeds give equal files.")] = 0,
) -> None:
    """Write train/, train_masks/, test/, the CSV files, and solution.csv."""
    from pipeline.synthetic.dataset import write_synthetic_dataset

    write_synthetic_dataset(out, train_cars=train_cars, test_cars=test_cars, size=(width, height), seed=seed)
    print(out)


if __name__ == "__main__":
    run(main)
