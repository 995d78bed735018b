"""Estimate from a submission alone where it is wrong: pure functions of the table of its measured masks.

Every reason is a fraction of the mask, so that reasons can be compared and added: the doubt of the model itself, and
how far the mask is from what is usual in the same file. The usual distance is robust: a mask is compared with the
medians of its group and of the images with the same properties, such as the same view.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

MIN_LEVEL = 3
"""Groups and properties with fewer masks have no median of their own."""
FEW_LEVELS = 100
"""Properties with more values than this are left out of the comparison."""
USUAL_DEVIATIONS = 6.0
"""Deviations up to the median and this many median absolute deviations are usual. With 4.5, three standard deviations
of a normal distribution, reasons were found in 3 % of good masks and ranked them worse than their doubt alone."""
_BOX = ["x0", "y0", "x1", "y1"]


@dataclass(frozen=True)
class Reason:
    """One way in which a mask can be unlike the others."""

    name: str
    """For a filter."""
    column: str


REASONS = (
    Reason("Empty", "empty"),
    Reason("Area", "area_off"),
    Reason("Place and size", "box_off"),
    Reason("Pieces", "stray"),
    Reason("Holes", "hollow"),
    Reason("Border", "border"),
    Reason("Model in doubt", "doubt_off"),
)


def find_suspicions(
    table: pd.DataFrame,
    groups: Mapping[str, str],
    properties: Mapping[str, Mapping[str, str]],
    doubts: Mapping[tuple[str, int], float],
    *,
    may_be_empty: bool,
) -> pd.DataFrame:
    """Estimate how much of each mask is wrong.

    Args:
        table: one row per id and class, from `pipeline.submission.measure.measure_submission`.
        groups: id -> group.
        properties: id -> name -> value, such as the view; names with many values are left out.
        doubts: (id, index of the class) -> expected Dice loss by the probabilities; may be empty.
        may_be_empty: whether an empty mask is normal.

    Returns:
        The table with the columns

        * usual_area: area that would be usual for this group and these properties, in pixels; NaN if unknown
        * one per `REASONS`: the fraction of the mask that is unlike the others, beyond what is usual
        * doubt: expected Dice loss; NaN if unknown
        * suspicion: the sum of the reasons and of the usual part of the doubt, most suspicious rows first.
    """
    parts = [_find_in_class(part, groups, properties, may_be_empty) for _, part in table.groupby("class_index")]
    result = pd.concat(parts)
    result["doubt"] = [doubts.get(key, np.nan) for key in zip(result.id, result.class_index, strict=True)]
    result["doubt_off"] = beyond_usual(result.doubt).fillna(0)
    reasons = result[[reason.column for reason in REASONS if reason.column != "doubt_off"]].sum(axis=1)
    result["suspicion"] = reasons + result.doubt.fillna(0)
    return result.sort_values(["suspicion", "id"], ascending=[False, True], kind="stable", ignore_index=True)


def _find_in_class(
    table: pd.DataFrame, groups: Mapping[str, str], properties: Mapping[str, Mapping[str, str]], may_be_empty: bool
) -> pd.DataFrame:
    """Compare the masks of one class; the empty ones say nothing about what is usual."""
    filled = table[table.area > 0]
    factors = _factors(filled, groups, properties)
    area, height, width = filled.area, filled.height, filled.width
    log_area = np.log(area / (height * width))
    usual_log = usual_values(log_area, factors)
    alone = usual_values(log_area, factors[1:])  # without the group: all masks of a group can be wrong
    boxes = filled[_BOX].div(pd.concat([width, height] * 2, axis=1).set_axis(_BOX, axis=1))
    usual_boxes = boxes.apply(lambda column: usual_values(column, factors))
    contact = filled[["top", "bottom", "left", "right"]].sum(axis=1)
    outline = 2 * (filled.x1 - filled.x0 + filled.y1 - filled.y0)
    off = {
        "area_off": np.maximum(
            beyond_usual(1 - np.exp(-(log_area - usual_log).abs())), beyond_usual(1 - np.exp(-(log_area - alone).abs()))
        ),
        "box_off": _box_off(boxes, usual_boxes, factors),
        "stray": beyond_usual(1 - filled.largest / area),
        "hollow": beyond_usual(filled.hole_area / (area + filled.hole_area)),
        "border": beyond_usual(contact / outline),
    }
    found = table.assign(usual_area=np.exp(usual_log) * height * width, empty=0.0, **off)
    found[list(off)] = found[list(off)].fillna(0)
    if not may_be_empty:
        found.loc[found.area == 0, "empty"] = 1.0
    return found


def _factors(
    table: pd.DataFrame, groups: Mapping[str, str], properties: Mapping[str, Mapping[str, str]]
) -> list[pd.Series]:
    """Return the group of each row, then each property that has few values and differs within groups."""
    group = table.id.map(groups)
    names = dict.fromkeys(name for id in table.id for name in properties.get(id, ()))
    found = [group]
    for name in names:
        values = table.id.map(lambda id, name=name: properties.get(id, {}).get(name))
        if values.nunique() <= FEW_LEVELS and (values.groupby(group).nunique() > 1).any():
            found.append(values)
    return found


def _box_off(boxes: pd.DataFrame, usual: pd.DataFrame, factors: Sequence[pd.Series]) -> pd.Series:
    """Compare boxes with usual ones; images that have nothing in common can have their objects anywhere."""
    if not any((factor.groupby(factor).transform("size") >= MIN_LEVEL).any() for factor in factors):
        return pd.Series(0.0, index=boxes.index)
    overlap = beyond_usual(1 - box_overlap(boxes, usual))
    offset = center_offset(boxes, factors, "x0", "x1") + center_offset(boxes, factors, "y0", "y1")
    off: pd.Series = overlap.where(overlap > offset, offset)
    return off


def usual_values(values: pd.Series, factors: Sequence[pd.Series], sweeps: int = 3) -> pd.Series:
    """Fit a sum of one median per level of each factor (median polish, Tukey 1977).

    Args:
        values: float.
        factors: the level of each value; levels with fewer than `MIN_LEVEL` values, or None, have no median of their
            own.
        sweeps: number of passes over the factors.

    Returns:
        The fitted values.
    """
    rest = values - values.median()
    for _ in range(sweeps):
        for factor in factors:
            levels = rest.groupby(factor)
            rest = rest - levels.transform("median").where(levels.transform("size") >= MIN_LEVEL, 0).fillna(0)
    return values - rest


def beyond_usual(values: pd.Series, deviations: float = USUAL_DEVIATIONS) -> pd.Series:
    """Return by how much values of 0 or more exceed the median plus some median absolute deviations; 0 if not."""
    median = values.median()
    return (values - median - deviations * (values - median).abs().median()).clip(lower=0)


def box_overlap(boxes: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Compute the intersection over union of boxes, columns x0, y0, x1, y1, row by row."""
    pairs = {name: pd.concat([boxes[name], others[name]], axis=1) for name in _BOX}
    across = pairs["x1"].min(axis=1) - pairs["x0"].max(axis=1)
    down = pairs["y1"].min(axis=1) - pairs["y0"].max(axis=1)
    shared = across.clip(lower=0) * down.clip(lower=0)
    areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (boxes, others)]
    overlap: pd.Series = shared / (areas[0] + areas[1] - shared)
    return overlap


def center_offset(boxes: pd.DataFrame, factors: Sequence[pd.Series], low: str, high: str) -> pd.Series:
    """Return by how much the centers of boxes are off along one axis, beyond what is usual, in sizes of the box.

    The center is steadier than the edges, which thin parts such as an antenna move.
    """
    center = (boxes[low] + boxes[high]) / 2
    return beyond_usual((center - usual_values(center, factors)).abs()) / (boxes[high] - boxes[low])


def describe_reasons(row: "pd.Series[float]", class_name: str = "") -> dict[str, str]:
    """Describe why a mask is suspicious, the strongest reason first.

    Args:
        row: of the table from `find_suspicions`.
        class_name: named in the texts; empty for a single class.

    Returns:
        Name of a reason -> a short text.
    """
    off = (row.area / row.usual_area - 1) if row.usual_area > 0 else 0.0
    sides = [side for side in ("top", "bottom", "left", "right") if row[side]]
    texts = {
        "empty": "no pixel is in the mask",
        "area_off": f"area {_share(abs(off))} {'above' if off > 0 else 'below'} what is usual"
        if abs(off) > 0.01 else "area unlike that of all other images",
        "box_off": "unusual place or size",
        "stray": f"{row.pieces:,} pieces, {_share(1 - row.largest / max(row.area, 1))} outside the largest",
        "hollow": f"{row.holes:,} {'hole' if row.holes == 1 else 'holes'}, "
        f"{_share(row.hole_area / max(row.area, 1))} of the mask",
        "border": f"touches the border: {', '.join(sides)}",
        "doubt_off": f"the model expects to lose {row.doubt:.3f} Dice",
    }  # fmt: skip
    found = sorted((reason for reason in REASONS if row[reason.column] > 0), key=lambda reason: -row[reason.column])
    prefix = f"{class_name}: " if class_name else ""
    return {reason.name: prefix + texts[reason.column] for reason in found}


def _share(value: float) -> str:
    if 0 < value < 0.001:
        return "under 0.1 %"
    return f"{100 * value:.2g} %" if value < 0.095 else f"{100 * value:.0f} %"
