"""Pieces, holes, borders and the box of a mask, computed on its runs without painting it. Pure functions.

The runs of each line are the nodes of a graph, and an edge joins two runs that touch across neighboring lines. The
connected components of the graph are those of the mask.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from pipeline.competition import PixelOrder

SIDES = ("top", "bottom", "left", "right")


class Regions(NamedTuple):
    """The shape of a mask in numbers, in pixels."""

    area: int = 0
    pieces: int = 0
    """Connected components (8-connectivity)."""
    largest: int = 0
    """Area of the largest piece."""
    holes: int = 0
    """Parts of the background that the mask encloses (4-connectivity)."""
    hole_area: int = 0
    borders: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels of the mask on each of the `SIDES` of the image."""
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Left, top, right and bottom of the bounding box; right and bottom are the first column and row after it."""


def measure_regions(runs: np.ndarray, shape: tuple[int, int], order: PixelOrder = "row") -> Regions:
    """Measure a mask.

    Args:
        runs: (n, 2) int64: 0-based start and length of each run, sorted and disjoint.
        shape: (h, w) of the mask.
        order: pixel order of the runs.
    """
    if not len(runs):
        return Regions()
    lines, length = shape if order == "row" else shape[::-1]
    line, start, end = _split_lines(runs, length)
    # A column of background after each line and a line of it before the first and after the last one: runs of different
    # lines never touch along the line, and all background outside is connected.
    stride = length + 1
    starts, ends = (line + 1) * stride + start, (line + 1) * stride + end
    lengths = end - start
    touching, labels = _join(starts, ends, stride, reach=1)
    areas = np.bincount(labels, lengths)
    # The graph is planar, and each of its independent cycles surrounds one hole (Euler's formula).
    holes = touching - len(starts) + len(areas)
    along = (int(lengths[line == 0].sum()), int(lengths[line == lines - 1].sum()))
    across = (int((start == 0).sum()), int((end == length).sum()))
    box = (int(start.min()), int(line[0]), int(end.max()), int(line[-1]) + 1)
    return Regions(
        int(lengths.sum()),
        len(areas),
        int(areas.max()),
        holes,
        _hole_area(starts, ends, stride, (lines + 2) * stride) if holes else 0,
        (*along, *across) if order == "row" else (*across, *along),
        box if order == "row" else (box[1], box[0], box[3], box[2]),
    )


def _split_lines(runs: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join runs that touch and split them at the ends of lines: line, start and end in the line of each part."""
    starts, ends = runs[:, 0], runs.sum(axis=1)
    apart = starts[1:] != ends[:-1]
    starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
    first, last = starts // length, (ends - 1) // length
    counts = last - first + 1
    number = np.repeat(np.arange(len(starts)), counts)
    line = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    start = np.maximum(starts[number] - line * length, 0)
    end = np.minimum(ends[number] - line * length, length)
    return line, start, end


def _join(starts: np.ndarray, ends: np.ndarray, stride: int, reach: int) -> tuple[int, np.ndarray]:
    """Find the connected components of sorted runs in a flat image with lines of `stride` pixels.

    Args:
        starts: (n,) int64.
        ends: (n,) int64, exclusive.
        stride: pixels per line.
        reach: 1 if runs that touch with corners only are connected, else 0.

    Returns:
        The number of pairs of runs that touch, and the component of each run.
    """
    low = np.searchsorted(ends, starts + (stride - reach), side="right")
    high = np.searchsorted(starts, ends + (stride + reach), side="left")
    counts = high - low
    offsets = np.append(0, counts.cumsum())
    neighbors = np.arange(offsets[-1]) + np.repeat(low - offsets[:-1], counts)
    graph = csr_array((np.ones(len(neighbors), dtype=np.int8), neighbors, offsets), shape=(len(starts), len(starts)))
    return len(neighbors), connected_components(graph, directed=False)[1]


def _hole_area(starts: np.ndarray, ends: np.ndarray, stride: int, pixels: int) -> int:
    """Count the background pixels that are not connected to the outside, which the first run belongs to."""
    starts, ends = np.append(0, ends), np.append(starts, pixels)
    labels = _join(starts, ends, stride, reach=0)[1]
    inside = labels != labels[0]
    return int((ends - starts)[inside].sum())
