"""Find files by a folder or by a pattern of paths with fields: ``case{case}/scans/slice_{slice}_*.png``."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.competition import Competition
from pipeline.competition.files import is_pattern, template_fields
from pipeline.errors import UserError
from pipeline.paths import competition_toml

_TOKEN = re.compile(r"{(\w+)}|\*")


class FoundFile(NamedTuple):
    """A file and the values of the fields in its path."""

    path: Path
    fields: Mapping[str, str]
    """Those of the pattern, and name and stem of the file; without a pattern, id is the stem."""


def find_files(data: Path, place: str, suffixes: Sequence[str] = ()) -> list[FoundFile]:
    """List the files of a folder or of a pattern, sorted by path.

    Args:
        data: the folder that `place` is relative to.
        place: a folder, whose files with one of the suffixes are listed; or a pattern in which ``*`` and ``{field}``
            stand for a part of a name, never for a ``/``. A field that occurs twice has the same value twice.
        suffixes: lower-case suffixes, for a folder.

    Raises:
        UserError: the folder does not exist.
    """
    if not is_pattern(place):
        return _list_folder(data, place, suffixes)
    if not (data / fixed_part(place)).is_dir():
        raise UserError(data / fixed_part(place), "no such folder", "set DATA to the data folder")
    regex = re.compile(_regex(place))
    found = []
    for path in sorted(data.glob(_TOKEN.sub("*", place))):
        match = regex.fullmatch(path.relative_to(data).as_posix())
        if match and path.is_file():
            found.append(FoundFile(path, {"name": path.name, "stem": path.stem, "id": path.stem, **match.groupdict()}))
    return found


def fixed_part(place: str) -> str:
    """Return the leading folders of a pattern, those without ``*`` and fields."""
    parts = PurePosixPath(place).parts
    fixed = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    return str(PurePosixPath(*parts[:fixed]))


def fill(template: str, fields: Mapping[str, str]) -> str:
    """Replace the ``{fields}`` of a template.

    Raises:
        KeyError: a field has no value.
    """
    for field in template_fields(template):
        template = template.replace(f"{{{field}}}", fields[field])
    return template


def _list_folder(data: Path, place: str, suffixes: Sequence[str]) -> list[FoundFile]:
    try:
        paths = sorted(path for path in (data / place).iterdir() if path.suffix.lower() in suffixes)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(data / place, "no such folder", f"set DATA to the folder that contains {place}/") from None
    return [FoundFile(path, {"name": path.name, "stem": path.stem, "id": path.stem}) for path in paths]


def _regex(pattern: str) -> str:
    """Convert a pattern to a regular expression for relative paths."""
    result, end, seen = "", 0, set()
    for token in _TOKEN.finditer(pattern):
        result += re.escape(pattern[end : token.start()])
        field = token[1]
        if field is None:
            result += "[^/]*"
        elif field in seen:
            result += f"(?P={field})"
        else:
            result += f"(?P<{field}>[^/]+?)"
            seen.add(field)
        end = token.end()
    return result + re.escape(pattern[end:])


def fill_key(competition: Competition, template: str, file: FoundFile, key: str) -> str:
    """Fill the template that a key of the competition holds.

    Raises:
        UserError: the template uses a field that the path of the file does not have.
    """
    try:
        return fill(template, file.fields)
    except KeyError as error:
        known = ", ".join(f"{{{name}}}" for name in file.fields)
        what = f"{key} uses the field {{{error.args[0]}}}, which the path of {file.path} does not have"
        raise UserError(competition_toml(competition.name), what, f"use one of {known}") from None
