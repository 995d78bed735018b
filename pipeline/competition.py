"""What the competition fixed: where its files are, what an id is, which images form a group, how masks are encoded.

Read from `competitions/*.toml`. No other module knows a competition by name.
"""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config import Config, validate_config
from pipeline.paths import COMPETITIONS
from pipeline.toml import read_toml_with_base

PixelOrder = Literal["row", "column"]
"""How run-length encoding numbers the pixels: along the rows (Carvana) or down the columns (most competitions)."""


class ImagesConfig(Config):
    """The ``[images]`` table: folders of images, relative to the data folder."""

    train: str
    val: str | None = None
    """A folder of validation images chosen by the competition; it becomes fold 0, the only one."""
    test: str | None = None
    suffixes: tuple[str, ...] = Field(min_length=1)
    size: tuple[int, int] | None = None
    """(width, height) in pixels if all images have the same size."""


class MasksConfig(Config):
    """The ``[masks]`` table: folders of masks, their names and the meaning of their pixels."""

    train: str
    val: str | None = None
    suffixes: tuple[str, ...] = Field(min_length=1)
    """What follows the stem of an image's name in the name of its mask."""
    positive: Literal[1, 255, "nonzero"]
    """Pixel value of the object. The background is 0."""
    may_be_empty: bool = False
    area: tuple[float, float] = (0.0, 1.0)
    """(lowest, highest) fraction of the image that a plausible mask covers."""

    @field_validator("area")
    @classmethod
    def _check_area(cls, area: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= area[0] < area[1] <= 1:
            raise ValueError("expected two fractions, 0 ≤ lowest < highest ≤ 1")
        return area


class GroupsConfig(Config):
    """The ``[groups]`` table: which images show the same object and belong into the same fold."""

    pattern: str
    """Regular expression for the stem of a file name; its first capture group is the group's name."""
    size: int | None = Field(default=None, ge=1)
    """Number of images in a complete group."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"expected a regular expression ({error})") from None
        if groups < 1:
            raise ValueError("expected a capture group in parentheses")
        return pattern


class CsvConfig(Config):
    """The ``[csv]`` table: the competition's CSV files, relative to the data folder, and their format."""

    columns: tuple[str, str]
    id: Literal["name", "stem"]
    """Whether an id is the file name with its suffix ("name") or without ("stem")."""
    order: PixelOrder
    train: str | None = None
    sample: str | None = None
    solution: str | None = None


class DownloadFile(Config):
    """One file on the competition's data page."""

    name: str
    """Its name on Kaggle."""
    to: str
    """Where its content belongs, relative to the data folder: a folder for an archive, or one file (with a suffix)."""
    mb: float = Field(gt=0)
    """Approximate size in megabytes, used where Kaggle does not report one."""

    @field_validator("name", "to")
    @classmethod
    def _check_relative(cls, path: str) -> str:
        if not path or path.startswith("/") or {"", ".", ".."} & set(path.split("/")):
            raise ValueError("expected a relative path such as train or test/a.jpg")
        return path


class DownloadConfig(Config):
    """The ``[download]`` table: what Kaggle offers. Only files that another table names are downloaded."""

    files: tuple[DownloadFile, ...] = Field(min_length=1)


class Competition(Config):
    """One competition. `competitions/carvana.toml` is a commented example."""

    name: str
    title: str
    slug: str | None = None
    """Its name in Kaggle's addresses. Without one, nothing can be downloaded or submitted."""
    folds: int = Field(ge=1)
    fold_seed: int = 0
    images: ImagesConfig
    masks: MasksConfig
    groups: GroupsConfig | None = None
    csv: CsvConfig
    download: DownloadConfig | None = None

    @model_validator(mode="after")
    def _check_val(self) -> "Competition":
        if (self.images.val is None) != (self.masks.val is None):
            raise ValueError("expected both images.val and masks.val, or neither")
        if self.images.val is not None and self.folds != 1:
            raise ValueError("expected folds = 1, because there is a val folder")
        if self.images.val is None and self.folds < 2:
            raise ValueError("expected folds = 2 or more, or a val folder")
        return self


def load_competition(name: str, folder: Path = COMPETITIONS) -> Competition:
    """Read ``competitions/<name>.toml``. A file with ``base = "other"`` extends ``other.toml``.

    Raises:
        UserError: the file is missing or not TOML, or a key is unknown, missing or of the wrong kind.
    """
    path = folder / f"{name}.toml"
    return validate_config(Competition, {"name": name, **read_toml_with_base(path)}, path)
