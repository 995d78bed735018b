"""Run-length encoding (RLE) of masks, as in Kaggle's CSV files.

Pixels are numbered from 1 along the rows (``order="row"``, row-major (C), Carvana) or down the columns
(``order="column"``, column-major (Fortran), most other competitions). A mask is the text ``start length start length
...`` of its runs.

Everything works on arrays of runs, (n, 2) int64 with a 0-based start and a length each, sorted and disjoint. Texts and
masks are converted to and from them. Pure functions.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from pipeline.competition import Competition, PixelOrder


@dataclass(frozen=True)
class RleFormat:
    """Text format of the runs of a competition; see `pipeline.competition.CsvConfig`."""

    order: PixelOrder = "row"
    offsets: Literal["absolute", "relative"] = "absolute"
    base: int = 1
    empty: str = ""


DEFAULT_FORMAT = RleFormat()

_ALL_TRUE = 0x0101010101010101  # eight bool pixels as one word
_FEW_NUMBERS = 64  # for so few, Python's own conversion is faster
_LARGEST = 2**63 - 1  # np.fromstring returns it for every larger number


def rle_format(competition: Competition) -> RleFormat:
    """Return the RLE format of a competition."""
    csv = competition.csv
    return RleFormat(csv.order, csv.offsets, csv.base, csv.empty)


def mask_to_rle(mask: np.ndarray, format: RleFormat = DEFAULT_FORMAT) -> str:
    """Encode a mask.

    Args:
        mask: (h, w), bool or integers 0 and 1.
        format: RLE format.

    Returns:
        ``"start length start length ..."``; ``format.empty`` for an empty mask.

    Raises:
        ValueError: the array is not two-dimensional or has other values than 0 and 1.
    """
    return runs_to_rle(mask_to_runs(mask, format.order), format)


def rle_to_mask(text: str, shape: tuple[int, int], format: RleFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Decode a mask.

    Args:
        text: RLE, as `mask_to_rle` returns it.
        shape: (h, w) of the mask.
        format: RLE format.

    Returns:
        (h, w) bool.

    Raises:
        ValueError: the text is not a list of sorted, disjoint runs inside the image; the message contains the position.
    """
    return runs_to_mask(parse_rle(text, shape[0] * shape[1], format), shape, format.order)


def mask_to_runs(mask: np.ndarray, order: PixelOrder = "row") -> np.ndarray:
    """Find the runs of a mask.

    Args:
        mask: (h, w), bool or integers 0 and 1.
        order: pixel order.

    Returns:
        (n, 2) int64: 0-based start and length of each run, sorted and disjoint.

    Raises:
        ValueError: the array is not two-dimensional or has other values than 0 and 1.
    """
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}; expected (height, width)")
    if mask.dtype != bool:
        if mask.size and (mask.min() < 0 or mask.max() > 1):
            raise ValueError(f"mask values reach from {mask.min()} to {mask.max()}; expected only 0 and 1")
        mask = mask.astype(bool)
    pixels = mask.ravel() if order == "row" else mask.T.ravel()
    # The first and the last pixel have no neighbor outside the image, so runs that touch them are closed separately;
    # forgetting that is the classic error of this encoding.
    bounds = _find_changes(pixels)
    if pixels.size and pixels[0]:
        bounds = np.concatenate([[0], bounds])
    if pixels.size and pixels[-1]:
        bounds = np.concatenate([bounds, [pixels.size]])
    pairs = bounds.reshape(-1, 2)
    return np.stack([pairs[:, 0], pairs[:, 1] - pairs[:, 0]], axis=1)


def _find_changes(pixels: np.ndarray) -> np.ndarray:
    """List the positions i with ``pixels[i] != pixels[i - 1]`` of a flat bool array: (n,) int64, ascending.

    Eight pixels are compared at once, as a 64-bit word. Only words at the ends of a stretch of equal words are compared
    pixel by pixel.
    """
    whole = pixels.size // 8 * 8
    words = pixels[:whole].view(np.uint64)
    ends = np.flatnonzero(words[1:] != words[:-1])
    starts = np.append(0, ends + 1)
    ends = np.append(ends, len(words) - 1)
    repeated = words[starts[ends - starts > 1]]
    if not len(words) or ((repeated != 0) & (repeated != _ALL_TRUE)).any():
        # A short array, or a pattern of narrow stripes.
        return np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    near = np.stack([starts, ends], axis=1).ravel()
    near = near[np.append(True, near[1:] != near[:-1])]
    # The words between two of these are equal to both neighbors, so they can be compared as if they were adjacent.
    flat = words[near].view(bool)
    changed = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    found = near[changed // 8] * 8 + changed % 8
    rest = pixels[whole - 1 :]
    return np.concatenate([found, np.flatnonzero(rest[1:] != rest[:-1]) + whole])


def runs_to_mask(runs: np.ndarray, shape: tuple[int, int], order: PixelOrder = "row") -> np.ndarray:
    """Paint runs into a mask of `shape` (h, w): (h, w) bool."""
    height, width = shape
    bounds = np.empty(2 * len(runs) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, height * width
    bounds[1:-1:2] = runs[:, 0]
    bounds[2:-1:2] = runs[:, 0] + runs[:, 1]
    # All pixels between two bounds are equal: background first, then in turn.
    pixels = np.repeat(np.arange(len(bounds) - 1) % 2 == 1, np.diff(bounds))
    return pixels.reshape(height, width) if order == "row" else pixels.reshape(width, height).T


def expand_runs(runs: np.ndarray) -> np.ndarray:
    """Expand runs (n, 2) int64 to flat pixel indices, ascending: (pixels,) int64."""
    ends = np.cumsum(runs[:, 1])
    numbers: np.ndarray = np.arange(ends[-1] if len(ends) else 0)
    numbers += np.repeat(runs[:, 0] - (ends - runs[:, 1]), runs[:, 1])
    return numbers


def runs_to_rle(runs: np.ndarray, format: RleFormat = DEFAULT_FORMAT) -> str:
    """Write runs as text."""
    if not len(runs):
        return format.empty
    if format.offsets == "relative":
        starts = runs[:, 0].copy()
        starts[1:] -= runs[:-1].sum(axis=1)
        starts[0] += format.base
        runs = np.stack([starts, runs[:, 1]], axis=1)
    else:
        runs = runs + (format.base, 0)
    return _join_numbers(runs.ravel())


def _join_numbers(numbers: np.ndarray) -> str:
    """Write integers from 0 as decimal text, separated by spaces.

    The last three digits of all numbers are looked up at once, then four more at a time; docs/experiments.md has the
    times.
    """
    if len(numbers) < _FEW_NUMBERS:
        return " ".join(map(str, numbers.tolist()))
    groups = 1 + len(str(int(numbers.max()))) // 4
    words = np.empty((len(numbers), groups), dtype=np.uint32)
    table, base, rest = _last_digits(), 1000, numbers
    for group in range(groups - 1, 0, -1):
        head = rest // base
        # rest % base, plus base if there are digits before it: then its leading zeros are written.
        words[:, group] = table.take(rest - np.maximum(head - 1, 0) * base)
        table, base, rest = _digits(), 10_000, head
    words[:, 0] = table.take(rest)
    return words.tobytes().translate(None, b"\0")[:-1].decode("ascii")


@cache
def _last_digits() -> np.ndarray:
    """Return the texts of 0 to 999 and a space, first without and then with leading zeros, as words of four bytes."""
    return _pack_words([f"{number} " for number in range(1000)] + [f"{number:03} " for number in range(1000)])


@cache
def _digits() -> np.ndarray:
    """Return the texts of 0 to 9999, first without and then with leading zeros, as words of four bytes. 0 is empty."""
    return _pack_words([f"{number or ''}" for number in range(10_000)] + [f"{number:04}" for number in range(10_000)])


def _pack_words(texts: list[str]) -> np.ndarray:
    """Return texts of up to four ASCII characters, filled up with null characters: (n,) uint32."""
    return np.array(texts, dtype="S4").view(np.uint32)


def parse_rle(text: str, pixels: int, format: RleFormat = DEFAULT_FORMAT) -> np.ndarray:
    """Read and check the runs of a text.

    Args:
        text: ``"start length ..."``, or ``format.empty``.
        pixels: number of pixels of the image.
        format: RLE format.

    Returns:
        (n, 2) int64. Runs that touch are allowed.

    Raises:
        ValueError: the text has something else than decimal integers, an odd number of them, a start before the first
            pixel, a length below 1, runs that are not sorted or overlap, or a run that leaves the image.
    """
    if format.empty and text.strip() == format.empty:
        return np.empty((0, 2), dtype=np.int64)
    numbers = _parse_numbers(text)
    if len(numbers) % 2:
        raise ValueError(f"{len(numbers)} numbers are not pairs of start and length")
    runs = numbers.reshape(-1, 2)
    if format.offsets == "relative":
        if len(runs) and runs.max() > pixels:
            raise ValueError(f"a number is larger than the {pixels} pixels of the image")
        runs[1:, 0] += np.cumsum(runs.sum(axis=1))[:-1]
    if len(runs):
        runs[:, 0] -= format.base
    _check_runs(runs, pixels, format)
    return runs


def _parse_numbers(text: str) -> np.ndarray:
    """Parse integers separated by white space: (n,) int64."""
    if not text or text.isspace():
        return np.empty(0, dtype=np.int64)
    if text.isascii() and not text.encode().translate(None, b"0123456789 \t\r\n"):
        # Faster than a list of words, see docs/experiments.md.
        numbers = np.fromstring(text, dtype=np.int64, sep=" ")
        if numbers.max() < _LARGEST:
            return numbers
    for field in text.split():
        # isdigit alone accepts the digits of other scripts too, which Kaggle may not.
        if not (field.isascii() and field.isdigit()):
            raise ValueError(f"{field[:20]!r} is not an integer")
    try:
        return np.array(text.split(), dtype=np.int64)
    except OverflowError:
        raise ValueError("a number is too large") from None


def _check_runs(runs: np.ndarray, pixels: int, format: RleFormat) -> None:
    starts, lengths = runs[:, 0], runs[:, 1]
    ends = starts + lengths
    if not len(runs) or (
        starts[0] >= 0 and lengths.min() >= 1 and runs.max() <= pixels <= 2**62 and ends[-1] <= pixels
        and (starts[1:] >= ends[:-1]).all()
    ):  # fmt: skip
        return
    checks = (
        (starts < 0, f"starts before pixel {format.base}"),
        (lengths < 1, "has length 0"),
        (np.append(False, starts[1:] < ends[:-1]), "starts before the previous run ends"),
        (lengths > pixels - starts, f"leaves the image of {pixels} pixels"),
    )
    for where, message in checks:
        if where.any():
            index = int(where.argmax())
            raise ValueError(f"run {index + 1} ({starts[index] + format.base} {lengths[index]}) {message}")


def merge_runs(masks: list[np.ndarray]) -> np.ndarray:
    """Return the runs of the union of masks, (n, 2) int64; the runs of different masks may overlap."""
    if len(masks) == 1:
        return masks[0]
    runs = np.concatenate(masks)
    runs = runs[runs[:, 0].argsort(kind="stable")]
    ends = np.maximum.accumulate(runs.sum(axis=1))
    first = np.append(True, runs[1:, 0] > ends[:-1])[: len(runs)]
    last = np.append(first[1:], True)[: len(runs)]
    return np.stack([runs[first, 0], ends[last] - runs[first, 0]], axis=1)


def count_overlap(first: np.ndarray, second: np.ndarray) -> int:
    """Count the pixels that two masks share, each given as runs (n, 2) int64, sorted and disjoint."""
    # At each bound of a run, being in exactly one of the masks begins or ends.
    bounds = np.concatenate([first, second])
    bounds[:, 1] += bounds[:, 0]
    bounds = bounds.ravel()
    bounds.sort()
    in_one = (bounds[1::2] - bounds[::2]).sum()
    return int(first[:, 1].sum() + second[:, 1].sum() - in_one) // 2
