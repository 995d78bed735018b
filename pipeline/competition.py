"""What a competition fixed: where its files are, what an id is, which images belong together, how masks are written.

Read from `competitions/*.toml`; every other room asks here and knows no competition by name.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config import Settings, read_toml, validate
from pipeline.errors import UserError

FOLDER = Path("competitions")

Order = Literal["row", "column"]
"""How the pixels of a mask are numbered: along the rows (Carvana), or down the columns (most competitions)."""


class Images(Settings):
    """Folders of images, relative to the data folder."""

    train: str
    val: str | None = None
    """A folder of validation images that the competition chose itself: then it is the one fold."""
    test: str | None = None
    suffixes: tuple[str, ...] = Field(min_length=1)
    size: tuple[int, int] | None = None
    """(width, height) in pixels if all images share it."""


class Masks(Settings):
    """Folders of masks, how they are named after their images, and what their pixels mean."""

    train: str
    val: str | None = None
    suffixes: tuple[str, ...] = Field(min_length=1)
    positive: Literal[1, 255, "nonzero"]
    """The pixel value of the object; the background is 0."""
    may_be_empty: bool = False
    area: tuple[float, float] = (0.0, 1.0)
    """The share of the image that a sane mask covers, lowest and highest."""

    @field_validator("area")
    @classmethod
    def _ordered(cls, area: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= area[0] < area[1] <= 1:
            raise ValueError("expected two shares of the image, 0 ≤ lowest < highest ≤ 1")
        return area


class Groups(Settings):
    """Which images show the same thing and must stay on one side of a split."""

    pattern: str
    """A regular expression on the file's stem; its first group is the name of the group."""
    size: int | None = Field(default=None, ge=1)
    """How many images a complete group has."""

    @field_validator("pattern")
    @classmethod
    def _has_one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"is not a regular expression ({error})") from None
        if groups < 1:
            raise ValueError("needs a group in parentheses that captures the name")
        return pattern


class Csv(Settings):
    """The competition's CSV files, relative to the data folder."""

    columns: tuple[str, str]
    id: Literal["name", "stem"]
    order: Order
    train: str | None = None
    sample: str | None = None
    solution: str | None = None


class File(Settings):
    """One file of the competition's data page."""

    name: str
    """As Kaggle lists it."""
    to: str
    """Where it belongs, relative to the data folder: a folder that an archive fills, or one file (it has a suffix)."""
    mb: float = Field(gt=0)
    """Its size in megabytes, about; the client's own list is believed first."""

    @field_validator("name", "to")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        if not path or path.startswith("/") or {"", ".", ".."} & set(path.split("/")):
            raise ValueError("expected a plain relative path such as train or test/a.jpg")
        return path


class Download(Settings):
    """What Kaggle offers; of these only what the competition's other tables name is fetched."""

    files: tuple[File, ...] = Field(min_length=1)


class Competition(Settings):
    """One competition; see `competitions/carvana.toml` for a commented example."""

    name: str
    title: str
    slug: str | None = None
    """Kaggle's name for it; without one there is nothing to download or to submit to."""
    folds: int = Field(ge=1)
    fold_seed: int = 0
    images: Images
    masks: Masks
    groups: Groups | None = None
    csv: Csv
    download: Download | None = None

    @model_validator(mode="after")
    def _val_is_whole(self) -> "Competition":
        if (self.images.val is None) != (self.masks.val is None):
            raise ValueError("images.val and masks.val belong together; give both or neither")
        if self.images.val is not None and self.folds != 1:
            raise ValueError("a competition with a val folder has one fold; set folds = 1")
        if self.images.val is None and self.folds < 2:
            raise ValueError("set folds to 2 or more, or name a val folder")
        return self


@dataclass(frozen=True)
class Sample:
    """One image of a data folder, with its mask where it has one."""

    id: str
    """As in the CSV files."""
    image: Path
    mask: Path | None
    group: str
    val: bool = False


def load(name: str, folder: Path = FOLDER) -> Competition:
    """Read `competitions/<name>.toml`; a file with `base = "other"` starts from that one and replaces what it names.

    Raises:
        UserError: no such file, not TOML, or a key that is unknown, missing or of the wrong kind.
    """
    path = folder / f"{name}.toml"
    values = read_toml(path)
    if "base" in values:
        values = _merge(read_toml(folder / f"{values.pop('base')}.toml"), values)
    return validate(Competition, {"name": name, **values}, path)


def training_samples(competition: Competition, data: Path) -> list[Sample]:
    """All images with masks, sorted by id; those of a val folder, whose ids begin with its name, come last.

    Raises:
        UserError: a folder is missing or empty, or an image has no mask.
    """
    samples = list_training(competition, data)
    for sample in samples:
        if sample.mask is None:
            names = " or ".join(sample.image.stem + suffix for suffix in competition.masks.suffixes)
            raise UserError(f"{sample.image}: has no mask {names}; add it, or run `make check` for all that is missing")
    return samples


def list_training(competition: Competition, data: Path) -> list[Sample]:
    """Like `training_samples`, but leaves `mask` None where there is none: for the check, which reports them all."""
    samples = _list(competition, data, competition.images.train, competition.masks.train)
    if competition.images.val is not None:
        samples += _list(competition, data, competition.images.val, competition.masks.val, val=True)
    return samples


def test_samples(competition: Competition, data: Path) -> list[Sample]:
    """All test images, sorted by id.

    Raises:
        UserError: the competition names no test folder, or it is missing or empty.
    """
    if competition.images.test is None:
        raise UserError(f"competitions/{competition.name}.toml: names no test folder; set images.test to predict one")
    return _list(competition, data, competition.images.test, None)


def _list(competition: Competition, data: Path, images: str, masks: str | None, val: bool = False) -> list[Sample]:
    suffixes = competition.images.suffixes
    pattern = re.compile(competition.groups.pattern) if competition.groups else None
    try:
        paths = sorted(path for path in (data / images).iterdir() if path.suffix.lower() in suffixes)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{data / images}: no such folder; set DATA to the folder that holds {images}/") from None
    if not paths:
        raise UserError(f"{data / images}: holds no image ({', '.join(suffixes)}); set DATA to the folder of the data")
    # One listing of the masks' folder instead of a look for each name: it matters on network disks.
    present = {path.name for path in (data / masks).iterdir()} if masks and (data / masks).is_dir() else set()
    samples = []
    for path in paths:
        mask = next((path.stem + end for end in competition.masks.suffixes if path.stem + end in present), None)
        match = pattern.match(path.stem) if pattern else None
        if pattern and not match:
            raise UserError(
                f"{path}: its name does not fit groups.pattern in competitions/{competition.name}.toml; correct either"
            )
        name = path.name if competition.csv.id == "name" else path.stem
        samples.append(
            Sample(
                # People number the pictures of both folders from 1: the folder tells them apart.
                id=f"{images}/{name}" if val else name,
                image=path,
                mask=data / masks / mask if masks and mask else None,
                group=match.group(1) if match else f"{images}/{path.name}",
                val=val,
            )
        )
    return samples


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
