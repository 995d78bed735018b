"""Recognize masks whose runs were written in another pixel order or for another image width.

Neighboring lines of a mask are nearly equal. So few mask pixels are without a mask pixel one line further on if the
line length is right, and many if it is wrong. How many is "few" depends on the objects (thin vertical scratches have
few neighbors in any order), so a submission is compared with the ground truth of the same competition. Median ratios on
the practice data: 0.002 for ground-truth car masks and 448 in the wrong order, 0.1 and 17 for nuclei.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.data.rle import count_overlap

MIN_SUBMITTED, MIN_TRUE = 5, 10
"""Masks needed for a comparison."""
PROBED_MASKS = 200
"""Masks of a submission that are compared, spread over the file."""
SUSPICIOUS = 1.1
"""Without ground truth, a ratio above this for 9 of 10 masks gives a warning."""

KINDS = ("order", "width")


@dataclass
class LineRatios:
    """Ratio of unmatched neighbor pixels for the expected and an alternative image width, for each mask.

    A ratio above 1 favors the alternative.
    """

    values: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, runs: np.ndarray, shape: tuple[int, int], order: str) -> None:
        """Add one mask that is not empty.

        Args:
            runs: (n, 2) in the stated pixel order.
            shape: (h, w) of the image.
            order: "row" or "column".
        """
        line, other = shape[::-1] if order == "row" else shape
        padded = -(-line // 32) * 32
        pixels = shape[0] * shape[1]
        # Per pixel of line length: the end of one long run has as many unmatched pixels as the line is long.
        stated = count_breaks(runs, line, pixels) / line
        for kind, length in (("order", other), ("width", padded)):
            if length != line:
                self.values[kind].append(stated / max(count_breaks(runs, length, pixels) / length, 1e-9))

    def median(self, kind: str) -> float:
        """Return the median ratio, 0 without masks."""
        return float(np.median(self.values[kind])) if self.values[kind] else 0.0


@dataclass(frozen=True)
class OrderVerdict:
    """The result of a comparison: masks that favor another pixel order or width."""

    kind: str
    refused: bool
    """True if the median ratio is above that of every ground-truth mask; otherwise it is only suspicious."""
    masks: int


def compare_lines(submitted: LineRatios, true: LineRatios) -> list[OrderVerdict]:
    """Compare a submission with the ground truth of the same competition.

    A submission is refused only if the median of its ratios is above the largest ratio of all ground-truth masks.
    Without enough ground-truth masks it is never refused.

    Args:
        submitted: ratios of the submission.
        true: ratios of the ground truth.

    Returns:
        One verdict for each suspicious kind of `KINDS`.
    """
    verdicts = []
    for kind in KINDS:
        values, reference = submitted.values[kind], true.values[kind]
        if len(values) < MIN_SUBMITTED:
            continue
        suspicious = np.mean(np.array(values) > SUSPICIOUS) >= 0.9
        if len(reference) >= MIN_TRUE:
            if submitted.median(kind) > max(SUSPICIOUS, *reference):
                verdicts.append(OrderVerdict(kind, True, len(values)))
        elif suspicious:
            verdicts.append(OrderVerdict(kind, False, len(values)))
    return verdicts


def describe_verdict(verdict: OrderVerdict, shape: tuple[int, int], order: str) -> str:
    """Describe a verdict in words."""
    lines = ("rows", "columns") if order == "row" else ("columns", "rows")
    if verdict.kind == "order":
        what = f"numbered along the {lines[1]}; expected along the {lines[0]} (csv.order)"
    else:
        line = shape[1] if order == "row" else shape[0]
        what = f"made for {lines[0]} of {-(-line // 32) * 32} pixels; expected {line}"
    sure = "are" if verdict.refused else "may be"
    return f"most of {verdict.masks} compared masks {sure} {what}"


def count_breaks(runs: np.ndarray, line: int, pixels: int) -> int:
    """Count the pixels of a mask without a mask pixel `line` numbers further on, wrapping at the end of the image.

    Args:
        runs: (n, 2), sorted and disjoint.
        line: assumed length of a line.
        pixels: number of pixels of the image.
    """
    starts = runs[:, 0] + line
    ends = starts + runs[:, 1]
    inside = np.stack([starts, np.minimum(ends, pixels)], axis=1)[starts < pixels]
    wrapped = np.stack([np.maximum(starts, pixels), ends], axis=1)[ends > pixels] - pixels
    shifted = np.concatenate([wrapped, inside])
    shifted[:, 1] -= shifted[:, 0]
    return int(runs[:, 1].sum()) - count_overlap(runs, shifted)


def true_line_ratios(masks: Sequence[tuple[np.ndarray, tuple[int, int]]], order: str) -> LineRatios:
    """Compute the ratios of ground-truth masks, given as (runs, shape of the image)."""
    ratios = LineRatios()
    for runs, shape in masks:
        if len(runs):
            ratios.add(runs, shape, order)
    return ratios
