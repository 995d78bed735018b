"""Bootstrap intervals over groups, prediction intervals, and paired comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.errors import UserError

BOOTSTRAP_SAMPLES = 2000
_QUANTILES = (0.025, 0.975)


class Estimate(Config):
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_positive(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def signed(self) -> str:
        """Format a difference: ``+0.000282 [+0.000255, +0.000311]``."""
        return f"{self.value:+.6f} [{self.low:+.6f}, {self.high:+.6f}]"


def estimate_mean(values: np.ndarray, groups: np.ndarray, samples: int = BOOTSTRAP_SAMPLES) -> Estimate:
    """Compute the mean over images with the 95 % percentile-bootstrap interval over groups.

    Whole groups are resampled, because images of one group (the views of one car) are not independent.

    Args:
        values: (images,) float.
        groups: (images,) the group of each image.
        samples: bootstrap samples.
    """
    from scipy.stats import bootstrap

    _, codes = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(codes, values), np.bincount(codes)
    mean = float(np.mean(values))
    if len(sums) < 2:  # a single group has no spread to resample
        return Estimate(value=mean, low=mean, high=mean)
    result = bootstrap(
        (sums, sizes),
        lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
        n_resamples=samples,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return Estimate(value=mean, low=float(result.confidence_interval.low), high=float(result.confidence_interval.high))


def prediction_interval(
    values: np.ndarray, groups: np.ndarray, test_groups: int, samples: int = BOOTSTRAP_SAMPLES
) -> Estimate:
    """Compute the 95 % prediction interval of the mean over `test_groups` unseen groups.

    Wider than the interval of `estimate_mean`: both the groups at hand and the unseen ones are random draws.

    Args:
        values: (images,) scores in [0, 1]; so is the interval.
        groups: (images,) the group of each image.
        test_groups: number of unseen groups.
        samples: bootstrap samples.
    """
    _, codes = np.unique(groups, return_inverse=True)
    means = np.bincount(codes, values) / np.bincount(codes)
    rng = np.random.default_rng(0)
    here = rng.choice(means, (samples, len(means))).mean(axis=1)
    unseen = np.array([rng.choice(means, test_groups).mean() for _ in range(samples)])
    low, high = np.clip(np.quantile(values.mean() + unseen - here, _QUANTILES), 0, 1)
    return Estimate(value=float(values.mean()), low=float(low), high=float(high))


@dataclass(frozen=True)
class PairedGain:
    """Mean difference of the scores of two evaluations of the same images."""

    gain: Estimate
    images: int
    groups: int


def paired_gain(first: Path, second: Path) -> PairedGain:
    """Compute how much better the second table of scores is than the first.

    Where a threshold or ensemble weights were fitted, a table holds the scores of the fitted choice on the images it
    was fitted on, which are slightly too good; `make evaluate` prints the nested estimate.

    Args:
        first: a CSV with columns id, group, score, perhaps class: an ``oof.csv``, or what
            ``scripts.score --out`` writes.
        second: another one with the same images in any order.

    Raises:
        UserError: a file cannot be read or lacks a column, or the images differ.
    """
    before, after = (_read_scores(path) for path in (first, second))
    if set(before.index) != set(after.index):
        only = min(set(before.index) ^ set(after.index))
        what = f"has not the same images as {second}: only one of them has {only}"
        raise UserError(first, what, "evaluate the same folds with both")
    groups = before.group.to_numpy()
    difference = (after.score.reindex(before.index) - before.score).to_numpy()
    return PairedGain(estimate_mean(difference, groups), len(before), len(set(groups)))


def describe_gain(files: Sequence[Path]) -> str:
    """Describe the paired gain of two tables, before and after.

    Raises:
        UserError: not two files; or see `paired_gain`.
    """
    if len(files) != 2:
        raise UserError("FILES", f"names {len(files)} files", 'give two: FILES="before/oof.csv after/oof.csv"')
    result = paired_gain(files[0], files[1])
    verdict = "significant" if result.gain.is_significant else "may be chance"
    scope = f"{result.groups} groups and {result.images} images"
    return f"{result.gain.signed()}, paired 95 % interval over {scope}: {verdict}"


def _read_scores(path: Path) -> pd.DataFrame:
    try:
        dtypes = {"id": str, "class": str, "group": str, "score": float}
        table = pd.read_csv(path, dtype=dtypes, keep_default_na=False)
        if "class" in table:  # one row per image and class
            table["id"] += " " + table["class"]
        table = table.set_index("id")[["group", "score"]]
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "check the path") from None
    except (KeyError, ValueError) as error:
        what = f"is not a table with columns id, group, score ({str(error)[:120]})"
        raise UserError(path, what, "run `make evaluate` again") from None
    if table.index.has_duplicates:
        raise UserError(path, f"repeats the id {table.index[table.index.duplicated()][0]}", "run `make evaluate` again")
    return table
