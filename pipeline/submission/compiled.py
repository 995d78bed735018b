"""Loops over the runs of a submission, compiled by numba. They release the interpreter, so that threads run at once.

`pipeline/data/rle.py` does the same in NumPy and serves single masks: to import numba can take a second. Masks are
arrays of runs, (n, 2) int64: 0-based start and length, sorted and disjoint.
"""

import numpy as np

from pipeline.data.rle import RleFormat
from pipeline.jit import compile_loop

_MAX_DIGITS = 19
"""Digits of the largest int64."""


def parse_regular_rle(text: str, pixels: int, format: RleFormat) -> np.ndarray | None:
    """Parse a valid text whose numbers are separated by one space.

    Args:
        text: ``"start length ..."``.
        pixels: number of pixels of the image, at most 2**48.
        format: RLE format.

    Returns:
        The runs, as from `pipeline.data.rle.parse_rle`; None for any other text, also for an empty one.
    """
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    runs = np.empty(((len(data) + 1) // 4, 2), dtype=np.int64)
    count = _parse(data, format.base, pixels, format.offsets == "relative", runs)
    return runs[:count] if count > 0 else None


@compile_loop
def _parse(text: np.ndarray, base: int, pixels: int, relative: bool, runs: np.ndarray) -> int:
    """Fill `runs` from ASCII text and return their number; -1 if the text is not regular."""
    numbers = end = 0
    number = -1
    for position in range(text.size + 1):
        character = text[position] if position < text.size else 32
        if 48 <= character <= 57:
            number = max(number, 0) * 10 + (character - 48)
            if number > pixels:
                return -1
        elif character != 32 or number < 0:
            return -1
        else:
            run = numbers // 2
            if numbers % 2 == 0:
                start = end + number if relative and run > 0 else number - base
                if start < end:
                    return -1
                runs[run, 0] = start
            else:
                end = runs[run, 0] + number
                if number == 0 or end > pixels:
                    return -1
                runs[run, 1] = number
            numbers += 1
            number = -1
    return numbers // 2 if numbers % 2 == 0 else -1


def write_rle(runs: np.ndarray, format: RleFormat) -> str:
    """Write runs as text, as `pipeline.data.rle.runs_to_rle` does."""
    if not len(runs):
        return format.empty
    text = np.empty(runs.size * (_MAX_DIGITS + 1), dtype=np.uint8)
    length = _write(runs, format.base, format.offsets == "relative", text)
    return text[:length].tobytes().decode("ascii")


@compile_loop
def _write(runs: np.ndarray, base: int, relative: bool, text: np.ndarray) -> int:
    """Fill `text` and return its length without the last space."""
    length = 0
    origin = -base
    for run in range(len(runs)):
        for number in (runs[run, 0] - origin, runs[run, 1]):
            digits = 1
            limit = 10
            while digits < _MAX_DIGITS and number >= limit:
                digits += 1
                limit *= 10
            for place in range(length + digits - 1, length - 1, -1):
                text[place] = 48 + number % 10
                number //= 10
            text[length + digits] = 32
            length += digits + 1
        if relative:
            origin = runs[run, 0] + runs[run, 1]
    return length - 1


@compile_loop
def count_common_pixels(first: np.ndarray, second: np.ndarray) -> int:
    """Count the pixels that two masks share, as `pipeline.data.rle.count_overlap` does."""
    total = i = j = 0
    while i < len(first) and j < len(second):
        first_end = first[i, 0] + first[i, 1]
        second_end = second[j, 0] + second[j, 1]
        total += max(0, min(first_end, second_end) - max(first[i, 0], second[j, 0]))
        if first_end < second_end:
            i += 1
        else:
            j += 1
    return total


@compile_loop
def merge_by_majority(bounds: np.ndarray, stops: np.ndarray, weights: np.ndarray, merged: np.ndarray) -> int:
    """Find the pixels that voters with more than half of the total weight have.

    Args:
        bounds: (n,) int64, start and end of each run of the first voter, then of the next one, and so on.
        stops: (voters,) int64, where the bounds of each voter stop.
        weights: (voters,) int64.
        merged: (n,) int64, receives the bounds of the majority.

    Returns:
        The number of bounds in `merged`.
    """
    voters = len(stops)
    heads = np.zeros(voters, dtype=np.int64)
    heads[1:] = stops[:-1]
    changes = weights.copy()
    total = weights.sum()
    weight = count = 0
    while True:
        position = -1
        for voter in range(voters):
            if heads[voter] < stops[voter] and (position < 0 or bounds[heads[voter]] < position):
                position = bounds[heads[voter]]
        if position < 0:
            return count
        for voter in range(voters):
            # The end of a run and the start of the next one can be the same position.
            while heads[voter] < stops[voter] and bounds[heads[voter]] == position:
                weight += changes[voter]
                changes[voter] = -changes[voter]
                heads[voter] += 1
        if (2 * weight > total) != (count % 2 == 1):
            merged[count] = position
            count += 1
