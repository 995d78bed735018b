"""Where a run loses its score, as sentences: pure functions of the table of out-of-fold scores."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from pipeline.evaluation.statistics import Estimate, estimate_mean

LOST_COLUMNS = ("lost_1", "lost_2", "lost_4", "lost_8", "lost_beyond")
LOST_NAMES = ("≤ 1 px", "1–2 px", "2–4 px", "4–8 px", "> 8 px")
"""Distances of wrong pixels to the true edge."""
MIN_GROUPS = 3
"""Values with fewer groups say little about their kind of image."""


_LEADING_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class ValueScore:
    """The mean score of the images with one value of an attribute."""

    value: str
    images: int
    groups: int
    estimate: Estimate
    """With a bootstrap over groups."""


def score_by_value(table: pd.DataFrame, values: Mapping[str, str]) -> list[ValueScore]:
    """Compute the mean score of each value of an attribute, worst first.

    Args:
        table: columns id, group and score.
        values: id -> value; images without a value are left out.
    """
    named = table.assign(value=table.id.map(dict(values))).dropna(subset="value")
    result = [
        ValueScore(
            str(value),
            len(part),
            part.group.nunique(),
            estimate_mean(part.score.to_numpy(), part.group.to_numpy(), samples=500),
        )
        for value, part in named.groupby("value")
    ]
    return sorted(result, key=lambda one: one.estimate.value)


def choose_values(scores: Sequence[ValueScore], most: int = 16) -> list[ValueScore]:
    """Choose the values to draw: few numbers in their own order, else the worst ones and the best one."""
    numbered = [(float(match[0]), one) for one in scores if (match := _LEADING_NUMBER.match(one.value))]
    if len(numbered) == len(scores) <= 24:
        return [one for _, one in sorted(numbered, key=lambda pair: pair[0])]
    enough = [one for one in scores if one.groups >= MIN_GROUPS] or list(scores)
    return list(enough) if len(enough) <= most else [*enough[: most - 1], enough[-1]]


def mask_area_ranges(table: pd.DataFrame) -> dict[str, str]:
    """Return the quarter of the images to which each belongs by the area of its true mask.

    Args:
        table: columns id and area, a fraction of the image.

    Returns:
        Id -> a text such as ``12 to 18 %``, ``0 %`` for an empty mask; nothing if all areas are equal.
    """
    filled = table[table.area > 0]
    if filled.area.nunique() < 8:
        return {}
    edges = np.quantile(filled.area, [0.25, 0.5, 0.75])
    texts = [f"{100 * edge:.2g}" for edge in (filled.area.min(), *edges, filled.area.max())]
    names = [f"{low} to {high}\u00a0%" for low, high in pairwise(texts)]
    places = np.searchsorted(edges, filled.area.to_numpy())
    return dict.fromkeys(table.id, "0 %") | dict(zip(filled.id, [names[place] for place in places], strict=True))


def missed_and_added(table: pd.DataFrame) -> tuple[float, float] | None:
    """Return the mean fractions of an image that are missed and added; None without `LOST_COLUMNS`.

    Args:
        table: columns area and predicted_area, fractions of the image, and `LOST_COLUMNS`, of a single class. Their
            sum is (missed + added) / (true + predicted area).
    """
    if not set(LOST_COLUMNS) <= set(table.columns):
        return None
    wrong = table[list(LOST_COLUMNS)].sum(axis=1) * (table.area + table.predicted_area)
    surplus = table.predicted_area - table.area
    return float((wrong - surplus).mean() / 2), float((wrong + surplus).mean() / 2)


def percent(fraction: float) -> str:
    """Write a fraction as a whole percentage: ``17 %``."""
    return f"{100 * fraction:.0f} %"


def describe_failures(
    table: pd.DataFrame, by_attribute: Mapping[str, Sequence[ValueScore]], metric: str, num_classes: int = 1
) -> list[str]:
    """Describe where the score is lost, the most useful sentence first.

    Args:
        table: one row per image, from ``oof.csv``.
        by_attribute: name of an attribute -> scores of its values.
        metric: name of the score.
        num_classes: number of classes.
    """
    sentences = []
    loss = np.sort(1 - table.score.to_numpy())[::-1]
    if loss.sum() > 0:
        worst = max(1, len(loss) // 10)
        share = loss[:worst].sum() / loss.sum()
        sentences.append(
            f"The worst tenth of the images ({worst} of {len(loss)}) has {percent(share)} of the lost {metric}; "
            f"the median image scores {np.median(table.score):.5f}, the worst {table.score.min():.5f}."
        )
    if set(LOST_COLUMNS) <= set(table.columns) and (lost := table[list(LOST_COLUMNS)].mean()).sum() > 0:
        share_near, share_far = lost.iloc[:2].sum() / lost.sum(), lost.iloc[-1] / lost.sum()
        sentences.append(
            f"{percent(share_near)} of the lost Dice lies within 2 pixels of the true edge, "
            f"{percent(share_far)} farther than 8: "
            + (
                "mostly fine edges."
                if share_near > 0.5
                else "mostly whole parts."
                if share_far > 0.5
                else "both matter."
            )
        )
    if num_classes == 1 and (pair := missed_and_added(table)) and sum(pair) > 0:
        missed = pair[0] / sum(pair)
        sentences.append(f"{percent(missed)} of the wrong pixels are missed, {percent(1 - missed)} are added.")
    sentences += _weak_values(by_attribute, float(table.score.mean()))
    return sentences


def _weak_values(by_attribute: Mapping[str, Sequence[ValueScore]], mean: float) -> list[str]:
    """Name the value of each attribute that costs most, if its whole interval is below the mean."""
    found = []
    for name, scores in by_attribute.items():
        weak = [one for one in scores if one.groups >= MIN_GROUPS and one.estimate.high < mean]
        if weak:
            worst = max(weak, key=lambda one: (mean - one.estimate.value) * one.images)
            below = mean - worst.estimate.value
            text = f"Weak: {name} {worst.value}, {below:.5f} below the mean over {worst.images:,} images."
            found.append(((mean - worst.estimate.value) * worst.images, text))
    return [text for _, text in sorted(found, reverse=True)]
