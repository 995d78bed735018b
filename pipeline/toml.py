"""Read TOML files and apply ``table.key=value`` overrides.

Standard library only: the Makefile needs it before anything is installed.
"""

import copy
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

_OPENING, _CLOSING, _QUOTES = "[{", "]}", "\"'"


def read_toml(path: Path) -> dict[str, Any]:
    """Parse one TOML file.

    Returns:
        Nested dictionaries of plain values.

    Raises:
        UserError: the file does not exist, is not UTF-8 or is not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.toml"))) or "none"
        raise UserError(path, "no such file", f"files in {path.parent}/ are: {names}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(path, f"is not valid TOML ({error})", "correct it") from None


def read_toml_with_base(path: Path) -> dict[str, Any]:
    """Parse a TOML file; with ``base = "other"`` it extends ``other.toml`` of the same folder.

    Tables are merged key by key, every other value of the base is replaced.

    Raises:
        UserError: as `read_toml`.
    """
    values = read_toml(path)
    if "base" not in values:
        return values
    base = str(values.pop("base"))
    return merge_tables(read_toml(path.with_name(f"{base}.toml")), values)


def merge_tables(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` updated with `changes`, recursively for nested tables."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge_tables(merged[key], value) if both else value
    return merged


def split_assignments(text: str) -> list[str]:
    """Split ``a.b=1 c={x = 2}`` at the spaces between assignments.

    Spaces inside brackets, braces and quotes belong to a value.

    Args:
        text: zero or more ``table.key=value`` assignments separated by spaces.

    Returns:
        One string per assignment.
    """
    assignments, current, depth, quote = [], "", 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in _QUOTES:
            quote = char
        elif char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth -= 1
        if char.isspace() and not quote and depth <= 0:
            assignments.append(current)
            current = ""
        else:
            current += char
    return [assignment for assignment in [*assignments, current] if assignment]


def apply_overrides(values: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply ``table.key=value`` assignments to parsed TOML.

    Values are written as in TOML. A bare word is a string: ``network.norm=group`` needs no inner quotes.

    Raises:
        UserError: an assignment has no ``=`` or no key, or names a table below a plain value.
    """
    result = copy.deepcopy(values)
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        *tables, key = names = dotted.strip().split(".")
        if not equals or not all(names):
            raise UserError(f"--set {assignment}", "is not an assignment", "write table.key=value: train.epochs=3")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        target = result
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise UserError(f"--set {assignment}", f"{table} is a value, not a table", "correct the key")
        target[key] = value
    return result
