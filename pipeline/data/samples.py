"""Find the images of a competition in its data folder, and where their labels are."""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.competition import Competition, GroupsConfig, is_pattern, template_fields
from pipeline.data.mask_csv import read_mask_csv
from pipeline.data.patterns import FoundFile, fill, find_files
from pipeline.data.row_format import submission_format, train_format
from pipeline.errors import UserError
from pipeline.paths import competition_toml

RowKey = tuple[str, int]
"""(id, index of the class): what one row of a submission is about, but for instances."""


@dataclass(frozen=True)
class Sample:
    """One image and where its labels are."""

    id: str
    """The id in the competition's CSV files. Ids of a val folder begin with the folder's name."""
    image: Path
    group: str
    """Samples of one group always belong to the same fold."""
    masks: tuple[tuple[int, Path], ...] = ()
    """(index of the class, mask file), if labels are mask files. An image may have several, one per object."""
    rows: tuple[tuple[int, str], ...] | None = None
    """(index of the class, RLE), if labels are rows of a CSV; empty for an image without objects."""
    stratum: str = ""
    """Value of the stratum column."""
    val: bool = False
    """Whether the competition itself chose this sample for validation."""

    @property
    def has_label(self) -> bool:
        """Whether there are mask files, or rows of a CSV (perhaps none, for an image without objects)."""
        return bool(self.masks) or self.rows is not None


def load_training_samples(competition: Competition, data: Path, *, require_masks: bool = True) -> list[Sample]:
    """List all training images with their labels, sorted by path, then those of the val folder.

    Args:
        competition: names the folders and files.
        data: the data folder.
        require_masks: if False, an image without a mask file is listed without a label instead of raising.

    Raises:
        UserError: a folder is missing or has no image, an image has no mask, or a name has no group.
    """
    samples = _list_samples(competition, data, competition.images.train)
    if competition.images.val is not None:
        samples += _list_samples(competition, data, competition.images.val, val=True)
    if competition.masks.train is None:
        return _add_csv_rows(competition, data, samples)
    for sample in samples:
        if require_masks and not sample.has_label:
            what = f"has no mask {describe_masks(competition, sample)}"
            raise UserError(sample.image, what, "add it; `make check` lists everything that is missing")
    return samples


def load_test_samples(competition: Competition, data: Path) -> list[Sample]:
    """List all test images, sorted by path.

    Raises:
        UserError: the competition has no test folder, or it is missing or has no image.
    """
    if competition.images.test is None:
        raise UserError(competition_toml(competition.name), "has no images.test", "set it to the folder to predict")
    return _list_samples(competition, data, competition.images.test, test=True)


def describe_masks(competition: Competition, sample: Sample) -> str:
    """Return the names of the mask file that an image should have."""
    place = str(competition.masks.train)
    if is_pattern(place):
        return place
    return " or ".join(sample.image.stem + suffix for suffix in competition.masks.suffixes)


def read_submission_keys(competition: Competition, data: Path, sample_csv: Path | None = None) -> list[RowKey] | None:
    """Read the (id, class) of each row that a submission must have, in the order of the sample submission.

    Args:
        competition: names the sample submission and its columns.
        data: the data folder.
        sample_csv: another file to take them from.

    Returns:
        Different keys; None if the competition has no sample submission or the file does not exist.

    Raises:
        UserError: the file cannot be read, or a key occurs twice although a row is not an instance.
    """
    if sample_csv is None:
        if competition.csv.sample is None or not (data / competition.csv.sample).exists():
            return None
        sample_csv = data / competition.csv.sample
    keys: dict[RowKey, None] = {}
    format = submission_format(competition)
    for row in read_mask_csv(sample_csv, format):
        if row.key in keys and competition.csv.rows != "instance":
            raise UserError(sample_csv, f"line {row.line} repeats {format.describe_key(*row.key)}", "download it again")
        keys[row.key] = None
    return list(keys)


def load_submission_samples(competition: Competition, data: Path) -> list[Sample]:
    """List the test images in the order of the sample submission; all of them if there is no such file.

    Raises:
        UserError: the sample submission cannot be read or names an image that does not exist.
    """
    samples = load_test_samples(competition, data)
    keys = read_submission_keys(competition, data)
    if keys is None:
        return samples
    by_id = {sample.id: sample for sample in samples}
    ids = list(dict.fromkeys(id for id, _ in keys))
    unknown = [id for id in ids if id not in by_id]
    if unknown:
        what = f"has {len(unknown)} ids without an image in {samples[0].image.parent}, such as {unknown[0]}"
        fix = "download the missing images, or use the sample submission of this data"
        raise UserError(data / str(competition.csv.sample), what, fix)
    return [by_id[id] for id in ids]


def _list_samples(
    competition: Competition, data: Path, place: str, *, val: bool = False, test: bool = False
) -> list[Sample]:
    try:
        files = find_files(data, place, competition.images.suffixes)
    except UserError as error:
        raise UserError(error.where, error.what, f"{_download(competition)}{error.fix}") from None
    if not files:
        known = "" if is_pattern(place) else f" ({', '.join(competition.images.suffixes)})"
        raise UserError(data / place, f"has no image{known}", f"{_download(competition)}set DATA to the data folder")
    masks = None if test else _find_masks(competition, data, val)
    groups = _Groups(competition, data)
    samples = []
    for file in files:
        id = _fill(competition, competition.images.id, file, "images.id")
        samples.append(
            Sample(
                # Both folders may number their images from 1.
                id=f"{place}/{id}" if val else id,
                image=file.path,
                group=groups.group(file, id, place),
                masks=masks.of(file) if masks else (),
                stratum=groups.stratum(id) if not test else "",
                val=val,
            )
        )
    return samples


def _download(competition: Competition) -> str:
    """Return the first half of what to do about missing data; empty if Kaggle does not offer it."""
    if competition.slug is None or competition.download is None:
        return ""
    return f"run `make download COMPETITION={competition.name}`, or "


def _fill(competition: Competition, template: str, file: FoundFile, key: str) -> str:
    try:
        return fill(template, file.fields)
    except KeyError as error:
        what = f"{key} uses the field {{{error.args[0]}}}, which the path of {file.path} does not have"
        raise UserError(competition_toml(competition.name), what, "correct it") from None


class _Groups:
    """The group and the stratum of an image."""

    def __init__(self, competition: Competition, data: Path) -> None:
        self.competition = competition
        self.config = competition.groups or GroupsConfig.model_construct()
        self.pattern = re.compile(self.config.pattern) if self.config.pattern else None
        self.table = _read_table(data / self.config.csv, self.config) if self.config.csv else {}

    def group(self, file: FoundFile, id: str, place: str) -> str:
        if self.pattern:
            match = self.pattern.match(file.path.stem)
            if not match:
                toml = competition_toml(self.competition.name)
                raise UserError(file.path, "its name does not match groups.pattern", f"rename it, or correct {toml}")
            return match.group(1)
        if self.config.name:
            return _fill(self.competition, self.config.name, file, "groups.name")
        if self.config.column and id in self.table:
            return self.table[id][self.config.column]
        return f"{place}/{id}"

    def stratum(self, id: str) -> str:
        return self.table[id][self.config.stratum] if self.config.stratum and id in self.table else ""


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


class _MaskFiles:
    """Mask files by the fields that they share with the image."""

    def __init__(self, competition: Competition, files: Sequence[FoundFile], fields: Sequence[str]) -> None:
        self.fields = fields
        self.by_key: defaultdict[tuple[str, ...], list[tuple[int, Path]]] = defaultdict(list)
        for file in files:
            name = file.fields.get("class")
            if name is not None and name not in competition.classes:
                what = f"is of the class {name!r}, which is not one of {', '.join(competition.classes)}"
                raise UserError(file.path, what, "add it to classes, or remove the file")
            index = competition.classes.index(name) if name is not None else 0
            self.by_key[self._key(file.fields)].append((index, file.path))

    def of(self, file: FoundFile) -> tuple[tuple[int, Path], ...]:
        return tuple(self.by_key.get(self._key(file.fields), ()))

    def _key(self, fields: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(fields[name] for name in self.fields)


class _NamedMaskFiles:
    """Mask files in a folder, named after the image: its stem and one of the suffixes."""

    def __init__(self, folder: Path, suffixes: Sequence[str]) -> None:
        self.folder = folder
        self.suffixes = suffixes
        # List the folder once: one look-up per name is slow on network disks.
        self.present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    def of(self, file: FoundFile) -> tuple[tuple[int, Path], ...]:
        names = (file.path.stem + suffix for suffix in self.suffixes)
        name = next((name for name in names if name in self.present), None)
        return ((0, self.folder / name),) if name else ()


def _find_masks(competition: Competition, data: Path, val: bool) -> _MaskFiles | _NamedMaskFiles | None:
    place = competition.masks.val if val else competition.masks.train
    if place is None:
        return None
    if not is_pattern(place):
        return _NamedMaskFiles(data / place, competition.masks.suffixes)
    fields = [field for field in template_fields(place) if field != "class"]
    known = [*template_fields(competition.images.val or "" if val else competition.images.train), "id", "stem", "name"]
    shared = [field for field in dict.fromkeys(fields) if field in known]
    if not shared:
        what = f"masks.train = {place!r} shares no field with the images"
        raise UserError(competition_toml(competition.name), what, "use {id} in it")
    return _MaskFiles(competition, find_files(data, place), shared)


def _add_csv_rows(competition: Competition, data: Path, samples: Sequence[Sample]) -> list[Sample]:
    """Add the rows of ``csv.train``. Images without a row, or with an empty one, have no objects.

    Raises:
        UserError: the file cannot be read, or has a row without an image.
    """
    path = data / str(competition.csv.train)
    rows: dict[str, list[tuple[int, str]]] = {sample.id: [] for sample in samples}
    for row in read_mask_csv(path, train_format(competition), extra_columns=True):
        if row.id not in rows:
            what = f"line {row.line} has the id {row.id!r}, which is no image"
            raise UserError(path, what, "download the missing images, or correct images.id or csv.train_columns")
        if row.rle not in ("", competition.csv.empty):
            rows[row.id].append((row.class_index, row.rle))
    return [replace(sample, rows=tuple(rows[sample.id])) for sample in samples]
