"""Properties of images by which a report groups scores: columns of a table, and parts of file names."""

import csv
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.competition import Competition
from pipeline.competition.files import AttributesConfig
from pipeline.data.samples import Sample
from pipeline.errors import UserError

log = logging.getLogger(__name__)


def read_attributes(competition: Competition, data: Path, samples: Sequence[Sample]) -> dict[str, dict[str, str]]:
    """Read the properties of images that the ``[attributes]`` table names.

    A missing file is logged and left out, because only reports use it.

    Args:
        competition: its ``[attributes]`` table is used.
        data: the data folder.
        samples: the images.

    Returns:
        Id -> name of a property -> value; a property of which nothing is known is left out.

    Raises:
        UserError: the table has not the columns, or is damaged.
    """
    config = competition.attributes
    if config is None:
        return {sample.id: {} for sample in samples}
    table = _read_table(data / config.csv, config) if config.csv else {}
    pattern = re.compile(config.pattern) if config.pattern else None
    result = {}
    for sample in samples:
        values = dict(table.get(sample.group if config.key == "group" else sample.id, {}))
        if pattern and (match := pattern.search(sample.image.stem)):
            values |= {name: value for name, value in match.groupdict().items() if value}
        result[sample.id] = values
    return result


def _read_table(path: Path, config: AttributesConfig) -> dict[str, dict[str, str]]:
    """Read the columns of a table by id; of several rows with one id, the first counts."""
    table: dict[str, dict[str, str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for column in (config.id, *config.columns):
                if column not in (reader.fieldnames or ()):
                    what = f"has no column {column!r}, only {', '.join(reader.fieldnames or ())}"
                    raise UserError(path, what, "correct the [attributes] table of the competition")
            for row in reader:
                table.setdefault(row[config.id], {name: row[name] for name in config.columns if row[name]})
    except FileNotFoundError:
        log.warning("%s: is missing, so the report has no scores by %s", path, ", ".join(config.columns))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(path, f"cannot be read ({error})", "download it again, or correct attributes.csv") from None
    return table
