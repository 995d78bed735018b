"""Measure the memory of a long prediction: many hard links of a few images, and a tiny network with random weights.

::

    .venv/bin/python -m benchmarks.predict_memory --data DIR --images 20000

DIR contains test images of Carvana; without it, rendered cars are used. Links and rows go to the system's temporary
folder, or to --scratch, which must be on the disk of the images.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer

from pipeline.competition import load_competition
from pipeline.data.mask_csv import write_mask_csv
from pipeline.data.row_format import submission_format
from pipeline.inference.spool import RowSpool
from pipeline.inference.submission import write_submission
from pipeline.models.checkpoint import WeightsMetadata, save_weights
from pipeline.models.zoo import build_model
from pipeline.recipe import Recipe
from pipeline.synthetic.dataset import write_synthetic_dataset
from scripts.common import run

WARM_UP = 500
"""Images after which the memory must stay the same."""
TOLERANCE = 1.10


def main(
    data: Annotated[Path | None, typer.Option(help="Data folder with test images; rendered cars if left out.")] = None,
    images: Annotated[int, typer.Option(min=1000, help="Number of links.")] = 20_000,
    width: Annotated[int, typer.Option(help="Width of the network's input.")] = 96,
    height: Annotated[int, typer.Option(help="Height of the network's input.")] = 64,
    scratch: Annotated[Path | None, typer.Option(help="Where temporary files go.")] = None,
) -> None:
    """Print the resident memory during a prediction, and whether it stays within 10 % after the first 500 images."""
    with tempfile.TemporaryDirectory(prefix="predict-memory-", dir=scratch) as name:
        folder = Path(name)
        if data is None:
            data = folder / "cars"
            write_synthetic_dataset(data, train_cars=1, test_cars=1, size=(960, 640))
        link_images(data / "test", folder / "data", images)
        weights = folder / "w.safetensors"
        recipe = save_tiny_weights(weights, (width, height))
        measured = measure_prediction(folder / "data", recipe, weights, folder / "s.csv.gz")
    start = next(memory for rows, memory in measured if rows >= WARM_UP)
    highest = max(memory for rows, memory in measured if rows >= WARM_UP)
    good = highest <= TOLERANCE * start
    print(f"cores {os.cpu_count()}, python {sys.version.split()[0]}, torch {torch.__version__}")
    print(f"{start:.0f} MiB after {WARM_UP} images, at most {highest:.0f} MiB later: {highest / start - 1:+.1%}")
    print("memory stays the same" if good else "memory GROWS")
    sys.exit(0 if good else 1)


def link_images(source: Path, data: Path, count: int) -> None:
    """Write a data folder with `count` hard links (copies on another disk) to the images, and a sample submission."""
    (data / "test").mkdir(parents=True)
    files = sorted(source.glob("*.jpg"))
    names = [f"{number:012x}_01.jpg" for number in range(count)]
    originals: dict[Path, Path] = {}
    for number, name in enumerate(names):
        file = files[number % len(files)]
        try:
            (data / "test" / name).hardlink_to(originals.get(file, file))
        except OSError:  # the images are on another disk, or belong to somebody else
            shutil.copyfile(file, data / "test" / name)
            originals[file] = data / "test" / name
    write_mask_csv(data / "sample_submission.csv", submission_format(CARVANA), ((name, 0, "1 1") for name in names))


def save_tiny_weights(path: Path, size: tuple[int, int]) -> Recipe:
    """Write random weights of a tiny network and return its recipe."""
    torch.manual_seed(0)
    values = {"name": "memory", "input": {"size": size}, "network": {"name": "unet", "width": 4, "depth": 2}}
    recipe = Recipe.model_validate(
        values | {"train": {"epochs": 1, "batch_size": 16, "learning_rate": 0.1}, "predict": {"flips": ["none"]}}
    )
    metadata = WeightsMetadata("carvana", "all", "", "0", "", "", torch.__version__)
    save_weights(path, build_model(recipe.network), recipe, metadata)
    return recipe


def measure_prediction(data: Path, recipe: Recipe, weights: Path, out: Path) -> list[tuple[int, float]]:
    """Predict, and print a line for every 500 images.

    Returns:
        (finished rows, resident memory in MiB); the last one after the file was written and checked.
    """
    measured: list[tuple[int, float]] = []
    started = time.monotonic()
    add = RowSpool.add

    def add_and_measure(spool: RowSpool, id: str, *rest: Any) -> None:
        add(spool, id, *rest)
        if len(spool.done) % WARM_UP == 0:
            measured.append((len(spool.done), resident_megabytes()))
            seconds = time.monotonic() - started
            print(f"{len(spool.done):7,} rows  {measured[-1][1]:7.1f} MiB  {seconds:6.0f} s", flush=True)

    # Random weights predict masks that the check refuses; the file is written in any case.
    with patch.object(RowSpool, "add", add_and_measure):
        write_submission(CARVANA, [recipe], data, [[weights]], out, best_effort=True)
    measured.append((measured[-1][0], resident_megabytes()))
    print(f"checked and written: {measured[-1][1]:.1f} MiB, {time.monotonic() - started:.0f} s", flush=True)
    return measured


def resident_megabytes() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


CARVANA = load_competition("carvana")

if __name__ == "__main__":
    run(main)
