"""Turn the text of command-line options into values. The Makefile passes every option as one string."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pipeline import paths
from pipeline.errors import UserError
from pipeline.recipe import Flip
from pipeline.storage import is_url, mirror_data
from pipeline.toml import split_assignments

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)


def parse_data(text: str, competition: str) -> Path:
    """Return the data folder; ``data/<competition>`` if `text` is empty, a local mirror if it is the URL of a store."""
    if is_url(text):
        return mirror_data(text)
    return Path(text) if text else paths.data_folder(competition)


def parse_overrides(texts: Sequence[str], seed: str = "") -> list[str]:
    """Split ``--set`` options into ``table.key=value`` assignments and append the seed, if one is given."""
    assignments = [assignment for text in texts for assignment in split_assignments(text)]
    return [*assignments, f"seed={seed}"] if seed else assignments


def parse_folds(text: str, count: int) -> list[int]:
    """Convert ``"0 2"`` or ``"0,2"`` to fold numbers; all `count` folds if `text` is empty.

    Raises:
        UserError: something else than different numbers below `count`.
    """
    words = text.replace(",", " ").split()
    numbers = [int(word) for word in words if word.isascii() and word.isdigit()]
    if len(numbers) < len(words) or any(number >= count for number in numbers) or len(set(numbers)) < len(numbers):
        fix = f"give different numbers from 0 to {count - 1}, separated by spaces"
        raise UserError(f"--folds '{text}'", "is not a list of folds", fix)
    return numbers or list(range(count))


def parse_numbers(text: str, option: str) -> list[float]:
    """Convert ``"0.5 0.3"`` or ``"0.5,0.3"`` to numbers.

    Raises:
        UserError: a word is not a finite number.
    """
    words = text.replace(",", " ").split()
    if not all(_NUMBER.fullmatch(word) for word in words):
        raise UserError(f"{option} '{text}'", "is not a list of numbers", "separate numbers by spaces")
    return [float(word) for word in words]


def parse_price(text: str) -> float | None:
    """Convert the price of an hour, ``"2.5"``; None if `text` is empty.

    Raises:
        UserError: it is not one number from 0.
    """
    numbers = parse_numbers(text, "--price") if text else []
    if not numbers:
        return None
    if len(numbers) > 1 or numbers[0] < 0:
        raise UserError(f"--price '{text}'", "is not a price", "give one number, the price of an hour, such as 2.5")
    return numbers[0]


def parse_flips(text: str) -> tuple[Flip, ...] | None:
    """Convert ``"none horizontal"`` to the views of test-time augmentation; None if `text` is empty.

    Raises:
        UserError: a word is not a flip, or occurs twice.
    """
    words = text.replace(",", " ").split()
    flips = tuple(flip for flip in get_args(Flip) if flip in words)
    if len(flips) < len(words):
        known = ", ".join(get_args(Flip))
        raise UserError(f"--flips '{text}'", "is not a list of flips", f"give different ones of {known}")
    return flips or None


def parse_paths(texts: Sequence[str]) -> list[Path]:
    """Convert options to paths. Each one is an existing path as it is, or several separated by spaces.

    Paths with spaces among several must be quoted: ``"'my file.csv' other.csv"``.
    """
    paths_found: list[Path] = []
    for text in texts:
        if Path(text).exists():
            words = [text] if text else []
        else:
            try:
                words = shlex.split(text)
            except ValueError:  # an apostrophe in a name
                words = text.split()
        paths_found += map(Path, words)
    return paths_found


def require_option(values: Sequence[object], option: str, example: str) -> None:
    """Raise a UserError if an option that the Makefile passes is empty."""
    if not values:
        raise UserError(option, "is empty", f"give it, for example {example}")
