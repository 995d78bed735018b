"""Render the embedded data: cars on a turntable, in the layout of the competition's download."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.common import run


def main(
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    train_cars: Annotated[int, typer.Option(help="Cars to train on, 16 views each.")] = 16,
    test_cars: Annotated[int, typer.Option(help="Cars to test on, 16 views each.")] = 4,
    width: Annotated[int, typer.Option(help="Of the images, in pixels.")] = 960,
    height: Annotated[int, typer.Option(help="Of the images, in pixels.")] = 640,
    seed: Annotated[int, typer.Option(help="The same seed gives the same cars.")] = 0,
) -> None:
    """Write train/, train_masks/, test/, the CSV files, and solution.csv."""
    from pipeline.synthetic.dataset import write_synthetic_dataset

    write_synthetic_dataset(out, train_cars=train_cars, test_cars=test_cars, size=(width, height), seed=seed)
    print(out)


if __name__ == "__main__":
    run(main)
