"""The columns of a CSV of masks: which one holds the id, the class and the run-length encoding."""

import re
from collections.abc import Mapping, Sequence

from pipeline.competition import Competition


class RowFormat:
    """Convert between CSV fields and (id, class, RLE).

    Args:
        columns: column -> template of {id}, {class} and {rle}; see `pipeline.competition.CsvConfig`.
        classes: names of the classes; empty for a single class.
    """

    def __init__(self, columns: Mapping[str, str], classes: Sequence[str] = ()) -> None:
        self.header = tuple(columns)
        self.classes = tuple(classes)
        self._templates = tuple(columns.values())
        self._class_index = {name: index for index, name in enumerate(classes)}
        self._patterns = [re.compile(self._regex(template)) for template in self._templates]
        # Most competitions have the plain columns id and RLE, which need no regular expression.
        self._plain = self._templates == ("{id}", "{rle}")

    def render(self, id: str, class_index: int, rle: str) -> tuple[str, ...]:
        """Return the fields of a row."""
        if self._plain:
            return id, rle
        values = {"{id}": id, "{class}": self.classes[class_index] if self.classes else "", "{rle}": rle}
        return tuple(re.sub(r"{\w+}", lambda field: values[field[0]], template) for template in self._templates)

    def parse(self, fields: Sequence[str]) -> tuple[str, int, str]:
        """Return the id, the index of the class and the RLE of a row.

        Raises:
            ValueError: a field does not match its template; the message contains its name.
        """
        if self._plain:
            return fields[0], 0, fields[1]
        values: dict[str, str] = {}
        for field, pattern, template in zip(fields, self._patterns, self._templates, strict=True):
            match = pattern.fullmatch(field)
            if match is None:
                known = f" with a class from {', '.join(self.classes)}" if "{class}" in template else ""
                raise ValueError(f"{field[:80]!r} does not match {template}{known}")
            values |= match.groupdict()
        return values["id"], self._class_index.get(values.get("class_name", ""), 0), values["rle"]

    def describe_key(self, id: str, class_index: int) -> str:
        """Name a row in messages: its id, with its class if there are several."""
        return f"{id}, class {self.classes[class_index]}" if self.classes else id

    def _regex(self, template: str) -> str:
        names = "|".join(re.escape(name) for name in sorted(self.classes, key=len, reverse=True))
        parts = {"{id}": "(?P<id>.+)", "{class}": f"(?P<class_name>{names})", "{rle}": "(?P<rle>(?s:.*))"}
        return "".join(parts.get(piece, re.escape(piece)) for piece in re.split(r"({\w+})", template))


def submission_format(competition: Competition) -> RowFormat:
    """Return the format of submissions, the sample submission and the solution."""
    return RowFormat(competition.csv.columns, competition.classes)


def train_format(competition: Competition) -> RowFormat:
    """Return the format of ``csv.train``."""
    return RowFormat(competition.csv.train_columns or competition.csv.columns, competition.classes)
