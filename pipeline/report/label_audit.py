"""Write the label audit: a table of all training masks, the most suspicious first, and a contact sheet of those."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from pipeline.competition import Competition
from pipeline.data.draw import draw_errors, draw_overlay
from pipeline.data.images import read_image, resize_image
from pipeline.errors import UserError
from pipeline.evaluation.label_audit import rank_labels
from pipeline.evaluation.observe import EXPECTED_LOSS
from pipeline.files import atomic_write
from pipeline.paths import evaluation_json, oof_csv, oof_masks_csv, report_folder
from pipeline.report.masks import load_masks, read_true_masks
from pipeline.report.run_data import RunData, load_run_data

SHEET_IMAGES = 24
"""Images of the contact sheet."""
_SHEET_COLUMNS = 2
_WIDTH = 480
_CAPTION_HEIGHT = 26


def write_label_audit(competition: Competition, recipe: str, data: Path) -> list[Path]:
    """Write ``labels.csv`` and ``labels.jpg`` from the out-of-fold evaluation of a recipe.

    Each image of the sheet is shown with its ground-truth mask, and with the pixels that only this mask has (yellow)
    or only the prediction (cyan).

    Args:
        competition: describes the data.
        recipe: an evaluated recipe, or recipes joined by +.
        data: the data folder.

    Returns:
        The files.

    Raises:
        UserError: the recipe is not evaluated, or was evaluated by an older version.
    """
    run = load_run_data(competition, recipe, data)
    if EXPECTED_LOSS not in run.table:
        repeat = f"delete {evaluation_json(run.runs)} and run `make evaluate` again"
        raise UserError(oof_csv(run.runs), f"has no column {EXPECTED_LOSS}: an older version wrote it", repeat)
    ranked = rank_labels(run.table)
    folder = report_folder(f"{run.runs.name}-labels")
    csv, sheet = folder / "labels.csv", folder / "labels.jpg"
    with atomic_write(csv) as temporary:
        ranked.to_csv(temporary, index=False, float_format="%.6f")
    with atomic_write(sheet) as temporary:
        Image.fromarray(_tile(list(_draw(run, ranked.head(SHEET_IMAGES))))).save(temporary, quality=88)
    return [csv, sheet]


def _draw(run: RunData, worst: pd.DataFrame) -> Iterable[np.ndarray]:
    """Yield a drawing (h, w, 3) uint8 RGB of each image."""
    images = {id: run.samples[id].image for id in worst.id}
    columns = (worst[name] for name in ("id", "contradiction", "dice"))
    predictions = load_masks(run.competition, oof_masks_csv(run.runs), images)
    for number, (id, contradiction, dice) in enumerate(zip(*columns, strict=True), start=1):
        true, predicted = read_true_masks(run.competition, run.samples[id]), predictions[id]()
        height, width = true.shape[1:]
        image = read_image(images[id], (width, height))
        size = _WIDTH, round(_WIDTH * height / width)
        pair = [draw_overlay(image, true), draw_errors(image, predicted, true)]
        caption = f"{number}. {id}: contradiction {contradiction:.4f}, Dice {dice:.4f}"
        yield _add_caption(np.hstack([resize_image(drawing, size) for drawing in pair]), caption)


def _add_caption(drawing: np.ndarray, caption: str) -> np.ndarray:
    strip = np.full((_CAPTION_HEIGHT, drawing.shape[1], 3), 255, dtype=np.uint8)
    font, black = cv2.FONT_HERSHEY_SIMPLEX, (0, 0, 0)
    cv2.putText(strip, caption, (6, _CAPTION_HEIGHT - 8), font, 0.5, black, 1, cv2.LINE_AA)
    return np.vstack([strip, drawing])


def _tile(drawings: Sequence[np.ndarray]) -> np.ndarray:
    """Place drawings of one width in columns, on white."""
    height = max(map(len, drawings))
    padding = [np.full((height - len(drawing), *drawing.shape[1:]), 255, np.uint8) for drawing in drawings]
    cells = [np.vstack(pair) for pair in zip(drawings, padding, strict=True)]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % _SHEET_COLUMNS)
    rows = [cells[start : start + _SHEET_COLUMNS] for start in range(0, len(cells), _SHEET_COLUMNS)]
    return np.vstack([np.hstack(row) for row in rows])
