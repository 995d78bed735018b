"""Predict the test set with the threshold and ensemble weights of the out-of-fold evaluation."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.competition import Competition
from pipeline.evaluation.oof import require_trained
from pipeline.evaluation.result import matching_evaluation
from pipeline.evaluation.summary import nearest_threshold
from pipeline.inference.postprocess import default_postprocess
from pipeline.inference.submission import write_submission
from pipeline.metrics import load_metric
from pipeline.paths import fold_run
from pipeline.recipe import Recipe
from pipeline.shard import Shard


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
    allow_broken: bool = False,
    best_effort: bool = False,
    shard: Shard | None = None,
    merge: bool = False,
) -> bool:
    """Write a submission of some folds of one recipe or an ensemble of recipes.

    An evaluation of other folds, recipes, flips or thresholds is not used; then the ensemble weights are equal, the
    threshold is the first recipe's and there is no minimum area.

    Args:
        competition: describes the data.
        recipes: the recipes that the runs were trained with.
        data: the data folder.
        runs_folders: the runs folder of each recipe.
        folds: the folds to predict with.
        results: the folder of ``evaluation.json``.
        out: the .csv or .csv.gz file to write.
        threshold: overrides those of the evaluation, for all classes.
        minutes: stop after this time and keep the finished rows.
        allow_broken: see `pipeline.inference.submission.write_submission`.
        best_effort: see `pipeline.inference.submission.write_submission`.
        shard: see `pipeline.inference.submission.write_submission`.
        merge: see `pipeline.inference.submission.write_submission`.

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
    postprocess = None
    metric = load_metric(competition)
    default = float(metric.thresholds[nearest_threshold(metric, recipes[0].predict.threshold)])
    evaluation = matching_evaluation(results, folds, recipes, default)
    if evaluation:
        score = evaluation.score
        metadata |= {"oof_score": score.value, "oof_interval": [score.low, score.high]}
        postprocess = evaluation.postprocess(competition)
        ensemble_weights = evaluation.ensemble.used
    if threshold is not None:
        postprocess = default_postprocess(competition, threshold)
    return write_submission(
        competition,
        recipes,
        data,
        weights,
        out,
        ensemble_weights=ensemble_weights,
        postprocess=postprocess,
        metadata=metadata,
        minutes=minutes,
        allow_broken=allow_broken,
        best_effort=best_effort,
        shard=shard,
        merge=merge,
    )
