"""Summarize out-of-fold predictions: scores, intervals, ensemble weights, thresholds and minimum areas."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.competition import Competition
from pipeline.evaluation.result import ClassResult, EnsembleResult, Evaluation
from pipeline.evaluation.selection import Selection, ensemble_weight_grid, nested_scores, select
from pipeline.evaluation.statistics import estimate_mean, prediction_interval
from pipeline.host import git_commit
from pipeline.metrics import Metric
from pipeline.recipe import Recipe, ensemble_name


@dataclass(frozen=True)
class Summary:
    """The evaluation, and the scores from which it is made."""

    evaluation: Evaluation
    scores: np.ndarray
    """(images, classes) float64: the score of every image and class with the choices that the evaluation uses."""
    curves: np.ndarray
    """(classes, thresholds) float64: the mean score at every threshold, with the ensemble weights that it uses and
    without a minimum area."""


def nearest_threshold(metric: Metric, threshold: float) -> int:
    """Return the index of the threshold that is tried nearest to a recipe's."""
    return int(np.abs(metric.thresholds - threshold).argmin())


def summarize(
    competition: Competition,
    metric: Metric,
    recipes: Sequence[Recipe],
    table: pd.DataFrame,
    observations: np.ndarray,
    test_groups: int,
) -> Summary:
    """Compute scores, intervals, ensemble weights, thresholds and minimum areas.

    Args:
        competition: its name and classes are used.
        metric: metric that made the observations.
        recipes: the members of the ensemble.
        table: one row per image; columns group, fold and accuracy are used.
        observations: (images, ensemble weights, classes, ...) from `metric.observe`; the weights are those of
            `ensemble_weight_grid`.
        test_groups: number of groups of the test set; 0 assumes as many as there are in `table`.
    """
    groups = table.group.to_numpy()
    default = nearest_threshold(metric, recipes[0].predict.threshold)
    ensemble = _select_weights(metric, recipes, observations, groups, default)
    chosen = observations[:, ensemble_weight_grid(len(recipes)).index(ensemble.used)]

    results, curves, scores = [], [], np.empty(chosen.shape[:2])
    for number, name in enumerate(competition.classes or ("",)):
        # One class after the other: the grids of all classes at once would take gigabytes.
        grid = metric.score_grid(chosen[:, number])
        choices = grid.reshape(len(grid), -1)
        selection = select(choices, groups, default * grid.shape[2])
        scores[:, number] = choices[:, selection.used]
        curves.append(grid[:, :, 0].mean(axis=0))
        results.append(_class_result(metric, name, selection, scores[:, number]))
    image_scores = scores.mean(axis=1)
    test_groups = test_groups or len(set(groups))
    folds = sorted(table.fold.unique().tolist())
    evaluation = Evaluation(
        competition=competition.name,
        recipe=ensemble_name(recipes),
        folds=tuple(folds),
        flips=tuple(recipe.predict.flips for recipe in recipes),
        default_threshold=float(metric.thresholds[default]),
        commit=git_commit(),
        metric=metric.label,
        images=len(table),
        groups=len(set(groups)),
        score=estimate_mean(image_scores, groups),
        score_by_fold={str(fold): float(image_scores[table.fold == fold].mean()) for fold in folds},
        accuracy=float(table.accuracy.mean()),
        test_groups=test_groups,
        expected=prediction_interval(image_scores, groups, test_groups),
        classes=tuple(results),
        ensemble=ensemble,
    )
    return Summary(evaluation, scores, np.stack(curves))


def _select_weights(
    metric: Metric, recipes: Sequence[Recipe], observations: np.ndarray, groups: np.ndarray, default: int
) -> EnsembleResult:
    """Choose the ensemble weights at the default threshold, by the mean over the classes."""
    grid = ensemble_weight_grid(len(recipes))
    scores = np.stack(
        [_default_scores(metric, observations[:, number], default) for number in range(len(grid))], axis=1
    )
    selection = select(scores, groups, default=0)
    alone = scores[:, [grid.index(tuple(row)) for row in np.eye(len(recipes))]]
    best_alone = int(alone.mean(axis=0).argmax())
    # Fitted weights are scored on groups they were not fitted on; only the best recipe is picked by its own score.
    together = nested_scores(scores, groups, default=0) if selection.used else scores[:, 0]
    return EnsembleResult(
        used=grid[selection.used],
        best=grid[selection.best],
        gain=selection.gain,
        best_recipe=recipes[best_alone].name,
        gain_over_best_recipe=estimate_mean(together - alone[:, best_alone], groups),
    )


def _default_scores(metric: Metric, observations: np.ndarray, default: int) -> np.ndarray:
    """Return the mean over the classes of each image at the default threshold without a minimum area: (images,)."""
    classes = range(observations.shape[1])
    scores: np.ndarray = np.mean([metric.score_grid(observations[:, n])[:, default, 0] for n in classes], axis=0)
    return scores


def _class_result(metric: Metric, name: str, selection: Selection, scores: np.ndarray) -> ClassResult:
    used, best = (divmod(choice, len(metric.min_areas)) for choice in (selection.used, selection.best))
    return ClassResult(
        name=name,
        score=float(scores.mean()),
        threshold=float(metric.thresholds[used[0]]),
        min_area=metric.min_areas[used[1]],
        best_threshold=float(metric.thresholds[best[0]]),
        best_min_area=metric.min_areas[best[1]],
        gain=selection.gain,
    )
