"""Exclude or repair faulty ground-truth masks for training, by a list beside the competition's file."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline.competition import Competition
from pipeline.data.masks import mask_size
from pipeline.data.readers import ImageReader
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.paths import competition_toml

log = logging.getLogger(__name__)

_COLUMNS = {"id", "mask"}
_FIX = "correct the list; docs/new-competition.md describes it"


def correct_samples(competition: Competition, samples: Sequence[Sample], train: Sequence[Sample]) -> list[Sample]:
    """Apply ``masks.corrections`` to the samples that a fold trains on.

    Validation and evaluation compare with the masks that the competition gave, faults included, so that scores with
    and without corrections are comparable.

    Args:
        competition: names the list, a CSV with the columns id, mask and, if there are several classes, class. An image
            with an empty mask is excluded; otherwise mask is a file, relative to the list.
        samples: all training samples; the list must not name others.
        train: those to train on.

    Returns:
        `train` in the same order, without the excluded samples.

    Raises:
        UserError: the list cannot be read, is contradictory, names an unknown image, or names a mask that does not
            exist or is not as large as its image.
    """
    if (path := _list_path(competition)) is None:
        return list(train)
    repairs = _read_corrections(path, competition.classes)
    if unknown := sorted(repairs.keys() - {sample.id for sample in samples}):
        raise UserError(path, f"names {unknown[0]}, which is no training image", _FIX)
    reader = ImageReader(competition)
    corrected = [
        _repair(path, sample, repairs[sample.id], reader) if sample.id in repairs else sample for sample in train
    ]
    kept = [sample for sample in corrected if sample is not None]
    repaired = sum(sample.id in repairs for sample in kept)
    log.info("%s: excludes %d and repairs %d training images", path, len(train) - len(kept), repaired)
    return kept


def correction_files(competition: Competition) -> list[Path]:
    """Return the list of corrections and the masks that it names; nothing if the competition has no list.

    Raises:
        UserError: the list cannot be read, or names a mask that does not exist.
    """
    if (path := _list_path(competition)) is None:
        return []
    repairs = _read_corrections(path, competition.classes)
    return [path, *(mask for masks in repairs.values() for _, mask in masks)]


def fingerprint_repairs(train: Sequence[Sample], corrected: Sequence[Sample]) -> str:
    """Return a short hash of the contents of repaired masks; empty if there are none.

    Args:
        train: samples before `correct_samples`.
        corrected: samples after it.
    """
    originals = {sample.id: sample.masks for sample in train}
    repaired = [sample for sample in corrected if sample.masks != originals[sample.id]]
    contents = hashlib.sha256()
    for sample in repaired:
        for class_index, mask in sample.masks:
            contents.update(f"{sample.id} {class_index}\n".encode() + mask.read_bytes())
    return contents.hexdigest()[:16] if repaired else ""


def _list_path(competition: Competition) -> Path | None:
    name = competition.masks.corrections
    return competition_toml(competition.name).parent / name if name else None


def _read_corrections(path: Path, classes: Sequence[str]) -> dict[str, list[tuple[int, Path]]]:
    """Return id -> (index of the class, mask file) of its repaired masks; none for an excluded image."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", _FIX) from None
    except ValueError as error:
        raise UserError(path, f"is not a table ({str(error)[:100]})", _FIX) from None
    expected = _COLUMNS | ({"class"} if classes else set())
    if set(table.columns) != expected:
        what = f"has the columns {', '.join(table.columns)} instead of {', '.join(sorted(expected))}"
        raise UserError(path, what, _FIX)
    repairs: defaultdict[str, list[tuple[int, Path]]] = defaultdict(list)
    excluded = set()
    for line, row in enumerate(table.to_dict("records"), start=2):
        repairs[row["id"]]  # an excluded image has no repaired masks
        if not row["mask"]:
            excluded.add(row["id"])
            continue
        if classes and row["class"] not in classes:
            raise UserError(path, f"line {line} has the class {row['class']!r}", f"use one of {', '.join(classes)}")
        mask = path.parent / row["mask"]
        if not mask.is_file():
            raise UserError(path, f"line {line} names {mask}, which is no file", _FIX)
        repairs[row["id"]].append((classes.index(row["class"]) if classes else 0, mask))
    if both := sorted(id for id in excluded if repairs[id]):
        raise UserError(path, f"excludes and repairs {both[0]}", _FIX)
    return repairs


def _repair(path: Path, sample: Sample, masks: Sequence[tuple[int, Path]], reader: ImageReader) -> Sample | None:
    """Return the sample with its repaired masks; None if it is excluded."""
    for _, mask in masks:
        found, expected = mask_size(mask, large=reader.in_windows), reader.size(sample)
        if found != expected:
            what = f"names {mask}, which is {found[0]}×{found[1]}, but its image is {expected[0]}×{expected[1]}"
            raise UserError(path, what, _FIX)
    return replace(sample, masks=tuple(masks), rows=None) if masks else None
