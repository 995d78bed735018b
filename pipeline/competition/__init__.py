"""Specification of a competition: files, ids, groups, classes, labels, the CSV format and the metric.

Read from `competitions/*.toml`. No other module contains the name of a competition.
`docs/new-competition.md` lists every key.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.competition.files import (
    AttributesConfig,
    GroupsConfig,
    ImagesConfig,
    MasksConfig,
    WindowsConfig,
    is_pattern,
    template_fields,
)
from pipeline.config import Config, validate_config
from pipeline.errors import UserError
from pipeline.paths import COMPETITIONS, competition_toml
from pipeline.toml import read_toml_with_base

PixelOrder = Literal["row", "column"]
"""Pixel order of RLE: along the rows (row-major, Carvana) or down the columns (column-major, most others)."""
MetricName = Literal["dice", "iou", "f_beta", "dice_hausdorff", "map_iou", "f_beta_iou"]


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

    def require_whole_images(self, command: str) -> None:
        """Refuse a command that holds whole images if the competition has windows.

        Raises:
            UserError: it has.
        """
        if self.windows:
            what = f"has [windows], which `{command}` does not support"
            raise UserError(competition_toml(self.name), what, "use `make evaluate`, `make predict` and `make score`")

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
        if self.metric == "dice_hausdorff" and self.windows.blocks != (1, 1):
            raise ValueError("expected no windows.blocks, because this metric needs whole slices")
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


def load_competition(name: str, folder: Path = COMPETITIONS) -> Competition:
    """Read ``competitions/<name>.toml``. A file with ``base = "other"`` extends ``other.toml``.

    Raises:
        UserError: the file is missing or not TOML, or a key is unknown, missing or of the wrong kind.
    """
    path = folder / f"{name}.toml"
    return validate_config(Competition, {"name": name, **read_toml_with_base(path)}, path, RENAMED_KEYS)


RENAMED_KEYS: Mapping[str, str] = {"csv.id": "images.id, a template such as {name} or {stem}"}
"""Keys of earlier versions -> their names today."""
