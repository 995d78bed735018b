"""Windows: parts of images that are too large to be resized or held in memory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.competition import PixelOrder
from pipeline.data.rle import mask_to_runs


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

    def clipped(self, region: "Window") -> "Window":
        """Return the intersection with a region that contains the upper left corner of the window."""
        return Window(
            self.left,
            self.top,
            min(self.right, region.right) - self.left,
            min(self.bottom, region.bottom) - self.top,
        )


class Block(NamedTuple):
    """A cell of a grid that divides an image; each is a group of its own when images are split into folds.

    Columns and rows count from 0.
    """

    column: int
    row: int
    columns: int
    rows: int

    def __str__(self) -> str:
        """Name the place and the number of the blocks, so that two divisions never have a name in common."""
        return f"c{self.column + 1}r{self.row + 1}of{self.columns}x{self.rows}"


def grid_starts(length: int, side: int, step: int) -> list[int]:
    """Return the starts of windows of `side` pixels that cover 0 to `length`, at most `step` apart.

    The last one ends at `length`. If `length` is below `side`, there is one window, at 0.
    """
    last = max(0, length - side)
    count = -(-last // step)  # steps between the first and the last one
    return [round(number * last / count) for number in range(count + 1)] if count else [0]


def blend_weight(size: tuple[int, int]) -> np.ndarray:
    """Return the weight of each pixel of a window of `size` = (width, height): (h, w) float32, 1 in the center.

    A Gaussian with a standard deviation of an eighth of each side, as nnU-Net uses
    (https://doi.org/10.1038/s41592-020-01008-z), never below 1e-3, so that every pixel counts.
    """
    axes = [np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) for side in size]
    weight: np.ndarray = np.maximum(axes[1][:, None] * axes[0][None], 1e-3)
    return weight.astype(np.float32)


class LineRuns(NamedTuple):
    """Runs that lie in a window, each on one line: a row, or a column where masks are numbered down the columns."""

    line: np.ndarray
    """(n,) int64, counted in the window."""
    start: np.ndarray
    """(n,) int64: first pixel on the line, counted in the window."""
    end: np.ndarray
    """(n,) int64: first pixel after the run."""
    order: PixelOrder

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int((self.end - self.start).sum())

    def pixel(self, number: int) -> tuple[int, int]:
        """Return the (column, row) in the window of the pixel with a number from 0 to `area` - 1."""
        ends = np.cumsum(self.end - self.start)
        run = int(np.searchsorted(ends, number, side="right"))
        along = int(self.end[run] - (ends[run] - number))
        return (along, int(self.line[run])) if self.order == "row" else (int(self.line[run]), along)

    def paint(self, width: int, height: int) -> np.ndarray:
        """Paint the runs into a window of this size: (height, width) bool."""
        lines, length = (height, width) if self.order == "row" else (width, height)
        steps = np.zeros((lines, length + 1), dtype=np.int8)
        np.add.at(steps, (self.line, self.start), 1)
        np.add.at(steps, (self.line, self.end), -1)
        painted: np.ndarray = steps[:, :-1].cumsum(axis=1, dtype=np.int8) > 0
        return painted if self.order == "row" else painted.T


def cut_runs(runs: np.ndarray, shape: tuple[int, int], order: PixelOrder, window: Window) -> LineRuns:
    """Return the part of a mask that lies in a window, without painting the rest.

    Args:
        runs: (n, 2) int64: 0-based start and length of each run, sorted and disjoint.
        shape: (h, w) of the mask.
        order: pixel order of the runs.
        window: the part to return; it may extend beyond the mask.

    Returns:
        The runs in the window, with coordinates in it.
    """
    length = shape[1] if order == "row" else shape[0]
    first_line, last_line = (window.top, window.bottom) if order == "row" else (window.left, window.right)
    low, high = (window.left, window.right) if order == "row" else (window.top, window.bottom)
    # Runs that reach into the lines of the window.
    ends = runs.sum(axis=1)
    first = np.searchsorted(ends, max(0, first_line) * length, side="right")
    last = np.searchsorted(runs[:, 0], max(0, last_line) * length, side="left")
    starts, ends = runs[first:last, 0], ends[first:last]
    # Split them at the ends of lines, then clip them.
    lines = starts // length
    counts = (ends - 1) // length - lines + 1
    number = np.repeat(np.arange(len(starts)), counts)
    line = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts - lines, counts)
    start = np.maximum(np.maximum(starts[number] - line * length, 0), low) - low
    end = np.minimum(np.minimum(ends[number] - line * length, length), high) - low
    kept = (start < end) & (line >= first_line) & (line < last_line)
    return LineRuns(line[kept] - first_line, start[kept], end[kept], order)


def choose_window(
    rng: np.random.Generator, region: Window, size: tuple[int, int], objects: Sequence[LineRuns], probability: float
) -> Window:
    """Choose a random window of a region, often one that shows an object.

    Args:
        rng: random numbers.
        region: part of the image to choose from; if it is smaller than the window, the window begins at its upper
            left corner.
        size: (width, height) of the window.
        objects: the objects of each class, with coordinates in the region.
        probability: that the window shows a pixel of an object. A class is chosen first, so that rare ones are seen
            as often as frequent ones, then one of its pixels, and then its place in the window.

    Returns:
        The window, in pixels of the image.
    """
    width, height = size
    room = max(0, region.width - width), max(0, region.height - height)
    present = [runs for runs in objects if len(runs.line)]
    if not present or rng.random() >= probability:
        left, top = (int(rng.integers(0, limit + 1)) for limit in room)
    else:
        runs = present[rng.integers(len(present))]
        pixel = runs.pixel(int(rng.integers(runs.area)))
        left, top = (
            min(max(0, at - int(rng.integers(side))), limit) for at, side, limit in zip(pixel, size, room, strict=True)
        )
    return Window(region.left + left, region.top + top, width, height)


def block_window(size: tuple[int, int], block: Block | None, margin: int) -> Window:
    """Return the part of an image that a block covers, in pixels.

    Args:
        size: (width, height) of the image.
        block: the block; None for the whole image.
        margin: pixels between two blocks that belong to neither, so that no window sees parts of two.
    """
    if block is None:
        return Window(0, 0, *size)
    bounds = []
    for length, number, count in zip(size, (block.column, block.row), (block.columns, block.rows), strict=True):
        start, end = (round(length * edge / count) for edge in (number, number + 1))
        bounds.append((start + (margin - margin // 2) * (number > 0), end - margin // 2 * (number < count - 1)))
    (left, right), (top, bottom) = bounds
    return Window(left, top, right - left, bottom - top)


class RunCollector:
    """Compute the runs of a mask from blocks of rows, from top to bottom; the result is that of the whole mask.

    Memory grows with the number of runs, not with that of pixels.

    Args:
        shape: (h, w) of the mask.
        order: pixel order of the runs.
    """

    def __init__(self, shape: tuple[int, int], order: PixelOrder) -> None:
        self.height, self.width = shape
        self.order = order
        self._bounds: list[np.ndarray] = []
        self._last = np.zeros((1, self.width), dtype=bool)
        self._rows = 0

    def add(self, rows: np.ndarray) -> None:
        """Add the next rows (n, w) bool from the top."""
        if self.order == "row":
            runs = mask_to_runs(rows)
            bounds = np.stack([runs[:, 0], runs.sum(axis=1)], axis=1).ravel() + self._rows * self.width
        else:
            # A run begins or ends wherever a pixel differs from the one above.
            changes = np.flatnonzero(np.concatenate([self._last, rows[:-1]]) != rows)
            row, column = np.divmod(changes, self.width)
            bounds = column * self.height + row + self._rows
            self._last = rows[-1:].copy()
        self._bounds.append(bounds)
        self._rows += len(rows)

    def finish(self) -> np.ndarray:
        """Return the runs (n, 2) int64 of the complete mask, as `pipeline.data.rle.mask_to_runs` does.

        Raises:
            ValueError: there are more or fewer rows than the mask has.
        """
        if self._rows != self.height:
            raise ValueError(f"{self._rows} rows are not the {self.height} of the mask")
        open_columns = np.flatnonzero(self._last[0]) if self.order == "column" else np.empty(0, dtype=np.int64)
        bounds = np.sort(np.concatenate([*self._bounds, (open_columns + 1) * self.height]))
        # Where one run ends and the next one begins there is no bound between them.
        touching = np.append(bounds[1:] == bounds[:-1], False)[: len(bounds)]
        touching[1:] |= touching[:-1].copy()
        pairs = bounds[~touching].reshape(-1, 2)
        return np.stack([pairs[:, 0], pairs[:, 1] - pairs[:, 0]], axis=1)
