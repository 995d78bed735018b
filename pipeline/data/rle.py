"""Run-length encoding of masks as Kaggle's CSV files have it.

The pixels of a mask are numbered from 1, along the rows (`order="row"`, Carvana) or down the columns
(`order="column"`, most other competitions). A mask is the text `start length start length …` of its runs.

Everything works on arrays of runs; text and masks are two ways of writing them.
"""

import numpy as np

from pipeline.competition import PixelOrder


def mask_to_rle(mask: np.ndarray, order: PixelOrder = "row") -> str:
    """Write a mask as text.

    Args:
        mask: (height, width), bool or integers 0 and 1.
        order: how the pixels are numbered.

    Returns:
        `"start length start length …"`, 1-based; the empty string for an empty mask.

    Raises:
        ValueError: the array is not two-dimensional or has values other than 0 and 1.
    """
    return runs_to_rle(mask_to_runs(mask, order))


def rle_to_mask(text: str, shape: tuple[int, int], order: PixelOrder = "row") -> np.ndarray:
    """Read a mask from text.

    Args:
        text: `"start length …"`, 1-based; empty for an empty mask.
        shape: (height, width).
        order: how the pixels are numbered.

    Returns:
        The mask, (height, width), bool.

    Raises:
        ValueError: the text is not a list of sorted, disjoint runs inside the image; the message says where.
    """
    return runs_to_mask(parse_rle(text, shape[0] * shape[1]), shape, order)


def mask_to_runs(mask: np.ndarray, order: PixelOrder = "row") -> np.ndarray:
    """The runs of a mask: (n, 2) int64, a 0-based start and a length each, sorted."""
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}; expected (height, width)")
    if mask.dtype != bool:
        if mask.size and (mask.min() < 0 or mask.max() > 1):
            raise ValueError(f"mask values reach from {mask.min()} to {mask.max()}; expected only 0 and 1")
        mask = mask.astype(bool)
    pixels = mask.ravel() if order == "row" else mask.T.ravel()
    # One comparison finds where a run starts or ends; the first and the last pixel have no neighbour outside the
    # image, so a run that touches them is closed by hand. Forgetting that is the classic error of this encoding.
    bounds = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    if pixels.size and pixels[0]:
        bounds = np.concatenate([[0], bounds])
    if pixels.size and pixels[-1]:
        bounds = np.concatenate([bounds, [pixels.size]])
    pairs = bounds.reshape(-1, 2)
    return np.stack([pairs[:, 0], pairs[:, 1] - pairs[:, 0]], axis=1)


def runs_to_mask(runs: np.ndarray, shape: tuple[int, int], order: PixelOrder = "row") -> np.ndarray:
    """The mask of sorted, disjoint runs: (height, width) bool."""
    height, width = shape
    bounds = np.empty(2 * len(runs) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, height * width
    bounds[1:-1:2] = runs[:, 0]
    bounds[2:-1:2] = runs[:, 0] + runs[:, 1]
    # Between two bounds all pixels are equal: background first, then in turn.
    pixels = np.repeat(np.arange(len(bounds) - 1) % 2 == 1, np.diff(bounds))
    return pixels.reshape(height, width) if order == "row" else pixels.reshape(width, height).T


def runs_to_rle(runs: np.ndarray) -> str:
    """The text of runs with 0-based starts."""
    return " ".join(map(str, (runs + (1, 0)).ravel().tolist()))


def parse_rle(text: str, pixels: int) -> np.ndarray:
    """Read and prove the runs of a text.

    Args:
        text: `"start length …"`, 1-based.
        pixels: height × width of the image.

    Returns:
        (n, 2) int64, 0-based starts and lengths, sorted and disjoint. Runs that touch are allowed.

    Raises:
        ValueError: the text has something other than decimal numbers, an odd count of them, a start below 1, a
            length below 1, runs out of order or overlapping, or a run that leaves the image.
    """
    fields = text.split()
    # isdigit alone would let other scripts' digits through, which Kaggle's reader may not know.
    for field in fields if not (text.isascii() and "".join(fields).isdigit()) else ():
        if not (field.isascii() and field.isdigit()):
            raise ValueError(f"{field[:20]!r} is not a whole number")
    if len(fields) % 2:
        raise ValueError(f"{len(fields)} numbers do not make pairs of start and length")
    try:
        runs = np.array(fields, dtype=np.int64).reshape(-1, 2) - (1, 0)
    except OverflowError:
        raise ValueError("a number is too large") from None
    starts, lengths = runs[:, 0], runs[:, 1]
    ends = starts + lengths
    faults = (
        (starts < 0, "starts below pixel 1"),
        (lengths < 1, "has length 0"),
        (np.append(False, starts[1:] < ends[:-1]), "starts before the one ahead of it ends"),
        ((starts >= pixels) | (lengths > pixels - starts), f"leaves the image of {pixels} pixels"),
    )
    for where, fault in faults:
        if where.any():
            index = int(where.argmax())
            raise ValueError(f"run {index + 1} ({starts[index] + 1} {lengths[index]}) {fault}")
    return runs


def count_overlap(first: np.ndarray, second: np.ndarray) -> int:
    """How many pixels two masks share, given as sorted, disjoint runs."""
    if not len(first) or not len(second):
        return 0
    return int((_pixels_before(second, first.sum(axis=1)) - _pixels_before(second, first[:, 0])).sum())


def count_breaks(runs: np.ndarray, stride: int, pixels: int) -> int:
    """How many pixels of a mask have no pixel of it `stride` numbers further on, counted around the end of the image.

    Neighbouring rows of a real mask are nearly equal. So this is small where `stride` is the width of the rows that
    the runs were made of (the height, if they were made of columns), and large elsewhere.
    """
    starts = runs[:, 0] + stride
    ends = starts + runs[:, 1]
    inside = np.stack([starts, np.minimum(ends, pixels)], axis=1)[starts < pixels]
    around = np.stack([np.maximum(starts, pixels), ends], axis=1)[ends > pixels] - pixels
    moved = np.concatenate([around, inside])
    moved[:, 1] -= moved[:, 0]
    return int(runs[:, 1].sum()) - count_overlap(runs, moved)


def _pixels_before(runs: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """How many pixels of sorted, disjoint runs are numbered below each position."""
    starts, lengths = runs[:, 0], runs[:, 1]
    # The run that starts last at or before the position; -1 if there is none.
    index = np.searchsorted(starts, positions, side="right") - 1
    whole = np.concatenate([[0], np.cumsum(lengths)])[np.maximum(index, 0)]
    return np.where(index < 0, 0, whole + np.minimum(positions - starts[index], lengths[index]))
