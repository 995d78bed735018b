"""Fit a choice, such as a threshold, on out-of-fold scores, and use it only if its cross-validated gain is significant.

Pure functions. `scores` is (images, choices) float, higher is better; `groups` is (images,), the group of each image;
`default` is the index of the choice that is used without a fit.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from pipeline.evaluation.statistics import Estimate, estimate_mean

N_SPLITS = 5
"""Number of parts of the groups in the cross-validation of the fit."""
WEIGHT_STEPS = 4
"""Ensemble weights are tried in quarters: the score is flat near the best ones, and finer steps fit noise."""


@dataclass(frozen=True)
class Selection:
    """Result of `select`."""

    used: int
    """The best choice if its gain is significant, else the default."""
    best: int
    gain: Estimate
    """Cross-validated gain of fitted choices over the default."""


def select(scores: np.ndarray, groups: np.ndarray, default: int) -> Selection:
    """Select the best choice if the lower bound of the 95 % confidence interval of its gain is above 0.

    The gain is cross-validated: a choice is fitted on some groups and scored on others.

    Args:
        scores: (images, choices) float, higher is better.
        groups: (images,) the group of each image.
        default: index of the choice that is used without a fit.

    Returns:
        The choice to use, the best choice, and the gain.
    """
    gain = estimate_mean(nested_scores(scores, groups, default) - scores[:, default], groups)
    best = best_choice(scores, default)
    return Selection(best if gain.is_positive else default, best, gain)


def best_choice(scores: np.ndarray, default: int) -> int:
    """Return the choice with the highest mean score.

    Args:
        scores: (images, choices) float, higher is better.
        default: index of the choice that is returned unless another one scores higher.

    Returns:
        Index of the choice.
    """
    means = scores.mean(axis=0)
    best = int(means.argmax())
    return best if means[best] > means[default] else default


def nested_scores(scores: np.ndarray, groups: np.ndarray, default: int) -> np.ndarray:
    """Compute cross-validated scores: each image is scored with the choice fitted on the other parts of the groups.

    Args:
        scores: (images, choices) float, higher is better.
        groups: (images,) the group of each image.
        default: index of the choice that is used unless another one scores higher.

    Returns:
        (images,) float.
    """
    names, codes = np.unique(groups, return_inverse=True)
    parts = np.random.default_rng(0).permutation(len(names))[codes] % N_SPLITS
    result = scores[:, default].copy()
    for part in range(N_SPLITS):
        inside = parts == part
        if not inside.all():
            result[inside] = scores[inside, best_choice(scores[~inside], default)]
    return result


def ensemble_weight_grid(members: int) -> list[tuple[float, ...]]:
    """List the ensemble weights to try: equal ones first, then all multiples of 1 / WEIGHT_STEPS with sum 1.

    Each member alone is among them. There are 5 for two members, 16 for three, 35 for four.

    Args:
        members: number of members of the ensemble.

    Returns:
        Weights of the members, with sum 1.
    """
    equal = (1 / members,) * members
    grid = [parts for parts in product(range(WEIGHT_STEPS + 1), repeat=members) if sum(parts) == WEIGHT_STEPS]
    return [equal, *(weights for parts in grid if (weights := tuple(part / WEIGHT_STEPS for part in parts)) != equal)]
