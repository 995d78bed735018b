"""Find out what the CSV files of a data folder hold: ids, classes, run-length encoding and its format."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.competition import PixelOrder
from pipeline.data.csv_records import read_csv_records
from pipeline.data.rle import RleFormat, parse_rle, runs_to_mask
from pipeline.errors import UserError

MAX_ROWS = 20_000
"""Rows of a file that are looked at."""
_RLE = re.compile(r"\d+ \d+( \d+ \d+)*")
_EMPTY = ("", "-1", "nan", "NaN")
_RLE_NAME = re.compile(r"rle|pixel|annotation|predict|mask", re.IGNORECASE)
_COMMON = 0.9
_MAX_CLASSES = 50
_TRIED_ROWS = 40


@dataclass(frozen=True)
class MaskTable:
    """A CSV of masks."""

    path: Path
    columns: Mapping[str, str]
    """Column -> template of {id}, {class} and {rle}; the other columns of the file are left out."""
    others: tuple[str, ...]
    """Its other columns."""
    classes: tuple[str, ...]
    rows: tuple[tuple[str, str, str], ...]
    """(id, class or "", RLE)."""
    with_suffix: bool
    """Whether its ids are file names with their suffix."""

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(id, RLE) of the rows that are not empty."""
        return [(id, rle) for id, _, rle in self.rows if rle not in _EMPTY]

    @property
    def empty(self) -> str:
        """Text of an empty mask."""
        return next((rle for *_, rle in self.rows if rle == "-1"), "")

    @property
    def rows_are_objects(self) -> bool:
        """Whether an image has several rows of one class."""
        return any(count > 1 for count in Counter((id, name) for id, name, _ in self.rows).values())


def find_mask_tables(data: Path, stems: Collection[str], names: Collection[str]) -> list[MaskTable]:
    """Read the CSV files in the data folder that have a row of run-length encoding for known images.

    Args:
        data: the data folder; folders below it are not searched.
        stems: stems of all images.
        names: their file names.
    """
    tables = (_read_table(path, stems, names) for path in sorted([*data.glob("*.csv"), *data.glob("*.csv.gz")]))
    return [table for table in tables if table]


def guess_rle_format(texts: Sequence[tuple[str, tuple[int, int]]], empty: str) -> tuple[RleFormat, str]:
    """Guess pixel order, offsets and base from some rows.

    In the right pixel order, objects have short outlines; in the wrong one their lines are torn apart.

    Args:
        texts: (RLE, (height, width)) of rows that are not empty.
        empty: text of an empty mask.

    Returns:
        The format, and the evidence for it in words.
    """
    starts = [np.array(text.split(), dtype=np.int64)[::2] for text, _ in texts]
    relative = any((np.diff(each) <= 0).any() for each in starts)
    base = 0 if any(each[0] == 0 for each in starts) else 1
    outlines = {}
    for order in ("row", "column"):
        format = RleFormat(order, "relative" if relative else "absolute", base, empty)
        outlines[order] = sum(_outline(text, shape, format) for text, shape in texts[:_TRIED_ROWS])
    best: PixelOrder = "row" if outlines["row"] < outlines["column"] else "column"
    other = outlines["column" if best == "row" else "row"]
    sure = (
        f"guessed: masks decoded in the other order have {other / max(1, outlines[best]):.1f} times longer boundaries"
    )
    return RleFormat(best, "relative" if relative else "absolute", base, empty), sure


def _outline(text: str, shape: tuple[int, int], format: RleFormat) -> int:
    """Return the length of the outline of a mask in pixels; that of a checkerboard if the text is not valid."""
    try:
        mask = runs_to_mask(parse_rle(text, shape[0] * shape[1], format), shape, format.order)
    except ValueError:
        return 2 * shape[0] * shape[1]
    return int((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum())


def _read_table(path: Path, stems: Collection[str], names: Collection[str]) -> MaskTable | None:
    try:
        records = read_csv_records(path)
        _, header = next(records, (1, []))
        rows = [fields for _, fields in islice(records, MAX_ROWS) if len(fields) == len(header)]
    except (UserError, csv.Error):
        return None
    if not rows:
        return None
    by_column = {name: [row[number] for row in rows] for number, name in enumerate(header)}
    rle = _find_rle_column(by_column)
    if rle is None:
        return None
    found = _find_id_column({name: values for name, values in by_column.items() if name != rle}, stems, names)
    if found is None:
        return None
    id_column, ids, composite = found
    classes, class_column = [], None
    if any(composite):
        classes = composite
    elif (class_column := _find_class_column(by_column, id_column, rle)) is not None:
        classes = by_column[class_column]
    columns = {id_column: "{id}_{class}" if any(composite) else "{id}", rle: "{rle}"}
    if class_column is not None:
        columns[class_column] = "{class}"
    texts = [_EMPTY[0] if text.lower() == "nan" else text for text in by_column[rle]]
    return MaskTable(
        path,
        {name: columns[name] for name in header if name in columns},
        tuple(name for name in header if name not in columns),
        _sort_classes(set(classes)),
        tuple(zip(ids, classes or [""] * len(ids), texts, strict=True)),
        sum(id in names for id in ids) > sum(id in stems for id in ids),
    )


def _sort_classes(names: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=int if all(name.isdigit() for name in names) else None))


def _find_rle_column(by_column: Mapping[str, Sequence[str]]) -> str | None:
    """Return the column of run-length encoding: by its values, or by its name if all values are empty."""
    for name, values in by_column.items():
        filled = [value for value in values if value not in _EMPTY]
        if filled and sum(bool(_RLE.fullmatch(value)) for value in filled) > _COMMON * len(filled):
            return name
        if not filled and _RLE_NAME.search(name):
            return name
    return None


def _find_id_column(
    by_column: Mapping[str, Sequence[str]], stems: Collection[str], names: Collection[str]
) -> tuple[str, list[str], list[str]] | None:
    """Return the column of ids, the ids, and the classes that follow them after a ``_`` ("" for none)."""
    for name, values in by_column.items():
        split = [_split_id(value, stems, names) for value in values]
        known = [parts for parts in split if parts]
        if len(known) > _COMMON * len(values):
            ids = [parts[0] if parts else value for parts, value in zip(split, values, strict=True)]
            return name, ids, [parts[1] if parts else "" for parts in split]
    return None


def _split_id(value: str, stems: Collection[str], names: Collection[str]) -> tuple[str, str] | None:
    """Split ``image`` or ``image_class``; None if there is no such image."""
    for id, name in _splits(value):
        if id in names or id in stems:
            return id, name
    return None


def _splits(value: str) -> Iterator[tuple[str, str]]:
    yield value, ""
    for match in re.finditer("_", value):
        yield value[: match.start()], value[match.end() :]


def _find_class_column(by_column: Mapping[str, Sequence[str]], id_column: str, rle: str) -> str | None:
    """Return a column with a few different values that is named like a class, or differs within an image."""
    ids = by_column[id_column]
    for name, values in by_column.items():
        distinct = set(values)
        if name in (id_column, rle) or not 2 <= len(distinct) <= _MAX_CLASSES:
            continue
        named = "class" in name.lower() or "category" in name.lower()
        tells_apart = len(set(ids)) < len(ids) == len(set(zip(ids, values, strict=True)))
        if named or tells_apart:
            return name
    return None
