"""Fit a choice, such as a threshold, on out-of-fold scores, and use it only if it gains on groups it was not fitted on.

Pure functions. `scores` is (images, choices) float, higher is better; `groups` is (images,), the group of each image;
`default` is the index of the choice that needs no fit.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from pipeline.evaluation.statistics import Estimate, estimate_mean

PARTS = 5
"""Parts of the groups in the nested cross-validation."""
WEIGHT_STEPS = 4
"""Ensemble weights are tried in quarters: the score is flat near the best ones, and finer steps fit noise."""


@dataclass(frozen=True)
class Selection:
    """Result of `select`."""

    used: int
    """The best choice if its gain is significant, else the default."""
    best: int
    gain: Estimate
    """Gain of fitted choices over the default, on groups they were not fitted on."""


def select(scores: np.ndarray, groups: np.ndarray, default: int) -> Selection:
    """Find the best choice, and use it only if its nested gain is above 0 with 95 % confidence."""
    gain = estimate_mean(nested_scores(scores, groups, default) - scores[:, default], groups)
    best = best_choice(scores, default)
    return Selection(best if gain.is_positive else default, best, gain)


def best_choice(scores: np.ndarray, default: int) -> int:
    """Return the choice with the highest mean score; `default` unless another one is higher."""
    means = scores.mean(axis=0)
    best = int(means.argmax())
    return best if means[best] > means[default] else default


def nested_scores(scores: np.ndarray, groups: np.ndarray, default: int) -> np.ndarray:
    """Score each image (images,) with the choice that is best on the other parts of the groups."""
    names, codes = np.unique(groups, return_inverse=True)
    parts = np.random.default_rng(0).permutation(len(names))[codes] % PARTS
    result = scores[:, default].copy()
    for part in range(PARTS):
        inside = parts == part
        if not inside.all():
            result[inside] = scores[inside, best_choice(scores[~inside], default)]
    return result


def ensemble_weight_grid(members: int) -> list[tuple[float, ...]]:
    """List the ensemble weights to try: equal ones first, then all multiples of 1 / WEIGHT_STEPS with sum 1.

    Each member alone is among them. There are 5 for two members, 16 for three, 35 for four.
    """
    equal = (1 / members,) * members
    grid = [parts for parts in product(range(WEIGHT_STEPS + 1), repeat=members) if sum(parts) == WEIGHT_STEPS]
    return [equal, *(weights for parts in grid if (weights := tuple(part / WEIGHT_STEPS for part in parts)) != equal)]
