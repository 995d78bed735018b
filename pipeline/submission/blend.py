"""Blend finished submissions by a weighted majority vote, computed on runs without decoding a mask.

Averaging probabilities is better where the models are available (`pipeline/inference/ensemble.py`). This is for files
whose models are lost or belong to somebody else.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.mask_csv import MaskCsvLookup, MaskRow, read_mask_csv, write_mask_csv
from pipeline.data.rle import RleFormat, rle_format
from pipeline.data.row_format import RowFormat, submission_format
from pipeline.data.samples import RowKey
from pipeline.errors import UserError
from pipeline.parallel import map_parallel
from pipeline.submission.compiled import merge_by_majority, write_rle
from pipeline.submission.rows import parse_row

# The files do not contain the sizes of their images; `check_submission` checks against the size.
_ANY_SIZE = 2**48


def majority_vote(masks: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
    """Find the pixels that voters with more than half of the total weight have; exactly half is background.

    Args:
        masks: the runs of each voter's mask of one image, (n, 2) int64, sorted and disjoint.
        weights: integers above 0, one per voter, so that a tie is exact.

    Returns:
        (n, 2) int64, the runs of the majority; touching runs are merged.
    """
    runs = np.concatenate(masks)
    runs[:, 1] += runs[:, 0]
    merged = np.empty(runs.size, dtype=np.int64)
    stops = 2 * np.cumsum([len(mask) for mask in masks])
    count = merge_by_majority(runs.ravel(), stops, np.array(weights, dtype=np.int64), merged)
    majority: np.ndarray = merged[:count].reshape(-1, 2)
    majority[:, 1] -= majority[:, 0]
    return majority


def blend_submissions(
    paths: Sequence[Path], out: Path, competition: Competition, weights: Sequence[float] | None = None
) -> int:
    """Write the weighted majority of several submissions; memory does not grow with their masks.

    Args:
        paths: two or more .csv or .csv.gz files with the same ids in any order.
        out: the file to write, in the order of the first file.
        competition: its format of CSV files is used.
        weights: a number above 0 per file; equal weights if None.

    Returns:
        The number of rows.

    Raises:
        UserError: too few files, wrong weights, ids that differ, a file that cannot be read, an invalid mask, `out` is
            one of the files, or rows are instances, which have no common pixels to vote on.
    """
    if competition.csv.rows == "instance":
        raise UserError("blend", "cannot blend rows that are objects", "average the models with RECIPE=one+other")
    if len(paths) < 2:
        raise UserError("FILES", f"names {len(paths)} files", 'give two or more: FILES="a.csv.gz b.csv.gz"')
    if out.resolve() in [path.resolve() for path in paths]:
        raise UserError(out, "is one of the files to blend", "write the blend to another name")
    integers = integer_weights([1] * len(paths) if weights is None else weights, len(paths))
    return write_mask_csv(out, submission_format(competition), _vote_rows(paths, competition, integers, out.parent))


def integer_weights(weights: Sequence[float], files: int) -> list[int]:
    """Convert decimal weights to integers in the same ratio: 0.1, 0.2, 0.3 become 1, 2, 3.

    Raises:
        UserError: there are not as many weights as files, or one is not above 0, not finite, or too small.
    """
    if len(weights) != files:
        raise UserError("WEIGHTS", f"has {len(weights)} numbers for {files} files", "give one number per file")
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise UserError("WEIGHTS", f"has {weight}, which is not above 0", "give positive numbers")
    # By their decimal digits: in binary, 0.1 + 0.2 is more than 0.3, which would break a tie.
    fractions = [Fraction(str(float(weight))) for weight in weights]
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    integers = [int(fraction * scale) for fraction in fractions]
    integers = [integer // math.gcd(*integers) for integer in integers]
    if sum(integers) >= 2**62:
        raise UserError("WEIGHTS", f"differ too much: {', '.join(map(str, weights))}", "give numbers with fewer digits")
    return integers


def _vote_rows(
    paths: Sequence[Path], competition: Competition, weights: Sequence[int], folder: Path
) -> Iterator[tuple[str, int, str]]:
    format = submission_format(competition)
    with ExitStack() as stack:
        # Temporary files go next to the result: the system's folder is often in memory.
        others = [stack.enter_context(MaskCsvLookup(path, format, folder)) for path in paths[1:]]
        vote = partial(_vote_row, paths, weights, rle_format(competition))
        groups = _equal_rows(paths[0], others, format)
        size = lambda rows: sum(len(row.rle) for row in rows)  # noqa: E731
        results = stack.enter_context(closing(map_parallel(vote, groups, size)))
        for (row, *_), rle in tqdm(results, desc="blend", unit=" rows", delay=2):
            yield row.id, row.class_index, rle
        for other in others:
            other.finish()


def _equal_rows(path: Path, others: Sequence[MaskCsvLookup], format: RowFormat) -> Iterator[list[MaskRow]]:
    """Yield the rows of all files with the same key, in the order of the first file."""
    seen: set[RowKey] = set()
    for row in read_mask_csv(path, format):
        if row.key in seen:
            what = f"line {row.line} repeats {format.describe_key(*row.key)}"
            raise UserError(path, what, "remove one of its rows")
        seen.add(row.key)
        yield [row, *(other.take(row.key) for other in others)]


def _vote_row(paths: Sequence[Path], weights: Sequence[int], format: RleFormat, rows: Sequence[MaskRow]) -> str:
    masks = [parse_row(row, path, _ANY_SIZE, format) for row, path in zip(rows, paths, strict=True)]
    return write_rle(majority_vote(masks, weights), format)
