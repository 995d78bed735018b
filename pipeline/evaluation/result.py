"""The result of an out-of-fold evaluation: what `make evaluate` writes and `make predict` reads."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from pipeline.competition import Competition
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.evaluation.selection import ensemble_weight_grid, nested_scores, select
from pipeline.evaluation.statistics import Estimate, estimate_mean, prediction_interval
from pipeline.files import write_text
from pipeline.host import git_commit
from pipeline.metrics import NUM_BINS, accuracy_by_threshold, dice_by_threshold
from pipeline.paths import evaluation_json
from pipeline.recipe import Flip, Recipe, ensemble_name

log = logging.getLogger(__name__)


class ThresholdResult(Config):
    """The threshold of the probability."""

    used: float
    """The best one if its gain is significant, else the default."""
    best: float
    default: float
    """The first recipe's, rounded to a multiple of 1 / NUM_BINS."""
    gain: Estimate
    """Gain of fitted thresholds over the default, on groups they were not fitted on."""


class EnsembleResult(Config):
    """The weights of the recipes in an ensemble."""

    used: tuple[float, ...]
    """The best ones if their gain is significant, else equal weights."""
    best: tuple[float, ...]
    gain: Estimate
    """Gain of fitted weights over equal weights at the default threshold, on groups they were not fitted on."""
    best_recipe: str
    """The recipe that scores best alone."""
    gain_over_best_recipe: Estimate


class Evaluation(Config):
    """Out-of-fold scores of one recipe or an ensemble of recipes; saved as ``evaluation.json``."""

    competition: str
    recipe: str
    """Its name, or several joined by ``+``."""
    folds: tuple[int, ...]
    flips: tuple[tuple[Flip, ...], ...]
    """Of each recipe."""
    commit: str
    images: int
    groups: int
    dice: Estimate
    """Mean Dice at native size, with its interval over groups."""
    dice_by_fold: dict[str, float]
    accuracy: float
    test_groups: int
    expected: Estimate
    """Prediction interval of the mean Dice of a single model on `test_groups` unseen groups."""
    threshold: ThresholdResult
    ensemble: EnsembleResult

    def matches(self, folds: Sequence[int], recipes: Sequence[Recipe]) -> bool:
        """Return whether these recipes with their flips and threshold, and these folds, were evaluated."""
        flips = tuple(recipe.predict.flips for recipe in recipes)
        wanted = (ensemble_name(recipes), tuple(sorted(folds)), flips, default_threshold_bin(recipes) / NUM_BINS)
        return wanted == (self.recipe, self.folds, self.flips, self.threshold.default)

    def save(self, runs: Path) -> None:
        """Write ``evaluation.json`` into a runs folder."""
        write_text(evaluation_json(runs), self.model_dump_json(indent=1) + "\n")

    def describe(self) -> str:
        """Describe the result as lines of text."""
        by_fold = ", ".join(f"{fold} {value:.5f}" for fold, value in self.dice_by_fold.items())
        lines = [f"Dice by fold: {by_fold}"]
        if len(self.ensemble.used) > 1:
            lines += [
                f"best weights of {self.recipe}: {_sum_of(self.ensemble.best)}; gain over equal weights on groups they "
                f"were not fitted on: {self.ensemble.gain.signed()}; used: {_sum_of(self.ensemble.used)}",
                f"gain of the ensemble over {self.ensemble.best_recipe} alone: "
                f"{self.ensemble.gain_over_best_recipe.signed()}",
            ]
        return "\n".join([
            *lines,
            f"best threshold: {self.threshold.best:.3f}; gain on groups it was not fitted on: "
            f"{self.threshold.gain.signed()}; used: {self.threshold.used:.3f}",
            f"pixel accuracy: {self.accuracy:.5f}",
            f"out-of-fold Dice: {self.dice.value:.5f}, 95 % interval {self.dice.low:.5f} to {self.dice.high:.5f} "
            f"over {self.groups} groups",
            f"expected on a test set of {self.test_groups} groups: {self.expected.low:.5f} to "
            f"{self.expected.high:.5f} (95 %) with a single fold; several folds score higher",
        ])  # fmt: skip


def read_evaluation(runs: Path) -> Evaluation | None:
    """Read the evaluation of a runs folder; None if there is none.

    Raises:
        UserError: the file is damaged or was written by another version.
    """
    path = evaluation_json(runs)
    try:
        return Evaluation.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        what = f"cannot be read ({str(error).splitlines()[0]})"
        raise UserError(path, what, "delete it and run `make evaluate` again") from None


def matching_evaluation(runs: Path, folds: Sequence[int], recipes: Sequence[Recipe]) -> Evaluation | None:
    """Read the evaluation of a runs folder if it belongs to these folds and recipes, else log why it is not used."""
    evaluation = read_evaluation(runs)
    if evaluation is None or evaluation.matches(folds, recipes):
        return evaluation
    log.warning(
        "%s: is of other recipes, folds, flips or threshold and is not used; run `make evaluate`", evaluation_json(runs)
    )
    return None


def summarize(
    competition: Competition, recipes: Sequence[Recipe], table: pd.DataFrame, histograms: np.ndarray, test_groups: int
) -> Evaluation:
    """Compute scores, intervals, ensemble weights and threshold from the histograms of all images.

    Args:
        competition: gives its name and whether masks may be empty.
        recipes: the members of the ensemble.
        table: one row per image; columns group and fold are used.
        histograms: (images, ensemble weights, 2, NUM_BINS); the weights are those of `ensemble_weight_grid`.
        test_groups: number of groups of the test set; 0 assumes as many as there are in `table`.
    """
    may_be_empty = competition.masks.may_be_empty
    groups = table.group.to_numpy()
    default = default_threshold_bin(recipes)
    grid = ensemble_weight_grid(len(recipes))
    # One after the other: all ensemble weights at all thresholds would take gigabytes.
    by_weights = np.stack(
        [
            dice_by_threshold(histograms[:, number], may_be_empty=may_be_empty)[:, default]
            for number in range(len(grid))
        ],
        axis=1,
    )
    weights = select(by_weights, groups, default=0)
    alone = by_weights[:, [grid.index(tuple(row)) for row in np.eye(len(recipes))]]
    best_alone = int(alone.mean(axis=0).argmax())
    # Fitted weights are scored on groups they were not fitted on; only the best recipe is picked by its own score.
    together = nested_scores(by_weights, groups, default=0) if weights.used else by_weights[:, 0]

    chosen = histograms[:, weights.used]
    by_threshold = dice_by_threshold(chosen, may_be_empty=may_be_empty)
    # Threshold 0 is left out: every pixel would be in the mask.
    threshold = select(by_threshold[:, 1:], groups, default - 1)
    used = threshold.used + 1
    dice = by_threshold[:, used]
    test_groups = test_groups or len(set(groups))
    return Evaluation(
        competition=competition.name,
        recipe=ensemble_name(recipes),
        folds=tuple(sorted(table.fold.unique().tolist())),
        flips=tuple(recipe.predict.flips for recipe in recipes),
        commit=git_commit(),
        images=len(table),
        groups=len(set(groups)),
        dice=estimate_mean(dice, groups),
        dice_by_fold={str(fold): float(dice[table.fold == fold].mean()) for fold in sorted(table.fold.unique())},
        accuracy=float(accuracy_by_threshold(chosen, may_be_empty=may_be_empty)[:, used].mean()),
        test_groups=test_groups,
        expected=prediction_interval(dice, groups, test_groups),
        threshold=ThresholdResult(
            used=used / NUM_BINS,
            best=(threshold.best + 1) / NUM_BINS,
            default=default / NUM_BINS,
            gain=threshold.gain,
        ),
        ensemble=EnsembleResult(
            used=grid[weights.used],
            best=grid[weights.best],
            gain=weights.gain,
            best_recipe=recipes[best_alone].name,
            gain_over_best_recipe=estimate_mean(together - alone[:, best_alone], groups),
        ),
    )


def default_threshold_bin(recipes: Sequence[Recipe]) -> int:
    """Return the threshold of the first recipe in units of 1 / NUM_BINS, from 1 to NUM_BINS - 1."""
    return min(max(round(recipes[0].predict.threshold * NUM_BINS), 1), NUM_BINS - 1)


def _sum_of(weights: Sequence[float]) -> str:
    return " + ".join(f"{weight:.2f}" for weight in weights)
