"""Where the files of a competition are and what they hold: the tables of images, windows, masks, groups and attributes.

Read from `competitions/*.toml` as parts of `pipeline.competition.Competition`.
"""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config import Config

_FIELD = re.compile(r"{(\w+)}")


def template_fields(template: str) -> list[str]:
    """List the names of the ``{fields}`` of a template, in order."""
    return _FIELD.findall(template)


def is_pattern(path: str) -> bool:
    """Return whether a path of the ``[images]`` or ``[masks]`` table is a pattern instead of a folder."""
    return "*" in path or "{" in path


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
    """Fraction of them that are chosen to show an object; the others may show one too."""
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
