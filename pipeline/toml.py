"""Read TOML files and apply ``table.key=value`` overrides.

Standard library only: the Makefile needs it before anything is installed.
"""

import copy
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

MAX_BYTES = 1 << 20
"""Largest TOML file that is read. Those of this repository have less than 10 kB."""
MAX_DEPTH = 20
"""Most tables and lists inside one another, far below the depth at which Python's recursion ends."""
_MAX_INTEGER = 2**63 - 1
"""TOML promises no larger numbers."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.+-]*")

_OPENING, _CLOSING, _QUOTES = "[{", "]}", "\"'"


def read_toml(path: Path) -> dict[str, Any]:
    """Parse one TOML file.

    Returns:
        Nested dictionaries of plain values.

    Raises:
        UserError: the file does not exist, is not UTF-8 or is not valid TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.toml"))) or "none"
        raise UserError(path, "no such file", f"files in {path.parent}/ are: {names}") from None
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "check the path") from None
    except ValueError:
        raise UserError(repr(str(path)), "is not a path", "correct the name") from None
    if len(content) > MAX_BYTES:
        raise UserError(path, f"has more than {MAX_BYTES // 1024} kB", "correct the path")
    try:
        return parse_toml(content.decode())
    except ValueError as error:
        raise UserError(path, f"is not valid TOML ({error})", "correct it") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: it is not valid, is nested more than `MAX_DEPTH` deep, or has an integer of more than 64 bits.
    """
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    # Without recursion, because a long dotted key nests deeper than Python can recurse.
    level: list[Any] = [values]
    for _ in range(MAX_DEPTH + 1):
        level = [child for value in level for child in _children(value)]
        if any(isinstance(value, int) and abs(value) > _MAX_INTEGER for value in level):
            raise ValueError("an integer has more than 64 bits")
    if level:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    return values


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def base_name(values: dict[str, Any], path: Path) -> str | None:
    """Return the name of the file that a parsed TOML file extends, without suffix; None without the key ``base``.

    Raises:
        UserError: it is not the name of a file of the same folder.
    """
    base = values.get("base")
    if base is None or (isinstance(base, str) and _NAME.fullmatch(base)):
        return base
    raise UserError(path, f"base is {str(base)[:80]!r}", f"name a file of {path.parent}/ without its suffix")


def read_toml_with_base(path: Path) -> dict[str, Any]:
    """Parse a TOML file; with ``base = "other"`` it extends ``other.toml`` of the same folder.

    Tables are merged key by key, every other value of the base is replaced.

    Raises:
        UserError: as `read_toml`.
    """
    values = read_toml(path)
    base = base_name(values, path)
    if base is None:
        return values
    del values["base"]
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
        UserError: an assignment has no ``=`` or no key, names a table below a plain value, or is too deep or too large.
    """
    result = copy.deepcopy(values)
    for assignment in assignments:
        option = f"--set {_shorten(assignment)}"
        dotted, equals, text = assignment.partition("=")
        *tables, key = names = dotted.strip().split(".")
        if not equals or not all(names):
            raise UserError(
                _shorten(f"--set {assignment}"), "is not an assignment", "write table.key=value: train.epochs=3"
            )
        if len(names) > MAX_DEPTH:
            raise UserError(option, f"is more than {MAX_DEPTH} tables deep", "correct the key")
        value = _parse_value(text, option)
        target = result
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise UserError(option, f"{table} is a value, not a table", "correct the key")
        target[key] = value
    return result


def _parse_value(text: str, option: str) -> Any:
    """Parse a value; what is not TOML is a string."""
    try:
        parsed = parse_toml(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    except ValueError as error:
        raise UserError(option, f"is not a value ({error})", "correct it") from None
    # A line break would start further keys.
    return parsed["value"] if parsed.keys() == {"value"} else text


def _shorten(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
