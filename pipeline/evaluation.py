"""What the out-of-fold predictions say: the file that `make evaluate` leaves and `make predict` reads."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.model.metrics import LEVELS
from pipeline.recipe import Recipe, joined

log = logging.getLogger(__name__)

FILE = "evaluation.json"


@dataclass(frozen=True)
class Evaluation:
    """What the out-of-fold predictions say; saved as `evaluation.json`."""

    competition: str
    recipe: str
    """Its name, or the names of several joined by +."""
    folds: list[int]
    flips: list[list[str]]
    """Of each recipe."""
    images: int
    groups: int
    dice: float
    """Mean over images with `weights` at `threshold`, at native size."""
    interval: list[float]
    """95 % interval of the mean, from a bootstrap over groups."""
    test_groups: int
    expected: list[float]
    """95 % interval of the mean over so many new groups: what one network of these would score on the test set."""
    accuracy: float
    dice_by_fold: dict[str, float]
    threshold: float
    """The one to predict with: the best one if its gain is real, else the recipe's."""
    best_threshold: float
    threshold_gain: float
    """Gain of fitted thresholds on groups they were not fitted on."""
    threshold_gain_interval: list[float]
    default_threshold: float
    """The first recipe's, as a level."""
    weights: list[float]
    """Of the recipes, to predict with: the best ones if their gain is real, else equal ones."""
    best_weights: list[float]
    weights_gain: float
    """Gain of fitted weights over equal ones, at the default threshold, on groups they were not fitted on."""
    weights_gain_interval: list[float]
    best_recipe: str
    """The best one alone, at the default threshold."""
    ensemble_gain: float
    """Paired gain of all recipes together over the best one alone."""
    ensemble_gain_interval: list[float]
    commit: str

    def describes(self, folds: Sequence[int], recipes: Sequence[Recipe]) -> bool:
        """Whether these recipes, folds, flips and this threshold were evaluated; says so in the log if not."""
        flips = [list(recipe.predict.flips) for recipe in recipes]
        wanted = (joined(recipes), sorted(folds), flips, default_level(recipes) / LEVELS)
        same = wanted == (self.recipe, self.folds, self.flips, self.default_threshold)
        if not same:
            log.warning(
                "the evaluation is of other recipes, folds, flips or threshold, and is not used; run `make evaluate`"
            )
        return same

    def save(self, folder: Path) -> None:
        """Write `evaluation.json`."""
        write_text(folder / FILE, json.dumps(asdict(self), indent=1) + "\n")

    def fitted(self) -> list[str]:
        """Sentences on what was fitted, and what it is worth on groups it was not fitted on."""
        sentences = []
        if len(self.weights) > 1:
            gain = _with_interval(self.weights_gain, self.weights_gain_interval)
            sentences += [
                f"best weights of {self.recipe}: {_shares(self.best_weights)}; on cars they were not fitted on they "
                f"gain {gain} over equal ones; predictions will use {_shares(self.weights)}",
                f"all recipes together gain {_with_interval(self.ensemble_gain, self.ensemble_gain_interval)} "
                f"over {self.best_recipe} alone",
            ]
        gain = _with_interval(self.threshold_gain, self.threshold_gain_interval)
        sentences.append(
            f"best threshold: {self.best_threshold:.3f}; on cars it was not fitted on it gains {gain}; "
            f"predictions will use {self.threshold:.3f}"
        )
        return sentences


def read(folder: Path) -> Evaluation | None:
    """The evaluation in a folder of runs, or None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / FILE
    try:
        return Evaluation(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it and run `make evaluate` again") from None


def default_level(recipes: Sequence[Recipe]) -> int:
    """The nearest level of the first recipe's threshold, except the one that would put everything into the mask."""
    return min(max(round(recipes[0].predict.threshold * LEVELS), 1), LEVELS - 1)


def _with_interval(gain: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{gain:+.6f} [{low:+.6f}, {high:+.6f}]"


def _shares(weights: Sequence[float]) -> str:
    return " + ".join(f"{weight:.2f}" for weight in weights)
