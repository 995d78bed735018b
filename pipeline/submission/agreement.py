"""Compare two submissions mask by mask, on runs: where they differ most, at least one of them is wrong."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.mask_csv import MaskCsvLookup, MaskRow
from pipeline.data.masks import Shape
from pipeline.data.rle import RleFormat, count_overlap, merge_runs, rle_format
from pipeline.data.row_format import submission_format
from pipeline.data.samples import RowKey
from pipeline.errors import UserError
from pipeline.parallel import map_parallel
from pipeline.submission.measure import rows_by_mask
from pipeline.submission.rows import parse_row

_Pair = tuple[Sequence[MaskRow], Sequence[MaskRow], int]
"""The rows of a mask in both files, and the number of pixels of the image."""


def compare_submissions(
    first: Path, second: Path, competition: Competition, shapes: Mapping[RowKey, Shape]
) -> pd.DataFrame:
    """Compute the Dice between the masks of two submissions; the objects of an image count as one mask.

    Args:
        first: a .csv or .csv.gz file.
        second: another one with the same ids in any order.
        competition: its format is used.
        shapes: (height, width) of each row, from `pipeline.submission.shapes.expected_shapes`.

    Returns:
        Columns id, class_index, dice, area and other_area, in pixels, the masks that differ most first. Two empty
        masks have a Dice of 1.

    Raises:
        UserError: a file cannot be read or is empty, an RLE is invalid, or the ids differ.
    """
    count = partial(_count, first, second, rle_format(competition))
    size = lambda pair: sum(len(row.rle) for rows in pair[:2] for row in rows)  # noqa: E731
    pairs = _pair_masks(first, second, competition, shapes)
    with closing(pairs), closing(map_parallel(count, pairs, size=size)) as results:
        progress = tqdm(results, desc="compare", total=len(shapes), unit=" masks", delay=2)
        values = [(*rows[0].key, *counts) for (rows, *_), counts in progress]
    if not values:
        raise UserError(first, "has no rows", "predict again")
    table = pd.DataFrame(values, columns=["id", "class_index", "overlap", "area", "other_area"])
    total = table.area + table.other_area
    table["dice"] = np.where(total > 0, 2 * table.overlap / total.clip(lower=1), 1.0)
    return table.drop(columns="overlap").sort_values(["dice", "id"], kind="stable", ignore_index=True)


def _pair_masks(
    first: Path, second: Path, competition: Competition, shapes: Mapping[RowKey, Shape]
) -> Generator[_Pair]:
    pixels = {key: height * width for key, (height, width) in shapes.items()}
    masks = rows_by_mask(first, competition, shapes)
    if competition.csv.rows == "instance":
        others = {rows[0].key: rows for rows in rows_by_mask(second, competition, shapes)}
        for rows in masks:
            key = rows[0].key
            if key not in others:
                what = f"has no row for {submission_format(competition).describe_key(*key)}"
                raise UserError(second, what, "give two submissions of the same images")
            yield rows, others.pop(key), pixels[key]
        if others:
            what = f"has no row for {submission_format(competition).describe_key(*next(iter(others)))}"
            raise UserError(first, what, "give two submissions of the same images")
        return
    with MaskCsvLookup(second, submission_format(competition)) as lookup:
        for rows in masks:
            yield rows, [lookup.take(rows[0].key)], pixels[rows[0].key]
        lookup.finish()


def _count(first: Path, second: Path, format: RleFormat, pair: _Pair) -> tuple[int, int, int]:
    """Count the pixels that both masks share, those of the first and those of the second one."""
    masks = [
        merge_runs([parse_row(row, path, pair[2], format) for row in rows])
        for path, rows in zip((first, second), pair[:2], strict=True)
    ]
    return count_overlap(masks[0], masks[1]), int(masks[0][:, 1].sum()), int(masks[1][:, 1].sum())
