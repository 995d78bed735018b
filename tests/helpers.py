"""Helpers of several tests: a tiny competition, its images and masks, and changed recipes."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.competition import Competition
from pipeline.data.row_format import RowFormat
from pipeline.recipe import Recipe

SIZE = (94, 62)
"""(width, height) of the tiny competition's images: not divisible by 4, so padding and cropping are tested."""

TINY: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny",
    "folds": 2,
    "images": {"train": "train", "test": "test", "suffixes": [".jpg"], "id": "{name}", "size": list(SIZE)},
    "masks": {"train": "train_masks", "suffixes": ["_mask.gif"], "positive": 1, "area": [0.01, 0.9]},
    "groups": {"pattern": "^([a-z]+)_[0-9]{2}$", "size": 3},
    "csv": {
        "columns": {"img": "{id}", "rle_mask": "{rle}"},
        "order": "row",
        "train": "train_masks.csv",
        "sample": "sample_submission.csv",
        "solution": "solution.csv",
    },
}
"""The layout of Carvana's download with four training groups and one test group of three images each."""

TINY_FORMAT = RowFormat(TINY["csv"]["columns"])
"""The columns of its CSV files."""


def changed(config: Any, **changes: Any) -> Any:
    """Return a validated copy of a Config with other values: ``changed(recipe, train__epochs=3, seed=1)``."""
    values = config.model_dump()
    for key, value in changes.items():
        *tables, last = key.split("__")
        target = values
        for table in tables:
            target = target[table]
        target[last] = value
    return type(config).model_validate(values)


def changed_recipe(recipe: Recipe, **changes: Any) -> Recipe:
    """Typed `changed`."""
    result: Recipe = changed(recipe, **changes)
    return result


def changed_competition(competition: Competition, **changes: Any) -> Competition:
    """Typed `changed`."""
    result: Competition = changed(competition, **changes)
    return result


def draw_ellipse(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Draw a red ellipse on a blue background: image (h, w, 3) uint8 and mask (h, w) bool."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    center, radius = rng.uniform(0.35, 0.65, 2) * (width, height), rng.uniform(0.18, 0.3, 2) * (width, height)
    mask = ((x - center[0]) / radius[0]) ** 2 + ((y - center[1]) / radius[1]) ** 2 < 1
    image = np.where(mask[..., None], (200, 90, 80), (90, 110, 190)) + rng.normal(0, 8, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), mask


def save_mask(mask: np.ndarray, path: Path) -> None:
    """Write a palette GIF with values 0 and 1, as Carvana's masks are."""
    pil_image = Image.fromarray(mask.astype(np.uint8), mode="P")
    pil_image.putpalette([0, 0, 0, 255, 255, 255])
    pil_image.save(path)


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write (id, RLE) rows with the tiny competition's header."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("img", "rle_mask"), *rows])
