"""Measure the masks of a submission: one row of numbers per image and class, in constant memory."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.mask_csv import MaskRow, read_mask_csv
from pipeline.data.masks import Shape
from pipeline.data.regions import Regions, measure_regions
from pipeline.data.rle import RleFormat, merge_runs, rle_format
from pipeline.data.row_format import submission_format
from pipeline.data.samples import RowKey
from pipeline.errors import UserError
from pipeline.parallel import map_parallel
from pipeline.submission.rows import parse_row, require_known

COLUMNS = (
    *("id", "class_index", "height", "width", "area", "pieces", "largest", "holes", "hole_area"),
    *("top", "bottom", "left", "right", "x0", "y0", "x1", "y1"),
)


def measure_submission(path: Path, competition: Competition, shapes: Mapping[RowKey, Shape]) -> pd.DataFrame:
    """Measure all masks of a submission; the objects of an image count as one mask.

    Args:
        path: a .csv or .csv.gz file; its rows may have any order.
        competition: its format is used.
        shapes: (height, width) of each row, from `pipeline.submission.shapes.expected_shapes`.

    Returns:
        One row per id and class with `COLUMNS`: size of the image, and the numbers of
        `pipeline.data.regions.Regions` in pixels.

    Raises:
        UserError: the file cannot be read or is empty, an id is unknown or repeated, or an RLE is invalid.
    """
    measure = partial(_measure, path, rle_format(competition))
    masks = ((shapes[rows[0].key], rows) for rows in rows_by_mask(path, competition, shapes))
    size = lambda item: sum(len(row.rle) for row in item[1])  # noqa: E731
    with closing(map_parallel(measure, masks, size=size)) as results:
        progress = tqdm(results, desc="measure", total=len(shapes), unit=" masks", delay=2)
        values = [
            (*rows[0].key, *shape, *regions[:5], *regions.borders, *regions.box) for (shape, rows), regions in progress
        ]
    if not values:
        raise UserError(path, "has no rows", "predict again")
    return pd.DataFrame(values, columns=list(COLUMNS))


def rows_by_mask(path: Path, competition: Competition, shapes: Mapping[RowKey, Shape]) -> Iterator[Sequence[MaskRow]]:
    """Yield the rows of each mask: one, or those of all objects of an image and class.

    Rows of objects may lie apart, so all of them are kept in memory.

    Raises:
        UserError: the file cannot be read, or an id is unknown, or repeated although rows are not objects.
    """
    rows = _known_rows(path, competition, shapes)
    if competition.csv.rows == "instance":
        found: dict[RowKey, list[MaskRow]] = {}
        for row in rows:
            found.setdefault(row.key, []).append(row)
        yield from found.values()
        return
    seen: set[RowKey] = set()
    for row in rows:
        if row.key in seen:
            what = f"line {row.line} repeats {submission_format(competition).describe_key(*row.key)}"
            raise UserError(path, what, "remove one of its rows")
        seen.add(row.key)
        yield [row]


def _known_rows(path: Path, competition: Competition, shapes: Mapping[RowKey, Shape]) -> Iterator[MaskRow]:
    for row in read_mask_csv(path, submission_format(competition)):
        require_known(row, path, shapes)
        yield row


def _measure(path: Path, format: RleFormat, item: tuple[Shape, Sequence[MaskRow]]) -> Regions:
    (height, width), rows = item
    runs = [parse_row(row, path, height * width, format) for row in rows]
    return measure_regions(merge_runs(runs), (height, width), format.order)
