"""Draw predictions next to the ground truth: image, mask over it, and errors."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.competition import Competition
from pipeline.data.draw import draw_errors, draw_overlay, tile_images, to_rgb
from pipeline.data.images import read_image
from pipeline.data.labels import LabelReader
from pipeline.data.mask_csv import MaskRow
from pipeline.data.rle import rle_format, rle_to_mask
from pipeline.data.samples import Sample, load_test_samples, load_training_samples
from pipeline.data.window_reader import WindowReader
from pipeline.errors import UserError
from pipeline.evaluation.result import Evaluation
from pipeline.files import atomic_write
from pipeline.inference.ensemble import EnsembleMember, choose_prediction_device, load_ensemble_member
from pipeline.inference.postprocess import Postprocess, binarize
from pipeline.inference.stream import mean_probability, predict_probabilities
from pipeline.inference.windows import predict_bands
from pipeline.paths import fold_run
from pipeline.recipe import Recipe
from pipeline.submission.rows import read_rows


def write_comparison(
    competition: Competition, data: Path, submission: Path, solution: Path, ids: Sequence[str], out: Path
) -> None:
    """Draw one row per test image: the image, the submitted masks over it, the pixels they missed and added.

    Args:
        competition: the competition of the data.
        data: the data folder.
        submission: a submission file.
        solution: the ground-truth masks in the same format.
        ids: test images, in the order of the rows.
        out: a .jpg or .png file.

    Raises:
        UserError: an id is missing in a file or has no image, a file cannot be read, or `out` is not an image file.
    """
    if out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise UserError(out, "is not a .jpg or .png file", "change its name")
    samples = {sample.id: sample for sample in load_test_samples(competition, data)}
    predicted, true = (read_rows(path, competition, ids) for path in (submission, solution))
    rows = []
    for id in ids:
        if id not in samples:
            raise UserError(data, f"has no test image {id}", f"give an id such as {min(samples)}")
        image = read_image(samples[id].image, competition.csv.size)
        masks, truth = (_paint(rows_of[id], image.shape[:2], competition) for rows_of in (predicted, true))
        rows.append((image, masks, truth))
    _write_rows(rows, out)


def write_worst_images(
    competition: Competition,
    recipes: Sequence[Recipe],
    data: Path,
    runs_folders: Sequence[Path],
    evaluation: Evaluation,
    table: pd.DataFrame,
    out: Path,
    count: int = 8,
) -> None:
    """Draw one row for each of the worst validation images, as `write_comparison` does.

    Args:
        competition: the competition of the data.
        recipes: the recipes that were evaluated.
        data: the data folder.
        runs_folders: the runs folder of each recipe.
        evaluation: its ensemble weights, thresholds and minimum areas are used.
        table: one row per image, from `evaluate_oof`; columns id, fold and score are used.
        out: a .jpg or .png file.
        count: number of images.
    """
    samples = {sample.id: sample for sample in load_training_samples(competition, data)}
    worst = table.nsmallest(count, "score")
    device, postprocess = choose_prediction_device(recipes), evaluation.postprocess(competition)
    labels = LabelReader(competition)
    read_truth = partial(labels.read_truth, instances=False)
    rows: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for fold in sorted(worst.fold.unique().tolist()):
        members = [
            load_ensemble_member([fold_run(folder, fold).weights], device, recipe)[0]
            for recipe, folder in zip(recipes, runs_folders, strict=True)
        ]
        validation = [samples[id] for id in worst.id[worst.fold == fold]]
        if competition.windows:
            windows, weights = WindowReader(competition, labels), evaluation.ensemble.used
            rows |= {each.id: _worst_window(members, each, windows, postprocess, weights) for each in validation}
            continue
        for item in predict_probabilities(members, validation, competition.csv.size, read_truth, images=labels.images):
            masks = binarize(item.mean(evaluation.ensemble.used), postprocess).cpu().numpy()
            assert item.truth is not None
            rows[item.sample.id] = read_image(item.sample.image, competition.csv.size), masks, item.truth.masks
    _write_rows([rows[id] for id in worst.id], out)


def _worst_window(
    members: Sequence[EnsembleMember],
    sample: Sample,
    windows: WindowReader,
    postprocess: Postprocess,
    ensemble_weights: Sequence[float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the part with the most wrong pixels, at most as large as a window: image, predicted and true masks."""
    width, most = windows.config.size[0], -1
    for band in predict_bands(members, sample, windows):
        masks = binarize(mean_probability(band.by_member, ensemble_weights), postprocess).numpy()
        truth = windows.read_masks(sample, band.window)
        columns = (masks != truth).sum(axis=(0, 1))
        side = min(width, len(columns))
        wrong = np.convolve(columns, np.ones(side), mode="valid")
        if wrong.max() > most:
            most, left = int(wrong.max()), int(wrong.argmax())
            part = band.window._replace(left=band.window.left + left, width=side)
            chosen = part, masks[..., left : left + side], truth[..., left : left + side]
    part, masks, truth = chosen
    return to_rgb(windows.read_image(sample, part)), masks, truth


def _write_rows(rows: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], out: Path) -> None:
    """Draw rows of image (h, w, 3) uint8, predicted and ground-truth masks (classes, h, w) bool into one file."""
    drawings = [[image, draw_overlay(image, masks), draw_errors(image, masks, truth)] for image, masks, truth in rows]
    with atomic_write(out) as temporary:
        Image.fromarray(tile_images(drawings)).save(temporary, quality=88)


def _paint(rows: Sequence[MaskRow], shape: Sequence[int], competition: Competition) -> np.ndarray:
    """Decode the rows of one image to masks (classes, h, w) bool."""
    height, width = shape
    masks = np.zeros((competition.num_classes, height, width), dtype=bool)
    for row in rows:
        masks[row.class_index] |= rle_to_mask(row.rle, (height, width), rle_format(competition))
    return masks
