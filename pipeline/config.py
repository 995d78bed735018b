"""Settings files: TOML in, a frozen and validated model out, and errors that name file, key and fix."""

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import UserError


class Settings(BaseModel):
    """Base of every table in a settings file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Model = TypeVar("Model", bound=Settings)


def read_toml(path: Path) -> dict[str, Any]:
    """Parse one TOML file into nested dictionaries.

    Raises:
        UserError: the file is missing (the message lists its neighbours) or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = sorted(file.stem for file in path.parent.glob("*.toml"))
        raise UserError(f"{path}: no such file; {path.parent}/ has: {', '.join(names) or 'nothing'}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid TOML: {error}") from None


def validate(model: type[Model], values: dict[str, Any], path: Path) -> Model:
    """Build `model` from parsed values; the first fault becomes a UserError that names `path` and the key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error, model)}") from None


def override(values: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply `table.key=value` assignments on top of parsed TOML; the values are written as in TOML.

    A bare word is taken as a string, so that `network.norm=group` needs no quotes inside a shell's quotes.
    """
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted.strip():
            raise UserError(f"--set {assignment}: expected table.key=value, such as train.epochs=3")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *tables, key = dotted.strip().split(".")
        target = result
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise UserError(f"--set {assignment}: {table} is a value, not a table")
        target[key] = value
    return result


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault of a validation error, in words: which key, what is wrong, what was there."""
    fault = error.errors(include_url=False)[0]
    # Tagged unions put their tag into the location; a user knows only the keys of the file.
    path = [str(part) for part in fault["loc"] if not str(part).startswith("tag:")]
    key = ".".join(path) or "the file"
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _known_keys(model), n=1)
        return f"{key} is not a known key" + (
            f"; did you mean {near[0]}?" if near else "; remove it or correct its name"
        )
    if fault["type"] == "missing":
        return f"{key} is missing; add it"
    reason = fault["msg"].removeprefix("Value error, ")
    return f"{key}: {reason[0].lower()}{reason[1:]}, but it is {fault['input']!r}"


def _known_keys(model: type[BaseModel]) -> list[str]:
    """Every key of a model and of the tables below it, for suggestions."""
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
