"""Functions of a submission's rows."""

from pathlib import Path

import numpy as np

from pipeline.data.mask_csv import MaskRow
from pipeline.data.rle import RleFormat, parse_rle
from pipeline.errors import UserError
from pipeline.submission.compiled import count_common_pixels, parse_regular_rle


def parse_row(row: MaskRow, path: Path, pixels: int, format: RleFormat) -> np.ndarray:
    """Parse the runs of a row.

    Raises:
        UserError: the RLE is invalid.
    """
    runs = parse_regular_rle(row.rle, pixels, format)
    if runs is not None:
        return runs
    try:
        return parse_rle(row.rle, pixels, format)
    except ValueError as error:
        raise UserError(path, f"line {row.line} ({row.id}): {error}", "correct it, or predict again") from None


def count_pixels(
    path: Path, solution: Path, format: RleFormat, rows: tuple[MaskRow, MaskRow, int]
) -> tuple[int, int, int]:
    """Count the pixels that both masks share, those of the predicted mask, and those of the true one."""
    true_row, predicted_row, pixels = rows
    predicted = parse_row(predicted_row, path, pixels, format)
    true = parse_row(true_row, solution, pixels, format)
    return count_common_pixels(predicted, true), int(predicted[:, 1].sum()), int(true[:, 1].sum())
