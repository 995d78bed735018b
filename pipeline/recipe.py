"""The recipe: input size, network, loss, optimizer, augmentation, test-time augmentation.

Read from `recipes/*.toml`. What can be derived is not a key: prediction batch size, worker count, schedule lengths,
precision of the device.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from pipeline.config import Config, validate_config
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.paths import RECIPES
from pipeline.toml import apply_overrides, parse_toml, read_toml

Flip = Literal["none", "horizontal", "vertical", "both"]
Fraction = Annotated[float, Field(ge=0, le=1)]

RENAMED_KEYS = {
    "network.widest": "network.max_width",
    "train.batch": "train.batch_size",
    "train.clip": "train.max_grad_norm",
    "train.ema": "train.ema_decay",
    "train.early": "train.resize_schedule",
}
"""Keys of earlier versions -> their names today."""


class UNetConfig(Config):
    """The ``[network]`` table for our own UNet, `pipeline/models/unet.py`."""

    name: Literal["unet"]
    width: int = Field(ge=1, le=512)
    """Filters at the finest scale; they double at each level below."""
    depth: int = Field(ge=1, le=8)
    """Number of downsamplings by 2."""
    max_width: int = Field(default=1024, ge=1)
    """Largest number of filters of a level."""
    up: Literal["transpose", "bilinear"] = "bilinear"
    norm: Literal["batch", "group", "none"] = "batch"
    stem: Literal[1, 2, 4] = 1
    """Space-to-depth factor: blocks of stem × stem pixels become channels, at a fraction of the cost."""


class SMPConfig(Config):
    """The ``[network]`` table for an architecture of segmentation-models-pytorch, by its class name."""

    name: str
    encoder: str = "resnet34"
    encoder_weights: Path | None = None
    """A local .safetensors file. Without one the encoder starts from random weights; nothing is downloaded."""
    options: dict[str, Any] = Field(default={})
    """Further arguments of the architecture."""


def _network_tag(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "tag:unet" if name == "unet" else "tag:smp"


NetworkConfig = Annotated[
    Annotated[UNetConfig, Tag("tag:unet")] | Annotated[SMPConfig, Tag("tag:smp")], Discriminator(_network_tag)
]


class InputConfig(Config):
    """The ``[input]`` table."""

    size: tuple[int, int]
    """(width, height) in pixels to which every image is resized."""

    @model_validator(mode="after")
    def _check_size(self) -> "InputConfig":
        if min(self.size) < 16 or max(self.size) > 8192:
            raise ValueError("expected a width and a height from 16 to 8192 pixels")
        return self


class LossConfig(Config):
    """Weights of the terms of the loss; 0 leaves a term out."""

    bce: float = Field(default=1.0, ge=0)
    boundary: float = Field(default=0.0, ge=0)
    """Additional weight of a pixel on the mask's boundary in the cross-entropy."""
    dice: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _check_terms(self) -> "LossConfig":
        if self.bce + self.dice == 0:
            raise ValueError("expected at least one term with a weight above 0")
        if self.boundary and not self.bce:
            raise ValueError("expected bce above 0, because boundary weights the cross-entropy")
        return self


class ResizeStage(Config):
    """A first part of the training at a smaller input size."""

    until: float = Field(gt=0, lt=1)
    """Fraction of all steps at which the stage ends."""
    size: tuple[int, int]
    """(width, height) in pixels."""


class TrainConfig(Config):
    """The ``[train]`` table."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "muon", "sgd"] = "adamw"
    learning_rate: float = Field(gt=0)
    """Peak of the schedule."""
    weight_decay: float = Field(default=0.01, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: cosine annealing to 0, or constant."""
    warmup: Fraction = 0.05
    """Fraction of all steps in which the learning rate rises linearly."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are clipped to this norm; 0 does not clip."""
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the weights' exponential moving average, which is validated and saved; 0 saves the last weights."""
    loss: LossConfig = LossConfig()
    resize_schedule: tuple[ResizeStage, ...] = ()
    """Progressive resizing: stages at growing sizes before the rest of the training at input.size."""
    pseudo: str = ""
    """Recipe whose pseudo-labels (`make pseudo`) are trained on too; empty for none."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    compile: bool = False
    deterministic: bool = False
    """Use only operations that give the same bits each time. A CPU does anyway; a GPU becomes slower."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations; the last epoch is always validated."""

    @property
    def prediction_precision(self) -> Literal["auto", "float32"]:
        """Precision for prediction: float32 if the recipe sets it, else chosen from the device."""
        return "float32" if self.precision == "float32" else "auto"


class AugmentConfig(Config):
    """The ``[augment]`` table: random changes of training images; 0 leaves one out."""

    horizontal_flip: Fraction = 0.5
    """Probability."""
    vertical_flip: Fraction = 0.0
    """Probability."""
    rotate: float = Field(default=0.0, ge=0, le=180)
    """Largest angle in degrees."""
    shift: Fraction = 0.0
    """Largest shift as a fraction of the side."""
    scale: float = Field(default=0.0, ge=0, lt=1)
    """Largest change of scale: 0.1 gives 0.9 to 1.1."""
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    hue: float = Field(default=0.0, ge=0, le=0.5)
    saturation: Fraction = 0.0


class PredictConfig(Config):
    """The ``[predict]`` table."""

    flips: tuple[Flip, ...] = Field(default=("none",), min_length=1)
    """Test-time augmentation (TTA): the mean over these views."""
    threshold: float = Field(default=0.5, gt=0, lt=1)


class RefineConfig(Config):
    """The ``[refine]`` table: a second UNet corrects the logits of the first one at a larger size.

    It is trained afterwards, on tiles around the edges of the masks, with the optimizer of ``[train]``.
    """

    size: tuple[int, int]
    """(width, height) in pixels to which every image is resized for the second network."""
    network: UNetConfig
    tile: int = Field(default=128, ge=32, le=1024)
    """Side of a tile in pixels."""
    tiles: int = Field(default=24, ge=1)
    """Tiles of each training image."""
    epochs: int = Field(ge=0)
    """0 leaves the second stage out."""
    batch_size: int = Field(ge=1)
    """Tiles per step."""
    learning_rate: float = Field(gt=0)
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _check_size(self) -> "RefineConfig":
        if min(self.size) < self.tile or max(self.size) > 8192:
            raise ValueError("expected refine.size from refine.tile to 8192 pixels")
        return self


class Recipe(Config):
    """One recipe. `recipes/baseline.toml` is a commented example."""

    name: str
    description: str = ""
    seed: int = Field(default=0, ge=0)
    input: InputConfig
    network: NetworkConfig
    train: TrainConfig
    augment: AugmentConfig = AugmentConfig()
    predict: PredictConfig = PredictConfig()
    refine: RefineConfig | None = None

    @field_validator("refine")
    @classmethod
    def _leave_out(cls, refine: RefineConfig | None) -> RefineConfig | None:
        return refine if refine and refine.epochs else None

    @property
    def model_size(self) -> tuple[int, int]:
        """(width, height) of the images that the trained model takes."""
        return self.refine.size if self.refine else self.input.size

    def stages(self) -> "tuple[Recipe, ...]":
        """Return one recipe without ``refine`` for each stage of the training.

        The input of the second stage is a tile.
        """
        first = self.model_copy(update={"refine": None})
        if self.refine is None:
            return (first,)
        keys = ("epochs", "batch_size", "learning_rate", "loss")
        changes: dict[str, Any] = {key: getattr(self.refine, key) for key in keys}
        train = self.train.model_copy(update={**changes, "resize_schedule": (), "validate_every": self.refine.epochs})
        tile = InputConfig(size=(self.refine.tile, self.refine.tile))
        return first, first.model_copy(update={"input": tile, "network": self.refine.network, "train": train})

    @model_validator(mode="after")
    def _check_resize_schedule(self) -> "Recipe":
        ends = [stage.until for stage in self.train.resize_schedule]
        if ends != sorted(set(ends)):
            raise ValueError("expected train.resize_schedule in rising order of until")
        sizes = [(16, 16), *(stage.size for stage in self.train.resize_schedule), self.input.size]
        for before, after in pairwise(sizes):
            if not all(side <= larger for side, larger in zip(before, after, strict=True)):
                raise ValueError(f"expected train.resize_schedule to grow from 16 pixels to {list(self.input.size)}")
        return self

    def training_differences(self, other: "Recipe") -> list[str]:
        """List the keys in which two recipes train differently, as ``train.epochs: 3 / 5``.

        Name, description and ``predict`` are ignored, and so are keys that change the speed of the same training or
        how often it is validated, so that weights from one machine can be used on another.
        """
        ignored = {"name": True, "description": True, "predict": True}
        ignored_in_train = {"precision", "compile", "deterministic", "validate_every"}
        mine, theirs = (
            _flatten(recipe.model_dump(mode="json", exclude=ignored | {"train": ignored_in_train}))
            for recipe in (self, other)
        )
        keys = sorted(mine.keys() | theirs.keys())
        return [f"{key}: {mine.get(key)} / {theirs.get(key)}" for key in keys if mine.get(key) != theirs.get(key)]


def ensemble_name(recipes: Sequence[Recipe]) -> str:
    """Join the names of recipes with ``+``."""
    return "+".join(recipe.name for recipe in recipes)


def load_recipe(name: str, overrides: Sequence[str] = (), folder: Path = RECIPES) -> Recipe:
    """Read ``recipes/<name>.toml`` and apply ``table.key=value`` overrides.

    Raises:
        UserError: `name` joins several recipes, the file is missing or not TOML, or a key is unknown, missing or of
            the wrong kind.
    """
    if "+" in name:
        raise UserError(f"recipe '{name}'", "is an ensemble, and this needs a single recipe", "name one of them")
    return read_recipe(folder / f"{name}.toml", overrides, name=name)


def read_recipe(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> Recipe:
    """Read a recipe from any TOML file, such as the resolved recipe of a run."""
    values = {"name": name or path.stem, **apply_overrides(read_toml(path), overrides)}
    return validate_config(Recipe, values, path, RENAMED_KEYS)


def parse_recipe(text: str, path: Path) -> Recipe:
    """Parse a recipe from the text that `recipe_to_toml` returns; `path` is its file, for messages."""
    try:
        return validate_config(Recipe, parse_toml(text), path, RENAMED_KEYS)
    except ValueError as error:
        raise UserError(path, f"its recipe is not valid TOML ({error})", "train it again") from None


def recipe_to_toml(recipe: Recipe) -> str:
    """Return the resolved recipe as TOML, every default included."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe as a file for `read_recipe`."""
    write_text(path, recipe_to_toml(recipe))


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
