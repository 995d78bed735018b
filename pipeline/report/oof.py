"""Write the out-of-fold evaluation and describe it."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd

from pipeline.competition import Competition
from pipeline.evaluation.observe import EXPECTED_LOSS, LOST_COLUMNS
from pipeline.evaluation.oof import evaluate_oof
from pipeline.metrics.edges import EDGE_DISTANCES
from pipeline.paths import analysis_json, evaluation_json, oof_csv, oof_masks_csv, worst_jpg
from pipeline.recipe import Recipe
from pipeline.report.compare import write_worst_images

LISTED_IMAGES = 20
LISTED_GROUPS = 5


def write_oof_report(
    competition: Competition,
    recipes: Sequence[Recipe],
    data: Path,
    folds_csv: Path,
    runs_folders: Sequence[Path],
    folds: Sequence[int],
    results: Path,
) -> str:
    """Evaluate, and write ``oof.csv``, ``oof_masks.csv.gz``, ``analysis.json``, ``worst.jpg`` and ``evaluation.json``.

    Arguments and errors are those of `pipeline.evaluation.oof.evaluate_oof`.

    Returns:
        The worst images, the scores with their intervals, and the files, as lines of text.
    """
    evaluation, table = evaluate_oof(competition, recipes, data, folds_csv, runs_folders, folds, results)
    write_worst_images(competition, recipes, data, runs_folders, evaluation, table, worst_jpg(results))
    # Last: where this file exists, make takes the evaluation as finished.
    evaluation.save(results)
    worst = table.drop(columns=[*LOST_COLUMNS, EXPECTED_LOSS]).nsmallest(LISTED_IMAGES, "score")
    files = [path(results) for path in (worst_jpg, oof_csv, oof_masks_csv, analysis_json, evaluation_json)]
    return "\n".join([
        f"the {len(worst)} worst of {len(table)} images:",
        worst.to_string(index=False, float_format="{:.5f}".format),
        "",
        f"Dice lost by wrong pixels, by distance to the true edge (threshold {evaluation.default_threshold:.3f}):",
        describe_lost(table),
        "",
        evaluation.describe(),
        *map(str, files),
    ])  # fmt: skip


def describe_lost(table: pd.DataFrame) -> str:
    """Describe where Dice is lost: one line of text for all images, one for each fold, and the worst groups.

    Args:
        table: one row per image, from `evaluate_oof`; columns group, fold and `LOST_COLUMNS` are used.
    """
    columns = list(LOST_COLUMNS)
    folds, groups = (table.groupby(name)[columns].mean() for name in ("fold", "group"))
    if len(groups) == len(table):  # the worst images are listed already
        groups = groups[:0]
    groups = groups.loc[groups.sum(axis=1).nlargest(LISTED_GROUPS).index]
    lost = pd.concat([table[columns].mean().to_frame("all").T, folds.add_prefix("fold ", axis=0), groups])
    between = [f"{low}-{high} px" for low, high in pairwise(EDGE_DISTANCES)]
    names = [f"≤ {EDGE_DISTANCES[0]} px", *between, f"> {EDGE_DISTANCES[-1]} px"]
    lost = lost.set_axis(names, axis=1).assign(all=lost.sum(axis=1))
    return lost.to_string(float_format="{:.5f}".format)
