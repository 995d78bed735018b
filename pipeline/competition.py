"""Specification of a competition: files, ids, groups, classes, labels, the CSV format and the metric.

Read from `competitions/*.toml`. No other module contains the name of a competition.
`docs/new-competition.md` lists every key.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config import Config, validate_config
from pipeline.paths import COMPETITIONS
from pipeline.toml import read_toml_with_base

PixelOrder = Literal["row", "column"]
"""Pixel order of RLE: along the rows (row-major, Carvana) or down the columns (column-major, most others)."""
MetricName = Literal["dice", "iou", "f_beta", "dice_hausdorff", "map_iou", "f_beta_iou"]

_FIELD = re.compile(r"{(\w+)}")


def template_fields(template: str) -> list[str]:
    """List the names of the ``{fields}`` of a template, in order."""
    return _FIELD.findall(template)


class SlicesConfig(Config):
    """The ``images.slices`` table: gray files, the slices of a volume, become the channels of one image."""

    field: str
    """Field of the path that counts the slices."""
    offsets: tuple[int, ...] = ()
    """Each slice is an image, and its channels are the slices that are so many files away: [-1, 0, 1]. At both ends of
    a volume the last slice is repeated."""
    values: tuple[str, ...] = ()
    """Or a volume is one image, and its channels are the files with these values of the field."""

    @model_validator(mode="after")
    def _check_channels(self) -> "SlicesConfig":
        if bool(self.offsets) == bool(self.values):
            raise ValueError("expected either offsets or values")
        if self.offsets and 0 not in self.offsets:
            raise ValueError("expected 0 among the offsets")
        return self


class ImagesConfig(Config):
    """The ``[images]`` table: where images are, relative to the data folder.

    Each of train, val and test is a folder, or a pattern of paths with ``*`` and ``{fields}``:
    ``stage1_train/{id}/images/*.png``.
    """

    train: str
    val: str | None = None
    """Validation images chosen by the competition; they become fold 0, the only one."""
    test: str | None = None
    suffixes: tuple[str, ...] = ()
    """Suffixes of the images in a folder."""
    id: str = "{id}"
    """Template of a sample's id: {name} (file name), {stem} (without suffix), or fields of the pattern."""
    size: tuple[int, int] | None = None
    """(width, height) in pixels if all images have the same size."""
    test_count: int | None = Field(default=None, ge=1)
    """Number of images in the complete test set. Practice data may have fewer: that is a warning."""
    channels: int = Field(default=3, ge=1, le=64)
    """Channels that the model takes. 3 is RGB, which gray images are converted to."""
    range: tuple[float, float] | None = None
    """(lowest, highest) value of the files, which become 0 and 255; needed where they have more than 8 bits."""
    slices: SlicesConfig | None = None

    @property
    def num_channels(self) -> int:
        """Channels that the model takes, with slices as channels."""
        return len(self.slices.offsets or self.slices.values) if self.slices else self.channels

    @property
    def is_rgb(self) -> bool:
        """Whether the channels are colors, which may be augmented as such."""
        return self.channels == 3 and self.slices is None

    @model_validator(mode="after")
    def _check_channels(self) -> "ImagesConfig":
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError("expected range = [lowest, highest] with lowest below highest")
        if self.slices:
            if self.channels != 3:
                raise ValueError("expected channels or slices, not both")
            places = [place for place in (self.train, self.val, self.test) if place]
            if not all(self.slices.field in template_fields(place) for place in places):
                raise ValueError(f"expected {{{self.slices.field}}}, the field of slices, in every path of images")
        return self

    @model_validator(mode="after")
    def _check_suffixes(self) -> "ImagesConfig":
        if not self.suffixes and any(path and not is_pattern(path) for path in (self.train, self.val, self.test)):
            raise ValueError("expected suffixes, because images are given as a folder")
        return self


class MasksConfig(Config):
    """The ``[masks]`` table: mask files, and what is true of masks whether they come from files or from a CSV."""

    train: str | None = None
    """A folder or pattern of mask files; without it, the labels are the rows of ``csv.train``."""
    val: str | None = None
    suffixes: tuple[str, ...] = ()
    """Ends of mask names in a folder, after the stem of the image's name."""
    positive: Literal[1, 255, "nonzero"] = "nonzero"
    """Pixel value of the object. The background is 0."""
    may_be_empty: bool = False
    area: tuple[float, float] = (0.0, 1.0)
    """(lowest, highest) fraction of the image that a plausible mask covers."""
    corrections: str | None = None
    """CSV of masks that training excludes or repairs, beside this file; see `pipeline.data.corrections`."""

    @field_validator("area")
    @classmethod
    def _check_area(cls, area: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= area[0] < area[1] <= 1:
            raise ValueError("expected two fractions, 0 ≤ lowest < highest ≤ 1")
        return area


class GroupsConfig(Config):
    """The ``[groups]`` table: which images show the same object and belong into the same fold."""

    pattern: str | None = None
    """Regular expression for the stem of a file name; its first capture group is the group's name."""
    name: str | None = None
    """Or a template of fields of the image's path."""
    csv: str | None = None
    """Or a table with one row per image: ``id`` is the column of ids, ``column`` that of groups, ``stratum`` one whose
    values should be equally frequent in all folds."""
    id: str = "id"
    column: str | None = None
    stratum: str | None = None
    size: int | None = Field(default=None, ge=1)
    """Number of images in a complete group."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"expected a regular expression ({error})") from None
        if groups < 1:
            raise ValueError("expected a capture group in parentheses")
        return pattern

    @model_validator(mode="after")
    def _check_source(self) -> "GroupsConfig":
        if sum(source is not None for source in (self.pattern, self.name, self.column)) > 1:
            raise ValueError("expected one of pattern, name and column")
        if (self.column or self.stratum) and not self.csv:
            raise ValueError("expected csv, the table with the column")
        if not (self.pattern or self.name or self.column or self.stratum):
            raise ValueError("expected pattern, name, or csv with column or stratum")
        return self


class AttributesConfig(Config):
    """The ``[attributes]`` table: properties of images that reports group scores by; nothing else uses them."""

    csv: str | None = None
    """A table; ``id`` is the column of ids, of images or groups as ``key`` says."""
    id: str = "id"
    key: Literal["id", "group"] = "id"
    columns: tuple[str, ...] = ()
    """Columns to group scores by, the most interesting first."""
    pattern: str | None = None
    """Regular expression found in the stem of a file name; its named groups are properties."""

    @model_validator(mode="after")
    def _check_source(self) -> "AttributesConfig":
        if bool(self.csv) != bool(self.columns) or not (self.csv or self.pattern):
            raise ValueError("expected csv with columns, or pattern, or both")
        try:
            names = re.compile(self.pattern or "(?P<none>)").groupindex
        except re.error as error:
            raise ValueError(f"expected a regular expression in pattern ({error})") from None
        if not names:
            raise ValueError("expected a named group such as (?P<view>[0-9]+) in pattern")
        return self


class WindowsConfig(Config):
    """The ``[windows]`` table: images too large to be resized or held in memory are trained and predicted in parts."""

    size: tuple[int, int]
    """(width, height) of a window in pixels of the image; it is resized to the recipe's input.size."""
    per_image: int = Field(default=256, ge=1)
    """Random windows of each training image (or block) and epoch."""
    objects: float = Field(default=0.5, ge=0, le=1)
    """Fraction of them that show an object."""
    overlap: float = Field(default=0.25, ge=0, le=0.75)
    """Fraction of a window that the next one covers again in a prediction."""
    blocks: tuple[int, int] = (1, 1)
    """(columns, rows) into which each training image is divided for the split into folds."""
    margin: int = Field(default=0, ge=0)
    """Pixels between two blocks that are neither trained on nor validated."""

    @model_validator(mode="after")
    def _check_sizes(self) -> "WindowsConfig":
        if min(self.size) < 16 or min(self.blocks) < 1:
            raise ValueError("expected a size of at least 16 pixels, and blocks of at least 1")
        return self


class CsvConfig(Config):
    """The ``[csv]`` table: the competition's CSV files, relative to the data folder, and their format."""

    columns: dict[str, str] = Field(min_length=2)
    """Column -> template of {id}, {class} and {rle}, in the order of the header."""
    rows: Literal["image", "class", "instance"] = "image"
    """Content of one row: the mask of an image, of a class of an image, or of one object (instance)."""
    order: PixelOrder
    offsets: Literal["absolute", "relative"] = "absolute"
    """Whether a run's start counts from the first pixel or from the end of the previous run."""
    base: Literal[0, 1] = 1
    """Number of the first pixel."""
    empty: str = ""
    """Text of an empty mask."""
    size: tuple[int, int] | None = None
    """(width, height) of the masks in submissions if it is not that of the images."""
    train: str | None = None
    train_columns: dict[str, str] | None = None
    """Columns of ``train`` where they differ from ``columns``; the file may have more columns."""
    sample: str | None = None
    solution: str | None = None

    @field_validator("columns", "train_columns")
    @classmethod
    def _check_columns(cls, columns: dict[str, str] | None) -> dict[str, str] | None:
        if columns is None:
            return None
        fields = [field for template in columns.values() for field in template_fields(template)]
        if unknown := sorted(set(fields) - {"id", "class", "rle"}):
            raise ValueError(f"expected only the fields {{id}}, {{class}} and {{rle}}, found {{{unknown[0]}}}")
        if "{rle}" not in columns.values() or "id" not in fields or len(fields) != len(set(fields)):
            raise ValueError('expected one column that is "{rle}" and one with {id}, each field once')
        return columns


class InstancesConfig(Config):
    """The ``[instances]`` table: how a mask is split into objects where each object has a row."""

    split: Literal["components", "watershed"] = "components"
    """Connected components (8-connectivity), or those divided by a watershed of the distance transform."""
    min_distance: int = Field(default=5, ge=1)
    """Smallest distance in pixels between the centers of two objects, for the watershed."""


class DownloadFile(Config):
    """One file on the competition's data page."""

    name: str
    """Its name on Kaggle."""
    to: str
    """Destination of its content, relative to the data folder: a folder for an archive, or one file (with a suffix)."""
    mb: float = Field(gt=0)
    """Approximate size in megabytes, used where Kaggle does not report one."""

    @field_validator("name", "to")
    @classmethod
    def _check_relative(cls, path: str) -> str:
        if not path or path.startswith("/") or {"", ".", ".."} & set(path.split("/")):
            raise ValueError("expected a relative path such as train or test/a.jpg")
        return path


class DownloadConfig(Config):
    """The ``[download]`` table: the files on Kaggle. Only files that another table uses are downloaded."""

    files: tuple[DownloadFile, ...] = Field(min_length=1)


class NotebookConfig(Config):
    """The ``[notebook]`` table of a code competition: a notebook predicts a hidden test set without internet access."""

    minutes: float = Field(gt=0)
    """Time limit of the notebook."""
    images: int = Field(ge=1)
    """Approximate number of hidden test images."""


class Competition(Config):
    """One competition. `competitions/carvana.toml` is a commented example."""

    name: str
    title: str
    slug: str | None = None
    """Its name in Kaggle's addresses. Without one, nothing can be downloaded or submitted."""
    folds: int = Field(ge=1)
    fold_seed: int = 0
    metric: MetricName = "dice"
    beta: float = Field(default=2.0, gt=0)
    """β of the metrics f_beta and f_beta_iou."""
    classes: tuple[str, ...] = ()
    """Names of the classes as in the CSV files; empty for a single class."""
    exclusive: bool = False
    """Whether a pixel belongs to at most one class: true for multiclass, false for multilabel segmentation."""
    images: ImagesConfig
    masks: MasksConfig = MasksConfig()
    groups: GroupsConfig | None = None
    attributes: AttributesConfig | None = None
    windows: WindowsConfig | None = None
    csv: CsvConfig
    instances: InstancesConfig = InstancesConfig()
    download: DownloadConfig | None = None
    notebook: NotebookConfig | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, at least 1."""
        return max(1, len(self.classes))

    @model_validator(mode="after")
    def _check_val(self) -> "Competition":
        if self.masks.train is not None and (self.images.val is None) != (self.masks.val is None):
            raise ValueError("expected both images.val and masks.val, or neither")
        if self.images.val is not None and self.folds != 1:
            raise ValueError("expected folds = 1, because there is a val folder")
        if self.images.val is None and self.folds < 2:
            raise ValueError("expected folds = 2 or more, or a val folder")
        return self

    @model_validator(mode="after")
    def _check_volumes(self) -> "Competition":
        slices = self.images.slices
        if self.metric == "dice_hausdorff" and not (slices and slices.offsets and self.csv.rows == "class"):
            raise ValueError('expected images.slices with offsets, and csv.rows = "class", for this metric of volumes')
        return self

    @model_validator(mode="after")
    def _check_windows(self) -> "Competition":
        if self.windows is None:
            return self
        if self.csv.rows == "instance" or self.csv.size or self.metric in ("map_iou", "f_beta_iou"):
            raise ValueError("expected no windows, because objects and another csv.size need whole masks")
        if not self.masks.may_be_empty:
            raise ValueError("expected masks.may_be_empty = true, because windows are binarized one by one")
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> "Competition":
        if self.masks.train is None and self.csv.train is None:
            raise ValueError("expected masks.train (mask files) or csv.train (run-length encoded labels)")
        if self.masks.train and not is_pattern(self.masks.train) and not self.masks.suffixes:
            raise ValueError("expected masks.suffixes, because masks.train is a folder")
        return self

    @model_validator(mode="after")
    def _check_classes(self) -> "Competition":
        if len(set(self.classes)) < len(self.classes) or len(self.classes) == 1:
            raise ValueError("expected classes to be two or more different names, or to be left out")
        for columns in filter(None, (self.csv.columns, self.csv.train_columns)):
            has_class = any("class" in template_fields(template) for template in columns.values())
            if has_class != bool(self.classes):
                raise ValueError("expected {class} in csv.columns exactly if there are classes")
        if self.csv.rows == "class" and not self.classes:
            raise ValueError('expected classes, because csv.rows is "class"')
        if self.csv.rows == "image" and self.classes:
            raise ValueError('expected csv.rows to be "class" or "instance", because there are classes')
        return self


def is_pattern(path: str) -> bool:
    """Return whether a path of the ``[images]`` or ``[masks]`` table is a pattern instead of a folder."""
    return "*" in path or "{" in path


def load_competition(name: str, folder: Path = COMPETITIONS) -> Competition:
    """Read ``competitions/<name>.toml``. A file with ``base = "other"`` extends ``other.toml``.

    Raises:
        UserError: the file is missing or not TOML, or a key is unknown, missing or of the wrong kind.
    """
    path = folder / f"{name}.toml"
    return validate_config(Competition, {"name": name, **read_toml_with_base(path)}, path, RENAMED_KEYS)


RENAMED_KEYS: Mapping[str, str] = {"csv.id": "images.id, a template such as {name} or {stem}"}
"""Keys of earlier versions -> their names today."""
