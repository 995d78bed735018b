"""The result of an out-of-fold evaluation, written by `make evaluate` and read by `make predict`."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.competition import Competition
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.evaluation.statistics import Estimate
from pipeline.files import write_text
from pipeline.inference.postprocess import Postprocess, make_postprocess
from pipeline.paths import evaluation_json
from pipeline.recipe import Flip, Recipe, ensemble_name
from pipeline.submission.volumes import VolumeScore

log = logging.getLogger(__name__)


class ClassResult(Config):
    """The threshold and the minimum area of one class."""

    name: str
    """Empty for a single class."""
    score: float
    """Mean over images."""
    threshold: float
    """Threshold of the probability: the best one if the gain is significant, else the default."""
    min_area: float
    """Minimum area of a mask or object, as a fraction of the image; smaller ones are removed."""
    best_threshold: float
    best_min_area: float
    gain: Estimate
    """Cross-validated gain of fitted thresholds and areas over the default."""


class EnsembleResult(Config):
    """The weights of the recipes in an ensemble."""

    used: tuple[float, ...]
    """The best ones if their gain is significant, else equal weights."""
    best: tuple[float, ...]
    gain: Estimate
    """Cross-validated gain of fitted weights over equal weights at the default threshold."""
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
    """Flips of each recipe."""
    default_threshold: float
    """The first recipe's, rounded to one that was tried."""
    commit: str
    metric: str
    """Name of the metric for texts."""
    images: int
    groups: int
    score: Estimate
    """Mean over images and classes at native size, with its 95 % confidence interval (bootstrap over groups)."""
    score_by_fold: dict[str, float]
    accuracy: float
    """Fraction of correct pixels."""
    test_groups: int
    expected: Estimate
    """Prediction interval of the mean score of a single model on `test_groups` unseen groups."""
    classes: tuple[ClassResult, ...]
    """One entry for a competition without classes."""
    ensemble: EnsembleResult
    volumes: VolumeScore | None = None
    """Score of the volumes, for the metric that needs them, at the default threshold."""

    def matches(self, folds: Sequence[int], recipes: Sequence[Recipe], default_threshold: float) -> bool:
        """Return whether these recipes with their flips and threshold, and these folds, were evaluated."""
        flips = tuple(recipe.predict.flips for recipe in recipes)
        wanted = (ensemble_name(recipes), tuple(sorted(folds)), flips, default_threshold)
        return wanted == (self.recipe, self.folds, self.flips, self.default_threshold)

    def postprocess(self, competition: Competition) -> Postprocess:
        """Return the thresholds and minimum areas to predict with."""
        thresholds = [result.threshold for result in self.classes]
        return make_postprocess(competition, thresholds, [result.min_area for result in self.classes])

    def save(self, runs: Path) -> None:
        """Write ``evaluation.json`` into a runs folder."""
        write_text(evaluation_json(runs), self.model_dump_json(indent=1) + "\n")

    def describe(self) -> str:
        """Describe the result as lines of text."""
        by_fold = ", ".join(f"{fold} {value:.5f}" for fold, value in self.score_by_fold.items())
        lines = [f"{self.metric} by fold: {by_fold}"]
        if len(self.ensemble.used) > 1:
            lines += [
                f"best weights of {self.recipe}: {_sum_of(self.ensemble.best)}; gain over equal weights on groups they "
                f"were not fitted on: {self.ensemble.gain.signed()}; used: {_sum_of(self.ensemble.used)}",
                f"gain of the ensemble over {self.ensemble.best_recipe} alone: "
                f"{self.ensemble.gain_over_best_recipe.signed()}",
            ]
        lines += [_describe_class(result, self.metric) for result in self.classes]
        if self.volumes:
            lines.append(f"at the default threshold, {self.volumes.describe()}")
        return "\n".join([
            *lines,
            f"pixel accuracy: {self.accuracy:.5f}",
            f"out-of-fold {self.metric}: {self.score.value:.5f}, 95 % confidence interval "
            f"{self.score.low:.5f} to {self.score.high:.5f}, bootstrap over {self.groups} groups",
            f"expected on a test set of {self.test_groups} groups: {self.expected.low:.5f} to "
            f"{self.expected.high:.5f} (95 % prediction interval) with a single fold; several folds score higher",
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


def matching_evaluation(
    runs: Path, folds: Sequence[int], recipes: Sequence[Recipe], default_threshold: float
) -> Evaluation | None:
    """Read the evaluation of a runs folder if it belongs to these folds and recipes, else log why it is not used."""
    evaluation = read_evaluation(runs)
    if evaluation is None or evaluation.matches(folds, recipes, default_threshold):
        return evaluation
    log.warning(
        "%s: is of other recipes, folds, flips or threshold and is not used; run `make evaluate`", evaluation_json(runs)
    )
    return None


def _describe_class(result: ClassResult, metric: str) -> str:
    name = f"class {result.name}: {metric} {result.score:.5f}; " if result.name else ""
    return (
        f"{name}best {_describe_choice(result.best_threshold, result.best_min_area)}; gain on groups it was not fitted "
        f"on: {result.gain.signed()}; used: {_describe_choice(result.threshold, result.min_area)}"
    )


def _describe_choice(threshold: float, min_area: float) -> str:
    smallest = f" and minimum area {min_area:.2%} of the image" if min_area else ""
    return f"threshold {threshold:.3f}{smallest}"


def _sum_of(weights: Sequence[float]) -> str:
    return " + ".join(f"{weight:.2f}" for weight in weights)
