"""The group and the stratum of an image, from its name or from a table."""

import csv
import re
from pathlib import Path

from pipeline.competition import Competition
from pipeline.competition.files import GroupsConfig
from pipeline.data.patterns import FoundFile, fill_key
from pipeline.errors import UserError
from pipeline.paths import competition_toml


class SampleGroups:
    """Find the group and the stratum of images.

    Args:
        competition: its ``[groups]`` table is used.
        data: the data folder.

    Raises:
        UserError: the table cannot be read.
    """

    def __init__(self, competition: Competition, data: Path) -> None:
        self.competition = competition
        self.config = competition.groups or GroupsConfig.model_construct()
        self.pattern = re.compile(self.config.pattern) if self.config.pattern else None
        self.table = _read_table(data / self.config.csv, self.config) if self.config.csv else {}

    def group(self, file: FoundFile, id: str, place: str) -> str:
        """Return the group of an image that was found at `place`; its own one if the competition has no groups.

        Raises:
            UserError: the name has no group.
        """
        if self.pattern:
            match = self.pattern.match(file.path.stem)
            if not match:
                toml = competition_toml(self.competition.name)
                raise UserError(file.path, "its name does not match groups.pattern", f"rename it, or correct {toml}")
            return match.group(1)
        if self.config.name:
            return fill_key(self.competition, self.config.name, file, "groups.name")
        return self._column_of(file.path, id) or f"{place}/{id}"

    def find_group(self, path: Path) -> str | None:
        """Return the group of a file in any folder by its name; None if the name does not tell it."""
        if self.pattern:
            match = self.pattern.match(path.stem)
            return match.group(1) if match else None
        return self._column_of(path, path.stem)

    def stratum(self, file: FoundFile, id: str) -> str:
        """Return the value of the stratum column; empty if there is none."""
        row = self._row(file.path, id)
        return row[self.config.stratum] if self.config.stratum and row else ""

    def _column_of(self, path: Path, id: str) -> str | None:
        row = self._row(path, id)
        return row[self.config.column] if self.config.column and row else None

    def _row(self, path: Path, id: str) -> dict[str, str] | None:
        """Return the row of the table that names the id, or the file."""
        return self.table.get(id) or self.table.get(path.name)


def _read_table(path: Path, config: GroupsConfig) -> dict[str, dict[str, str]]:
    """Read a table of metadata by id; of several rows with one id, the first counts."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for column in filter(None, (config.id, config.column, config.stratum)):
                if column not in (reader.fieldnames or ()):
                    what = f"has no column {column!r}, only {', '.join(reader.fieldnames or ())}"
                    raise UserError(path, what, "correct the [groups] table of the competition")
            table: dict[str, dict[str, str]] = {}
            for row in reader:
                table.setdefault(row[config.id], row)
            return table
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(path, f"cannot be read ({error})", "download it again, or correct groups.csv") from None
