"""A choice among a few, such as a threshold, fitted on out-of-fold scores: worth it only if it gains on other groups.

All functions are pure. `scores` is (images, choices) float, higher is better; `groups` is (images,), the group of each
image; `default` is the choice that needs no fit.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

DRAWS = 2000
PARTS = 5
"""Parts of the groups in the nested check."""
STEPS = 4
"""The weights of a mean are tried in quarters: the score is flat around the best, and finer ones fit noise."""


@dataclass(frozen=True)
class Fit:
    """What a fit came to."""

    used: int
    """The best choice if its gain is real, else the default."""
    best: int
    gain: float
    """Mean gain over the default of fitted choices, on groups they were not fitted on."""
    interval: tuple[float, float]
    """95 % interval of the gain, from a bootstrap over groups."""


def fit(scores: np.ndarray, groups: np.ndarray, default: int) -> Fit:
    """Find the best choice, and use it only if the lower end of its gain's interval is above zero."""
    difference = nested(scores, groups, default) - scores[:, default]
    interval = bootstrap(difference, groups)
    found = best(scores, default)
    return Fit(found if interval[0] > 0 else default, found, float(difference.mean()), interval)


def best(scores: np.ndarray, default: int) -> int:
    """The choice with the best mean; `default` if no other is better."""
    means = scores.mean(axis=0)
    found = int(means.argmax())
    return found if means[found] > means[default] else default


def nested(scores: np.ndarray, groups: np.ndarray, default: int) -> np.ndarray:
    """The score of each image (images,) with the choice that is best on other groups: what a fitted one is worth."""
    names, codes = np.unique(groups, return_inverse=True)
    part = np.random.default_rng(0).permutation(len(names))[codes] % PARTS
    result = scores[:, default].copy()
    for number in range(PARTS):
        inside = part == number
        if inside.any() and not inside.all():
            result[inside] = scores[inside, best(scores[~inside], default)]
    return result


def bootstrap(values: np.ndarray, groups: np.ndarray, draws: int = DRAWS) -> tuple[float, float]:
    """95 % interval of the mean of `values` (n,) if whole groups (n,) were drawn again."""
    _, codes = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(codes, values), np.bincount(codes)
    rng, means = np.random.default_rng(0), np.empty(draws)
    for draw in range(draws):
        drawn = rng.integers(len(sums), size=len(sums))
        means[draw] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def expected(values: np.ndarray, groups: np.ndarray, count: int, draws: int = DRAWS) -> tuple[float, float]:
    """95 % interval of the mean over `count` new groups, where these are `values` (n,) of `groups` (n,).

    Wider than `bootstrap` says: the groups at hand are a draw, and the new ones are another.
    """
    _, codes = np.unique(groups, return_inverse=True)
    means = np.bincount(codes, values) / np.bincount(codes)
    rng = np.random.default_rng(0)
    here = rng.choice(means, (draws, len(means))).mean(axis=1)
    there = np.array([rng.choice(means, count).mean() for _ in range(draws)])
    low, high = np.quantile(values.mean() + there - here, [0.025, 0.975])
    return float(low), float(high)


def weightings(count: int) -> list[tuple[float, ...]]:
    """The weights to try for a mean of `count`: equal ones first, then all multiples of 1 / STEPS that add up to 1.

    Each one alone is among them. There are 5 for two, 16 for three, 35 for four.
    """
    equal = (1 / count,) * count
    grid = [parts for parts in product(range(STEPS + 1), repeat=count) if sum(parts) == STEPS]
    return [equal, *(weights for parts in grid if (weights := tuple(part / STEPS for part in parts)) != equal)]
