"""The practice nuclei in the layout of the Data Science Bowl: a folder per image, a mask file per nucleus.

The practice data has one merged mask per image; touching nuclei are one object here.
"""

import csv
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import label

from pipeline.data.masks import read_mask
from pipeline.data.rle import RleFormat, mask_to_rle, parse_rle, runs_to_mask
from tests.competitions.shapes import write_rows

COLUMN = RleFormat("column")
HEADER = ("ImageId", "EncodedPixels")


def write_nuclei_as_instances(source: Path, root: Path) -> None:
    """Write ``stage1_train/``, ``stage1_test/``, the CSV files and ``solution.csv``.

    Args:
        source: the practice data.
        root: the data folder to fill.
    """
    labels, sample, solution = [], [], []
    for image in sorted((source / "train" / "images").iterdir()):
        _copy(image, root / "stage1_train")
        folder = root / "stage1_train" / image.stem / "masks"
        folder.mkdir()
        for number, mask in enumerate(_objects(read_mask(source / "train" / "masks" / image.name, 255))):
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{number:04d}.png")
            labels.append((image.stem, mask_to_rle(mask, COLUMN)))
    with (source / "solution.csv").open(newline="") as file:
        truth = {row["id"]: row["rle_mask"] for row in csv.DictReader(file)}
    for image in sorted((source / "test" / "images").iterdir()):
        _copy(image, root / "stage1_test")
        width, height = Image.open(image).size
        mask = runs_to_mask(parse_rle(truth[image.stem], width * height, COLUMN), (height, width), "column")
        solution += [(image.stem, mask_to_rle(each, COLUMN)) for each in _objects(mask)]
        sample.append((image.stem, ""))
    write_rows(root / "stage1_train_labels.csv", HEADER, labels)
    write_rows(root / "stage1_sample_submission.csv", HEADER, sample)
    write_rows(root / "solution.csv", HEADER, solution)


def _copy(image: Path, root: Path) -> None:
    folder = root / image.stem / "images"
    folder.mkdir(parents=True)
    shutil.copy(image, folder / image.name)


def _objects(mask: np.ndarray) -> list[np.ndarray]:
    labels, count = label(mask, connectivity=2, return_num=True)
    return [labels == number for number in range(1, count + 1)]
