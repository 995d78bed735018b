"""Validation of configuration files: a parsed TOML file in, a frozen model out, errors that name file, key and fix."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import UserError


class Config(BaseModel):
    """Base class of every table in a configuration file: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Model = TypeVar("Model", bound=Config)


def validate_config(
    model: type[Model], values: dict[str, Any], path: Path, renamed: Mapping[str, str] | None = None
) -> Model:
    """Build `model` from parsed values.

    Args:
        model: the class to build.
        values: nested dictionaries, as parsed from TOML.
        path: the file they come from, for the message.
        renamed: old dotted key -> new dotted key, for messages about files of earlier versions.

    Raises:
        UserError: a key is unknown, missing or has a value of the wrong kind; the first one is reported.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _user_error(error, model, path, renamed or {}) from None


def _user_error(error: ValidationError, model: type[BaseModel], path: Path, renamed: Mapping[str, str]) -> UserError:
    faults = error.errors(include_url=False)
    # Unknown keys first: a renamed key is also reported as missing under its new name.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    # Tagged unions put their tag into the location; a user knows only the keys of the file.
    keys = [str(part) for part in fault["loc"] if not str(part).startswith("tag:")]
    key = ".".join(keys) or "the file"
    if fault["type"] == "extra_forbidden":
        if key in renamed:
            return UserError(path, f"{key} is now called {renamed[key]}", "rename it")
        similar = difflib.get_close_matches(keys[-1], known_keys(model), n=1)
        fix = f"did you mean {similar[0]}?" if similar else "remove it or correct its name"
        return UserError(path, f"{key} is not a known key", fix)
    if fault["type"] == "missing":
        return UserError(path, f"{key} is missing", "add it")
    reason = fault["msg"].removeprefix("Value error, ")
    return UserError(path, f"{key} is {fault['input']!r}", f"{reason[0].lower()}{reason[1:]}")


def known_keys(model: type[BaseModel]) -> list[str]:
    """List every key of a model and of the tables below it, without their tables' names."""
    keys: list[str] = []
    pending: list[Any] = [model]
    while pending:
        kind = pending.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += kind.model_fields
            pending += [field.annotation for field in kind.model_fields.values()]
        else:
            pending += getattr(kind, "__args__", ())
    return keys
