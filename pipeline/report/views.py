"""What a gallery shows over a photo: fills and outlines in fixed colors, as drawings of an index per pixel.

Each pixel has an index: `TRUTH` + `PREDICTED` + `OTHER`, for the masks that contain it. A view gives some indexes a
color. The same views draw the small pictures here and the large ones in the browser.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from pipeline.data.draw import ADDED_COLOR, MASK_COLORS, MISSED_COLOR

TRUTH, PREDICTED, OTHER = 1, 2, 4
"""The bits of an index."""

TRUTH_COLOR = MASK_COLORS[1]
PREDICTED_COLOR = MASK_COLORS[0]
OTHER_COLOR = MASK_COLORS[2]
FIXED_COLOR = (90, 220, 130)
BROKEN_COLOR = (255, 90, 200)
TINT = 0.35
"""Opacity of a mask over the photo; errors are opaque."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Fill:
    """A color for the pixels with some indexes."""

    indexes: tuple[int, ...]
    color: Color
    opacity: float
    label: str
    """For the legend."""


@dataclass(frozen=True)
class Outline:
    """A color for the edge of the mask with one bit, inside it."""

    bit: int
    color: Color
    label: str


@dataclass(frozen=True)
class View:
    """One way to look at an image. `dark` darkens the photo below, so that the colors stand out."""

    name: str
    fills: tuple[Fill, ...] = ()
    outlines: tuple[Outline, ...] = ()
    dark: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the view as plain values, for the browser."""
        return asdict(self)


@dataclass(frozen=True)
class MaskNames:
    """Names of the masks for buttons and legends, such as those of two recipes."""

    truth: str = "truth"
    predicted: str = "prediction"
    other: str = ""


def list_views(names: MaskNames, *, truth: bool, other: bool) -> list[View]:
    """List the views of a gallery, the one to begin with first.

    Args:
        names: names of the masks.
        truth: whether there are true masks.
        other: whether there is a second prediction.
    """
    views = []
    if other:
        only = (
            Fill((PREDICTED, PREDICTED | TRUTH), PREDICTED_COLOR, 1, f"only {names.predicted}"),
            Fill((OTHER, OTHER | TRUTH), OTHER_COLOR, 1, f"only {names.other}"),
        )
        changed = (
            Fill((OTHER | TRUTH, PREDICTED), FIXED_COLOR, 1, f"right only in {names.other}"),
            Fill((PREDICTED | TRUTH, OTHER), BROKEN_COLOR, 1, f"right only in {names.predicted}"),
        )
        outlines = (
            Outline(PREDICTED, PREDICTED_COLOR, names.predicted),
            Outline(OTHER, OTHER_COLOR, names.other),
        )
        views += [View("What changed", changed, dark=True)] if truth else []
        views += [View("Where they differ", only, dark=True), View("Both outlines", outlines=outlines)]
    if truth:
        views.append(_error_view("Difference" if not other else f"Errors of {names.predicted}", PREDICTED))
        if other:
            views.append(_error_view(f"Errors of {names.other}", OTHER))
    views.append(_mask_view(names.predicted, PREDICTED, PREDICTED_COLOR))
    if other:
        views.append(_mask_view(names.other, OTHER, OTHER_COLOR))
    if truth:
        views.append(_mask_view(names.truth, TRUTH, TRUTH_COLOR))
    return [*views, View("Photo")]


def list_marked_views(name: str) -> list[View]:
    """List the views of masks whose suspicious parts are marked by the other mask; that of the cards first."""
    marked = (
        Fill((PREDICTED,), PREDICTED_COLOR, TINT, name),
        Fill((PREDICTED | OTHER,), ADDED_COLOR, 1, "apart from the largest piece"),
        Fill((OTHER,), MISSED_COLOR, 1, "hole"),
    )
    outline = Outline(PREDICTED, PREDICTED_COLOR, "")
    return [View(name.capitalize(), marked, (outline,)), View("Outline", outlines=(outline,)), View("Photo")]


def _error_view(name: str, bit: int) -> View:
    """Return the view of the errors of one prediction."""
    rest = (TRUTH | PREDICTED | OTHER) & ~TRUTH & ~bit
    missed, added = (
        Fill((TRUTH, TRUTH | rest), MISSED_COLOR, 1, "missed"),
        Fill((bit, bit | rest), ADDED_COLOR, 1, "added"),
    )
    return View(name, (missed, added), dark=True)


def _mask_view(name: str, bit: int, color: Color) -> View:
    indexes = tuple(index for index in range(8) if index & bit)
    return View(name.capitalize(), (Fill(indexes, color, TINT, name),), (Outline(bit, color, ""),))


def index_masks(truth: np.ndarray | None, predicted: np.ndarray | None, other: np.ndarray | None) -> np.ndarray:
    """Combine masks (h, w) bool, at least one of them, to an index per pixel, (h, w) uint8."""
    given = [(mask, bit) for mask, bit in ((truth, TRUTH), (predicted, PREDICTED), (other, OTHER)) if mask is not None]
    index: np.ndarray = np.zeros(given[0][0].shape, dtype=np.uint8)
    for mask, bit in given:
        index |= mask.astype(np.uint8) * np.uint8(bit)
    return index


def outline_of(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask (h, w) bool that have one of their four neighbors outside the mask, (h, w) bool."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    result: np.ndarray = mask & (inside == 0)
    return result


def view_layers(view: View, indexes: Sequence[np.ndarray]) -> list[tuple[np.ndarray, Color, float]]:
    """Return what a view paints, from below to above.

    Args:
        view: the view.
        indexes: (h, w) uint8 index of each class.

    Returns:
        Pixels (h, w) bool, color, and opacity of each fill and outline that has pixels.
    """
    layers = []
    for fill in view.fills:
        layers.append((_union([pixels_with(index, fill.indexes) for index in indexes]), fill.color, fill.opacity))
    for outline in view.outlines:
        masks = [outline_of((index & outline.bit) > 0) for index in indexes]
        layers.append((_union(masks), outline.color, 1.0))
    return [layer for layer in layers if layer[0].any()]


def pixels_with(index: np.ndarray, wanted: Sequence[int]) -> np.ndarray:
    """Return the pixels of an index map (h, w) uint8 that have one of some indexes, (h, w) bool."""
    table = np.isin(np.arange(256), wanted).astype(np.uint8)
    return cv2.LUT(index, table).view(bool)  # many times faster than indexing the table


def _union(masks: Sequence[np.ndarray]) -> np.ndarray:
    result: np.ndarray = masks[0] if len(masks) == 1 else np.logical_or.reduce(masks)
    return result
