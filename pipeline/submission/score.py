"""The competition's metric for a finished submission, where the truth is at hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.mask_csv import MaskCsvLookup, MaskRow, read_mask_csv
from pipeline.data.rle import count_overlap, parse_rle
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.files import write_text


def dice_of_runs(first: np.ndarray, second: np.ndarray) -> float:
    """2·|X∩Y| / (|X|+|Y|) of two masks given as (n, 2) runs, from 0 to 1; two empty masks agree: 1."""
    total = int(first[:, 1].sum() + second[:, 1].sum())
    return 2 * count_overlap(first, second) / total if total else 1.0


def score_submission(
    path: Path, solution: Path, competition: Competition, shapes: Mapping[str, tuple[int, int]]
) -> pd.Series:
    """Dice of every image at native size, computed on the runs; the score on the leaderboard is the mean.

    Args:
        path: the submission; its rows may have any order.
        solution: the true masks, in a file of the same form.
        competition: the header of both files.
        shapes: (height, width) of the image of each id.

    Returns:
        float64, indexed by id in the order of the solution.

    Raises:
        UserError: the ids of the files differ or one comes twice, a file is unreadable or empty, or a mask is faulty.
    """
    scores: dict[str, float] = {}
    with MaskCsvLookup(path, competition.csv.columns) as submitted:
        for truth in tqdm(read_mask_csv(solution, competition.csv.columns), desc="score", unit=" images", delay=2):
            if truth.id not in shapes:
                raise UserError(solution, f"line {truth.line}: there is no image {truth.id!r}", "remove the row")
            if truth.id in scores:
                raise UserError(solution, f"line {truth.line} has {truth.id} again", "remove one of its rows")
            height, width = shapes[truth.id]
            pixels = height * width
            row = submitted.take(truth.id)
            scores[truth.id] = dice_of_runs(runs_of(row, path, pixels), runs_of(truth, solution, pixels))
        submitted.finish()
    if not scores:
        raise UserError(solution, "has no rows", "fetch it again")
    return pd.Series(scores, name="dice", dtype=float)


def save_scores(scores: pd.Series, samples: Sequence[Sample], path: Path) -> None:
    """Write scores as a CSV of id, group and dice, which `pipeline.evaluate.gain` compares with another.

    Args:
        scores: as `score` returns them.
        samples: the images, for their groups.
        path: the file.

    Raises:
        UserError: an image that was scored is missing.
    """
    groups = {sample.id: sample.group for sample in samples}
    if missing := [name for name in scores.index if name not in groups]:
        raise UserError(missing[0], "was scored, but its image is missing, and so its group", "fetch it")
    rows = "".join(f"{name},{groups[name]},{value:.6f}\n" for name, value in scores.items())
    write_text(path, "id,group,dice\n" + rows)


def runs_of(row: MaskRow, path: Path, pixels: int) -> np.ndarray:
    """The (n, 2) runs of a row of `path`; UserError if they are faulty."""
    try:
        return parse_rle(row.rle, pixels)
    except ValueError as error:
        raise UserError(path, f"line {row.line} ({row.id}): {error}", "correct it or predict again") from None
