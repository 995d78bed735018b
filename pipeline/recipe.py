"""What we chose: input size, network, losses, optimiser, augmentation, test-time augmentation.

Read from `recipes/*.toml`. Whatever can be derived (batch of the prediction, number of workers, steps of the schedule,
precision of the device) is not here.
"""

import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Discriminator, Field, Tag, model_validator

from pipeline.config import Settings, override, read_toml, validate
from pipeline.errors import UserError
from pipeline.files import write_text

FOLDER = Path("recipes")

MOST = 4
"""Recipes in one ensemble: each more doubles the weights to try, and adds less than the one before."""

Flip = Literal["none", "horizontal", "vertical", "both"]
Share = Annotated[float, Field(ge=0, le=1)]


class UNetSettings(Settings):
    """Our own UNet; see `pipeline/model/unet.py`."""

    name: Literal["unet"]
    width: int = Field(ge=1, le=512)
    """Filters at the finest scale; each level below has twice as many."""
    depth: int = Field(ge=1, le=8)
    """How often the picture is halved."""
    widest: int = Field(default=1024, ge=1)
    """No level has more filters than this."""
    up: Literal["transpose", "bilinear"] = "bilinear"
    norm: Literal["batch", "group", "none"] = "batch"
    stem: Literal[1, 2, 4] = 1
    """Space-to-depth: the network sees blocks of stem × stem pixels as channels, at a fraction of the cost."""


class ZooSettings(Settings):
    """Any architecture of segmentation-models-pytorch, by its class name."""

    name: str
    encoder: str = "resnet34"
    encoder_weights: Path | None = None
    """A local .safetensors file; None starts from random weights. Nothing is ever downloaded."""
    options: dict[str, Any] = Field(default={})
    """Further arguments of the architecture."""


def _kind(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "tag:unet" if name == "unet" else "tag:zoo"


Network = Annotated[
    Annotated[UNetSettings, Tag("tag:unet")] | Annotated[ZooSettings, Tag("tag:zoo")], Discriminator(_kind)
]


class Input(Settings):
    """What the network sees."""

    size: tuple[int, int]
    """(width, height) in pixels to which every image is resized."""

    @model_validator(mode="after")
    def _sane(self) -> "Input":
        if min(self.size) < 16 or max(self.size) > 8192:
            raise ValueError("expected a width and a height from 16 to 8192 pixels")
        return self


class Loss(Settings):
    """Weights of the terms of the loss; 0 leaves a term out."""

    bce: float = Field(default=1.0, ge=0)
    boundary: float = Field(default=0.0, ge=0)
    """How much heavier a pixel on the edge of the mask counts in the cross-entropy."""
    dice: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _something(self) -> "Loss":
        if self.bce + self.dice == 0:
            raise ValueError("give at least one term a weight above 0")
        if self.boundary and not self.bce:
            raise ValueError("boundary weighs the edges in the cross-entropy, and bce is 0; give bce a weight above 0")
        return self


class Stage(Settings):
    """A part of the training at a smaller size, where a step costs less."""

    until: float = Field(gt=0, lt=1)
    """Share of all steps at which it ends."""
    size: tuple[int, int]
    """(width, height) in pixels."""


class Train(Settings):
    """The training of one fold."""

    epochs: int = Field(ge=1)
    batch: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "muon", "sgd"] = "adamw"
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    """From the peak to zero along a half cosine, or not at all."""
    warmup: Share = 0.05
    """Share of all steps in which the learning rate rises to its peak."""
    clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0 does not limit it."""
    ema: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the averaged weights, which are the ones kept; 0 keeps the last ones."""
    loss: Loss = Loss()
    early: tuple[Stage, ...] = ()
    """Stages one after another, before the rest of the training at the input's size."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    compile: bool = False
    validate_every: int = Field(default=1, ge=1)
    """Epochs between two validations at native size; the last epoch always has one."""

    @property
    def precision_to_predict(self) -> Literal["auto", "float32"]:
        """What to predict in: half precisions are exchangeable then, and float32 was chosen for a reason."""
        return "float32" if self.precision == "float32" else "auto"


class Augment(Settings):
    """Random changes of a training image; 0 leaves one out."""

    horizontal_flip: Share = 0.5
    vertical_flip: Share = 0.0
    rotate: float = Field(default=0.0, ge=0, le=180)
    """Largest angle in degrees."""
    shift: Share = 0.0
    """Largest shift as a share of the side."""
    scale: float = Field(default=0.0, ge=0, lt=1)
    """Largest change of size: 0.1 gives 0.9 to 1.1."""
    brightness: Share = 0.0
    contrast: Share = 0.0
    hue: float = Field(default=0.0, ge=0, le=0.5)
    saturation: Share = 0.0


class Predict(Settings):
    """How a probability is made from a trained network."""

    flips: tuple[Flip, ...] = Field(default=("none",), min_length=1)
    threshold: float = Field(default=0.5, gt=0, lt=1)


class Recipe(Settings):
    """One recipe; see `recipes/baseline.toml` for a commented example."""

    name: str
    description: str = ""
    seed: int = Field(default=0, ge=0)
    input: Input
    network: Network
    train: Train
    augment: Augment = Augment()
    predict: Predict = Predict()

    @model_validator(mode="after")
    def _stages_grow(self) -> "Recipe":
        ends = [stage.until for stage in self.train.early]
        if ends != sorted(set(ends)):
            raise ValueError("train.early: expected stages that end one after another; put them in order of until")
        sizes = [(16, 16), *(stage.size for stage in self.train.early), self.input.size]
        for before, after in pairwise(sizes):
            if not all(side <= larger for side, larger in zip(before, after, strict=True)):
                raise ValueError(f"train.early: expected sizes that grow from 16 pixels to {list(self.input.size)}")
        return self

    def differences(self, other: "Recipe") -> list[str]:
        """What the two train differently, as `train.epochs: 3 / 5`.

        Name, text and `predict` do not count, nor what changes how fast the same training goes, or how often it is
        looked at: weights from one machine must be usable on another.
        """
        ignored = {"name": True, "description": True, "predict": True}
        ignored_in_train = {"precision", "compile", "validate_every"}
        mine, theirs = (
            _flat(recipe.model_dump(mode="json", exclude=ignored | {"train": ignored_in_train}))
            for recipe in (self, other)
        )
        keys = sorted(mine.keys() | theirs.keys())
        return [f"{key}: {mine.get(key)} / {theirs.get(key)}" for key in keys if mine.get(key) != theirs.get(key)]


def names(joined: str) -> list[str]:
    """The recipes of an ensemble, from its name: `cpu+baseline` is the mean of two.

    Raises:
        UserError: a name is empty or stands there twice, or there are more than MOST.
    """
    found = joined.split("+")
    if not all(found) or len(set(found)) < len(found):
        raise UserError(f"recipe '{joined}': expected different names joined by +, such as cpu+baseline")
    if len(found) > MOST:
        raise UserError(f"recipe '{joined}': joins {len(found)} recipes; leave out all but {MOST}")
    return found


def joined(recipes: Sequence[Recipe]) -> str:
    """The name of an ensemble of recipes, or of a single one."""
    return "+".join(recipe.name for recipe in recipes)


def load(name: str, changes: Sequence[str] = (), folder: Path = FOLDER) -> Recipe:
    """Read `recipes/<name>.toml` and apply `table.key=value` changes.

    Raises:
        UserError: no such file, not TOML, a key that is unknown, missing or of the wrong kind, or the name of several.
    """
    if "+" in name:
        raise UserError(f"recipe '{name}': is several, and one is needed here; name one of them")
    return read(folder / f"{name}.toml", changes, name=name)


def read(path: Path, changes: Sequence[str] = (), name: str | None = None) -> Recipe:
    """Read a recipe from any file, such as the resolved one in the folder of a run."""
    values = override(read_toml(path), changes)
    return validate(Recipe, {"name": name or path.stem, **values}, path)


def parse(text: str, path: Path) -> Recipe:
    """A recipe from the text that `dump` wrote; `path` is where the text was found, for the message."""
    try:
        return validate(Recipe, tomllib.loads(text), path)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: its recipe is not valid TOML: {error}") from None


def dump(recipe: Recipe) -> str:
    """The resolved recipe as TOML, every default spelled out."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def save(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe as a file that `read` takes."""
    write_text(path, dump(recipe))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
