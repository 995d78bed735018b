"""Windows: parts of images that are too large to be resized or held in memory. Pure functions."""

from typing import NamedTuple

import numpy as np

from pipeline.competition import PixelOrder


class Window(NamedTuple):
    """A rectangle in pixels of an image."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """First column after it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """First row after it."""
        return self.top + self.height

    def grown(self, margin: int) -> "Window":
        """Return the window with `margin` more pixels on each side."""
        return Window(self.left - margin, self.top - margin, self.width + 2 * margin, self.height + 2 * margin)

    def overlaps(self, other: "Window") -> bool:
        """Return whether the two share a pixel."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def grid_starts(length: int, side: int, step: int) -> list[int]:
    """Return the starts of windows of `side` pixels that cover 0 to `length`, at most `step` apart.

    The last one ends at `length`. If `length` is below `side`, there is one window, at 0.
    """
    last = max(0, length - side)
    count = -(-last // step)  # steps between the first and the last one
    return [round(number * last / count) for number in range(count + 1)] if count else [0]


def blend_weight(size: tuple[int, int]) -> np.ndarray:
    """Return the weight of each pixel of a window where windows overlap: (h, w) float32, 1 in the center.

    A Gaussian with a standard deviation of an eighth of each side, as nnU-Net uses
    (https://doi.org/10.1038/s41592-020-01008-z), never below 1e-3, so that every pixel counts.
    """
    axes = [np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) for side in size]
    weight: np.ndarray = np.maximum(axes[1][:, None] * axes[0][None], 1e-3)
    return weight.astype(np.float32)


def cut_runs(runs: np.ndarray, shape: tuple[int, int], order: PixelOrder, window: Window) -> np.ndarray:
    """Paint the part of a mask that lies in a window, without painting the rest.

    Args:
        runs: (n, 2) int64: 0-based start and length of each run, sorted and disjoint.
        shape: (h, w) of the mask.
        order: pixel order of the runs.
        window: inside the mask.

    Returns:
        (window.height, window.width) bool.
    """
    if order == "column":
        flipped = Window(window.top, window.left, window.height, window.width)
        return cut_runs(runs, shape[::-1], "row", flipped).T
    length = shape[1]
    # Runs that reach into the rows of the window.
    ends = runs.sum(axis=1)
    first = np.searchsorted(ends, window.top * length, side="right")
    last = np.searchsorted(runs[:, 0], window.bottom * length, side="left")
    starts, ends = runs[first:last, 0], ends[first:last]
    # Split them at the ends of rows, then clip to the columns.
    rows = starts // length
    counts = (ends - 1) // length - rows + 1
    number = np.repeat(np.arange(len(starts)), counts)
    row = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts - rows, counts)
    start = np.maximum(starts[number] - row * length, window.left) - window.left
    end = np.minimum(ends[number] - row * length, window.right) - window.left
    kept = (start < end) & (row >= window.top) & (row < window.bottom)
    row, start, end = row[kept] - window.top, start[kept], end[kept]
    steps = np.zeros((window.height, window.width + 1), dtype=np.int8)
    np.add.at(steps, (row, start), 1)
    np.add.at(steps, (row, end), -1)
    painted: np.ndarray = steps[:, :-1].cumsum(axis=1, dtype=np.int8) > 0
    return painted
