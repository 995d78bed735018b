"""Validation of configuration files: a parsed TOML file in, a frozen model out, errors that name file, key and fix."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import UserError


class Config(BaseModel):
    """Base class of every table in a configuration file: immutable, finite numbers only, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


Model = TypeVar("Model", bound=Config)

_EXPECTED = {
    "bool": "expected true or false",
    "dict": "expected a table",
    "finite_number": "expected a finite number",
    "float": "expected a number",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected {ge:g} or more",
    "int": "expected a whole number",
    "less_than": "expected less than {lt:g}",
    "less_than_equal": "expected {le:g} or less",
    "list": "expected a list in brackets",
    "literal_error": "expected {expected}",
    "model": "expected a table",
    "string": "expected a text in quotes",
    "too_long": "expected {max_length} or fewer values",
    "too_short": "expected {min_length} or more values",
    "tuple": "expected a list in brackets",
    "union_tag_invalid": "expected one of {expected_tags}",
}
"""Start of pydantic's error type -> what the value should be."""


def validate_config(
    model: type[Model], values: dict[str, Any], path: Path, renamed: Mapping[str, str] | None = None
) -> Model:
    """Build `model` from parsed values. A value of another kind is not converted: ``"8"`` and ``true`` are no numbers.

    Args:
        model: the class to build.
        values: nested dictionaries, as parsed from TOML.
        path: the file they come from, for the message.
        renamed: old dotted key -> new dotted key, for messages about files of earlier versions.

    Raises:
        UserError: keys are unknown, missing or have values of the wrong kind; all of them are reported.
    """
    try:
        # Only from JSON does pydantic's strict mode read lists as tuples and text as paths. TOML's dates become text.
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise _user_error(error, model, path, renamed or {}) from None


def _user_error(error: ValidationError, model: type[BaseModel], path: Path, renamed: Mapping[str, str]) -> UserError:
    faults = dict.fromkeys(_describe(fault, model, renamed) for fault in error.errors(include_url=False))
    # A renamed key is also reported as missing under its new name.
    new_names = {renamed[key] for key in _unknown_keys(error) if key in renamed}
    faults = {(what, fix): None for what, fix in faults if what.removesuffix(" is missing") not in new_names}
    if len(faults) == 1:
        return UserError(path, *next(iter(faults)))
    lines = "\n".join(f"  {what}; {fix}" for what, fix in faults)
    return UserError(path, f"has {len(faults)} faults:\n{lines}")


def _unknown_keys(error: ValidationError) -> list[str]:
    return [_key(fault) for fault in error.errors(include_url=False) if fault["type"] == "extra_forbidden"]


def _key(fault: ErrorDetails) -> str:
    """Return the dotted key of a fault. Tagged unions put their tag into the location, which is not in the file."""
    return ".".join(str(part) for part in fault["loc"] if not str(part).startswith("tag:"))


def _describe(fault: ErrorDetails, model: type[BaseModel], renamed: Mapping[str, str]) -> tuple[str, str]:
    """Return what is wrong and how to fix it."""
    key, kind = _key(fault), fault["type"]
    if kind == "extra_forbidden":
        if key in renamed:
            return f"{key} is now called {renamed[key]}", "rename it"
        if key in known_keys(model):
            table = key.rpartition(".")[0]
            return f"{key} is a key of another kind of {table}", f"remove it or change {table}.name"
        return f"{key} is not a known key", _suggest(key, model)
    if kind == "missing":
        return f"{key} is missing", "add it"
    what = f"{key} is {_shorten(repr(fault['input']))}" if fault["loc"] else "its keys contradict each other"
    if kind == "value_error":
        return what, fault["msg"].removeprefix("Value error, ")
    starts = sorted((start for start in _EXPECTED if kind.startswith(start)), key=len)
    expected = _EXPECTED[starts[-1]] if starts else fault["msg"]
    return what, expected.format(**fault.get("ctx", {}))


def _suggest(key: str, model: type[BaseModel]) -> str:
    """Suggest the known dotted key that is most similar, or that ends with the same name."""
    known = known_keys(model)
    last = key.rpartition(".")[2]
    same_name = [name for name in known if name.rpartition(".")[2] == last]
    similar = same_name or difflib.get_close_matches(key, known, n=1) or [
        name
        for match in difflib.get_close_matches(last, [name.rpartition(".")[2] for name in known], n=1)
        for name in known
        if name.rpartition(".")[2] == match
    ]  # fmt: skip
    return f"did you mean {similar[0]}?" if similar else "remove it or correct its name"


def _shorten(text: str, length: int = 80) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """List the dotted names of every key of a model and of the tables below it."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(f"{prefix}{name}")
        pending: list[Any] = [field.annotation]
        while pending:
            kind = pending.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += known_keys(kind, f"{prefix}{name}.")
            else:
                pending += getattr(kind, "__args__", ())
    return keys
