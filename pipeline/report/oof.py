"""Write the out-of-fold evaluation and describe it."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.competition import Competition
from pipeline.evaluation.oof import evaluate_oof
from pipeline.paths import evaluation_json, oof_csv, worst_jpg
from pipeline.recipe import Recipe
from pipeline.report.compare import write_worst_images

LISTED_IMAGES = 20


def write_oof_report(
    competition: Competition,
    recipes: Sequence[Recipe],
    data: Path,
    folds_csv: Path,
    runs_folders: Sequence[Path],
    folds: Sequence[int],
    results: Path,
) -> str:
    """Evaluate, and write ``oof.csv``, ``worst.jpg`` and, last, ``evaluation.json``.

    Arguments and errors are those of `pipeline.evaluation.oof.evaluate_oof`.

    Returns:
        The worst images, the scores with their intervals, and the files, as lines of text.
    """
    evaluation, table = evaluate_oof(competition, recipes, data, folds_csv, runs_folders, folds, results)
    write_worst_images(competition, recipes, data, runs_folders, evaluation, table, worst_jpg(results))
    # Last: where this file exists, make takes the evaluation as finished.
    evaluation.save(results)
    worst = table.nsmallest(LISTED_IMAGES, "score")
    return "\n".join([
        f"the {len(worst)} worst of {len(table)} images:",
        worst.to_string(index=False, float_format="{:.5f}".format),
        "",
        evaluation.describe(),
        *(str(path) for path in (worst_jpg(results), oof_csv(results), evaluation_json(results))),
    ])  # fmt: skip
