"""Blend finished submissions by a weighted majority vote, computed on runs without decoding a mask.

Averaging probabilities is better where the models are available (`pipeline/inference/ensemble.py`). This is for files
whose models are lost or belong to somebody else.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.mask_csv import MaskCsvLookup, read_mask_csv, write_mask_csv
from pipeline.data.rle import rle_format, runs_to_rle
from pipeline.data.row_format import submission_format
from pipeline.data.samples import RowKey
from pipeline.errors import UserError
from pipeline.submission.score import parse_row

# The files do not contain the sizes of their images; `check_submission` checks against the size.
_ANY_SIZE = 2**62


def majority_vote(masks: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
    """Find the pixels that voters with more than half of the total weight have; exactly half is background.

    Args:
        masks: the runs of each voter's mask of one image, (n, 2) int64, sorted and disjoint.
        weights: integers above 0, one per voter, so that a tie is exact.

    Returns:
        (n, 2) int64, the runs of the majority; touching runs are merged.
    """
    # From pixel to pixel, each bound of a run adds or subtracts its voter's weight.
    bounds = [np.stack([runs[:, 0], runs.sum(axis=1)], axis=1).ravel() for runs in masks]
    changes = [np.tile([weight, -weight], len(runs)) for runs, weight in zip(masks, weights, strict=True)]
    positions = np.concatenate(bounds)
    # A stable sort merges sorted parts.
    order = np.argsort(positions, kind="stable")
    positions = positions[order]
    weight = np.cumsum(np.concatenate(changes)[order])
    # Several bounds can fall on one pixel; only the sum after the last one counts.
    last = np.append(positions[1:] != positions[:-1], True)[: len(positions)]
    positions, inside = positions[last], 2 * weight[last] > sum(weights)
    edges = positions[inside != np.append(False, inside)[:-1]].reshape(-1, 2)
    return np.stack([edges[:, 0], edges[:, 1] - edges[:, 0]], axis=1)


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
    format, rle = submission_format(competition), rle_format(competition)
    seen: set[RowKey] = set()
    with ExitStack() as stack:
        # Temporary files go next to the result: the system's folder is often in memory.
        others = [stack.enter_context(MaskCsvLookup(path, format, folder)) for path in paths[1:]]
        for row in tqdm(read_mask_csv(paths[0], format), desc="blend", unit=" rows", delay=2):
            if row.key in seen:
                what = f"line {row.line} repeats {format.describe_key(*row.key)}"
                raise UserError(paths[0], what, "remove one of its rows")
            seen.add(row.key)
            rows = [row, *(other.take(row.key) for other in others)]
            masks = [parse_row(each, path, _ANY_SIZE, rle) for each, path in zip(rows, paths, strict=True)]
            yield row.id, row.class_index, runs_to_rle(majority_vote(masks, weights), rle)
        for other in others:
            other.finish()
