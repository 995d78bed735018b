"""Functions of a submission's rows."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.competition import Competition
from pipeline.data.mask_csv import MaskRow, read_mask_csv
from pipeline.data.masks import Shape
from pipeline.data.rle import RleFormat, parse_rle, rle_format
from pipeline.data.row_format import submission_format
from pipeline.data.samples import RowKey
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


def read_rows(path: Path, competition: Competition, ids: Sequence[str]) -> dict[str, list[MaskRow]]:
    """Read the rows of some ids from a CSV file.

    Raises:
        UserError: the file cannot be read or has no row for an id.
    """
    found: dict[str, list[MaskRow]] = {id: [] for id in ids}
    example = ""
    for row in read_mask_csv(path, submission_format(competition)):
        example = example or row.id
        if row.id in found:
            found[row.id].append(row)
    if missing := [id for id, rows in found.items() if not rows]:
        raise UserError(path, f"has no row for {missing[0]}", f"give an id such as {example}")
    return found


def require_known(row: MaskRow, path: Path, keys: Container[RowKey]) -> None:
    """Raise a UserError if a row belongs to none of the images and classes that a submission must have."""
    if row.key not in keys:
        raise UserError(path, f"line {row.line} has the id {row.id!r}, which is no image", "remove the row")


def group_runs(path: Path, competition: Competition, shapes: Mapping[RowKey, Shape]) -> dict[RowKey, list[np.ndarray]]:
    """Read the runs of all rows of each (id, class) of a CSV file.

    Args:
        path: the file.
        competition: its format is used.
        shapes: (height, width) of each row.

    Raises:
        UserError: the file cannot be read, or a row is of no image or is not valid RLE.
    """
    rle = rle_format(competition)
    groups: dict[RowKey, list[np.ndarray]] = {}
    for row in read_mask_csv(path, submission_format(competition)):
        require_known(row, path, shapes)
        height, width = shapes[row.key]
        groups.setdefault(row.key, []).append(parse_row(row, path, height * width, rle))
    return groups
