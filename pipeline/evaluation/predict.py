"""Predict the test set with the threshold and ensemble weights of the out-of-fold evaluation."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.competition import Competition
from pipeline.evaluation.oof import require_trained
from pipeline.evaluation.result import matching_evaluation
from pipeline.inference.submission import write_submission
from pipeline.paths import fold_run
from pipeline.recipe import Recipe


def predict_as_evaluated(
    competition: Competition,
    recipes: Sequence[Recipe],
    data: Path,
    runs_folders: Sequence[Path],
    folds: Sequence[int],
    results: Path,
    out: Path,
    *,
    threshold: float | None = None,
    minutes: float | None = None,
) -> bool:
    """Write a submission of some folds of one recipe or an ensemble of recipes.

    An evaluation of other folds, recipes, flips or thresholds is not used; then the ensemble weights are equal and the
    threshold is the first recipe's.

    Args:
        competition: describes the data.
        recipes: the recipes that the runs were trained with.
        data: the data folder.
        runs_folders: the runs folder of each recipe.
        folds: the folds to predict with.
        results: the folder of ``evaluation.json``.
        out: the .csv or .csv.gz file to write.
        threshold: overrides that of the evaluation.
        minutes: stop after this time and keep the finished rows.

    Returns:
        Whether the submission is finished.

    Raises:
        UserError: see `pipeline.inference.submission.write_submission`; or a fold is not trained.
    """
    weights = []
    for recipe, folder in zip(recipes, runs_folders, strict=True):
        runs = [fold_run(folder, fold) for fold in folds]
        for run in runs:
            require_trained(run, recipe)
        weights.append([run.weights for run in runs])
    metadata: dict[str, object] = {"folds": list(folds)}
    ensemble_weights = None
    evaluation = matching_evaluation(results, folds, recipes)
    if evaluation:
        dice = evaluation.dice
        metadata |= {"oof_dice": dice.value, "oof_interval": [dice.low, dice.high]}
        threshold = evaluation.threshold.used if threshold is None else threshold
        ensemble_weights = evaluation.ensemble.used
    return write_submission(
        competition,
        recipes,
        data,
        weights,
        out,
        ensemble_weights=ensemble_weights,
        threshold=threshold,
        metadata=metadata,
        minutes=minutes,
    )
