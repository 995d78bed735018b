"""A weighted majority of finished submissions, computed on their runs: no mask is ever drawn.

Blending probabilities is better where they are at hand (`pipeline/predict/ensemble.py`); this is for files whose
networks are gone, or were never ours.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.data.mask_csv import MaskCsvLookup, read_header, read_mask_csv, write_mask_csv
from pipeline.data.rle import runs_to_rle
from pipeline.errors import UserError
from pipeline.submission.score import runs_of

# The files do not say how large their images are; the check that follows knows.
_ANY_SIZE = 2**62


def majority_vote(masks: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
    """The pixels on which more than half of the weight agrees; exactly half is background.

    Args:
        masks: of each voter the sorted, disjoint runs of one image, (n, 2) int64.
        weights: whole numbers above 0, one for each voter, so that a tie is a tie and no matter of rounding.

    Returns:
        (n, 2) int64, the runs of the majority; runs that would touch are one.
    """
    # Going along the image, each bound of a run adds or takes away its voter's weight.
    bounds = [np.stack([runs[:, 0], runs.sum(axis=1)], axis=1).ravel() for runs in masks]
    changes = [np.tile([weight, -weight], len(runs)) for runs, weight in zip(masks, weights, strict=True)]
    positions = np.concatenate(bounds)
    # A stable sort merges what is sorted in parts already.
    order = np.argsort(positions, kind="stable")
    positions = positions[order]
    weight = np.cumsum(np.concatenate(changes)[order])
    # Only after the last of several changes at one pixel does the sum count.
    last = np.append(positions[1:] != positions[:-1], True)[: len(positions)]
    positions, inside = positions[last], 2 * weight[last] > sum(weights)
    edges = positions[inside != np.append(False, inside)[:-1]].reshape(-1, 2)
    return np.stack([edges[:, 0], edges[:, 1] - edges[:, 0]], axis=1)


def blend_submissions(paths: Sequence[Path], out: Path, weights: Sequence[float] | None = None) -> int:
    """Write the weighted majority of several submissions; memory does not grow with their masks.

    Args:
        paths: at least two .csv or .csv.gz files with the same header and the same ids, in any order.
        out: the file to write; it has the order of the first of `paths`.
        weights: one above 0 for each file, as decimal numbers; None weighs all alike.

    Returns:
        The number of rows.

    Raises:
        UserError: too few files, weights that do not fit, headers or ids that differ, a file that cannot be read, a
            faulty mask, or `out` is one of the files.
    """
    if len(paths) < 2:
        raise UserError("", f"{len(paths)} file to blend", "give two or more")
    if out.resolve() in [path.resolve() for path in paths]:
        raise UserError(out, "is one of the files to blend", "write the blend to another name")
    whole = whole_weights([1] * len(paths) if weights is None else weights, len(paths))
    columns = read_header(paths[0])
    return write_mask_csv(out, columns, _rows(paths, columns, whole, out.parent))


def whole_weights(weights: Sequence[float], count: int) -> list[int]:
    """Whole numbers in the ratio of decimal ones: 0.1, 0.2, 0.3 become 1, 2, 3.

    Raises:
        UserError: there are not `count` of them, or one is not above 0, not finite, or tiny beside another.
    """
    if len(weights) != count:
        raise UserError("", f"{len(weights)} weights for {count} files", "give one weight for each file")
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise UserError(
                "", f"the weight {weight} is not above 0", "give each file a positive weight or leave it out"
            )
    # By their decimal digits: in binary, 0.1 + 0.2 is more than 0.3 and would break the tie.
    fractions = [Fraction(str(float(weight))) for weight in weights]
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    whole = [int(fraction * scale) for fraction in fractions]
    whole = [weight // math.gcd(*whole) for weight in whole]
    if sum(whole) >= 2**62:
        raise UserError("", f"the weights {', '.join(map(str, weights))} are too far apart", "give them fewer digits")
    return whole


def _rows(
    paths: Sequence[Path], columns: tuple[str, str], weights: Sequence[int], folder: Path
) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    with ExitStack() as stack:
        # Beside the result, and not in the system's folder, which is often memory.
        others = [stack.enter_context(MaskCsvLookup(path, columns, spool=folder)) for path in paths[1:]]
        for row in tqdm(read_mask_csv(paths[0], columns), desc="blend", unit=" rows", delay=2):
            if row.id in seen:
                raise UserError(paths[0], f"line {row.line} has {row.id} again", "remove one of its rows")
            seen.add(row.id)
            rows = [row, *(other.take(row.id) for other in others)]
            masks = [runs_of(each, path, _ANY_SIZE) for each, path in zip(rows, paths, strict=True)]
            yield row.id, runs_to_rle(majority_vote(masks, weights))
        for other in others:
            other.finish()
