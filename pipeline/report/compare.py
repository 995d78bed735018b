"""Predictions beside the truth: photo, mask over it, and where it is wrong."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipeline import runs
from pipeline.competition import Competition, test_samples, training_samples
from pipeline.data import draw, rle, rows
from pipeline.data.images import read_image
from pipeline.errors import UserError
from pipeline.evaluation import Evaluation
from pipeline.files import atomic
from pipeline.predict.ensemble import device_for, load_member
from pipeline.predict.stream import probabilities
from pipeline.recipe import Recipe


def write_comparison(
    competition: Competition, data: Path, submission: Path, solution: Path, ids: Sequence[str], out: Path
) -> None:
    """Write one picture with a row for each id: the photo, the predicted mask over it, what was missed and added.

    Args:
        competition: what the data is.
        data: the folder that holds the competition's files.
        submission: a submission file.
        solution: the true masks, in the same form.
        ids: of test images, in the order of the rows.
        out: a .jpg or .png file.

    Raises:
        UserError: an id is in none of the files, or a file cannot be read.
    """
    samples = {sample.id: sample for sample in test_samples(competition, data)}
    predicted, true = (masks_of(path, competition, ids) for path in (submission, solution))
    compared = []
    for name in ids:
        if name not in samples:
            raise UserError(f"{data}: has no test image {name}; check the id")
        image = read_image(samples[name].image)
        shape = (image.shape[0], image.shape[1])
        mask, truth = (rle.decode(texts[name], shape, competition.csv.order) for texts in (predicted, true))
        compared.append((image, mask, truth))
    _write(compared, out)


def write_worst(
    competition: Competition,
    recipes: Sequence[Recipe],
    data: Path,
    folders: Sequence[Path],
    evaluation: Evaluation,
    table: pd.DataFrame,
    out: Path,
    count: int = 8,
) -> None:
    """Write one picture with a row for each of the worst held-out images, as `write_comparison` does.

    Args:
        competition: what the data is.
        recipes: that were evaluated.
        data: the folder that holds the competition's files.
        folders: of each recipe's runs.
        evaluation: gives weights and threshold.
        table: of all images, as `evaluate` returns it; columns id, fold and dice are used.
        out: a .jpg or .png file.
        count: how many images.
    """
    samples = {sample.id: sample for sample in training_samples(competition, data)}
    worst = table.nsmallest(count, "dice")
    device = device_for(recipes)
    compared = {}
    for fold, names in worst.groupby("fold").id:
        members = [
            load_member([runs.of_fold(folder, int(fold)).weights], device, recipe)[0]
            for recipe, folder in zip(recipes, folders, strict=True)
        ]
        for item in probabilities(members, [samples[name] for name in names], truth=competition):
            mask = (item.mean(evaluation.weights) >= evaluation.threshold).cpu().numpy()
            assert item.truth is not None
            compared[item.sample.id] = read_image(item.sample.image), mask, item.truth
    _write([compared[name] for name in worst.id], out)


def _write(compared: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], out: Path) -> None:
    """Write rows of (image (h, w, 3), predicted mask (h, w), true mask (h, w)) as one picture."""
    pictures = [[image, draw.overlay(image, mask), draw.errors(image, mask, truth)] for image, mask, truth in compared]
    with atomic(out) as temporary:
        Image.fromarray(draw.grid(pictures)).save(temporary, quality=88)


def masks_of(path: Path, competition: Competition, ids: Sequence[str]) -> dict[str, str]:
    """The texts of some masks in a CSV file, by id.

    Raises:
        UserError: the file cannot be read, or an id is not in it.
    """
    wanted = set(ids)
    found = {row.id: row.rle for row in rows.read(path, competition.csv.columns) if row.id in wanted}
    if missing := wanted - found.keys():
        raise UserError(f"{path}: has no row for {min(missing)}; check the id")
    return found
