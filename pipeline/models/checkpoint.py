"""Save and load weights and training checkpoints.

Weights are safetensors files: tensors and strings, no code. The strings hold the resolved recipe, so a weights file
alone is enough to build its model and to predict.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.errors import UserError
from pipeline.files import atomic_write
from pipeline.models.classes import Classes
from pipeline.models.refined import build_recipe_model
from pipeline.models.zoo import SegmentationModel
from pipeline.recipe import Recipe, SMPConfig, parse_recipe, recipe_to_toml


@dataclass(frozen=True)
class WeightsMetadata:
    """Origin of weights; stored as strings in their file."""

    competition: str
    fold: str
    """Number of the validation fold, or "all" if the run trained on every image."""
    held_out: str
    """Fingerprint of the validation ids, on which the model was not trained."""
    epochs: str
    score: str
    """Score of the last validation at native size; empty for the fold "all"."""
    commit: str
    torch: str
    """Version of torch."""
    classes: str = "[]"
    """Names of the classes as a JSON list; empty for a single class."""
    exclusive: str = ""
    """"yes" if a pixel belongs to at most one class."""
    image_channels: str = "3"
    """Channels of the images that the model takes."""
    hardware: str = ""
    """Processor or GPU, cores and precision of the last part of the training; empty in weights of older versions."""
    minutes: str = ""
    """Time of the whole training with its validations; empty likewise."""
    split: str = ""
    """Fingerprints of the training and validation images and of repaired masks; empty likewise."""
    images_per_second: str = ""
    """Mean speed of the training without its validations; empty likewise."""

    def model_classes(self) -> Classes:
        """Return the classes of the model and the channels of its images."""
        return Classes(tuple(json.loads(self.classes)), self.exclusive == "yes", int(self.image_channels))


def save_weights(path: Path, model: SegmentationModel, recipe: Recipe, metadata: WeightsMetadata) -> None:
    """Write the weights of a model as a safetensors file, atomically. Equal arguments give equal bytes."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    header, content = _pack_tensors(tensors, {"recipe": recipe_to_toml(recipe), **asdict(metadata)})
    # Written by Python instead of the library, so that a full disk is an OSError.
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        file.write(content)


def _pack_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[bytes, memoryview]:
    """Serialize tensors as safetensors; return the header with its length, and the bytes of the tensors.

    The library writes the metadata in an order that differs from process to process, so they are sorted here.
    """
    packed = safetensors.torch.save(dict(tensors))
    start = 8 + int.from_bytes(packed[:8], "little")
    entries = {"__metadata__": dict(sorted(metadata.items())), **json.loads(packed[8:start])}
    header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the tensors to 8 bytes
    return len(header).to_bytes(8, "little") + header, memoryview(packed)[start:]


def load_weights(path: Path) -> tuple[SegmentationModel, Recipe, WeightsMetadata]:
    """Build the model of a weights file and load its weights.

    Returns:
        The model in evaluation mode on the CPU, the recipe it was trained with, and the metadata of the weights.

    Raises:
        UserError: the file is missing, damaged, was not written by `save_weights`, or does not fit its own recipe.
    """
    recipe, metadata = read_weights_metadata(path)
    built = recipe
    if isinstance(recipe.network, SMPConfig):
        # The file holds all weights; the initial encoder weights may not exist on this machine.
        network = recipe.network.model_copy(update={"encoder_weights": None})
        built = recipe.model_copy(update={"network": network})
    model = build_recipe_model(built, metadata.model_classes())
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise UserError(path, f"its weights do not fit its recipe ({str(error)[:200]})", "train it again") from None
    return model.eval(), recipe, metadata


def fingerprint_weights(path: Path) -> str:
    """Return 16 hex digits that differ between models that predict differently.

    They depend on the tensors, the networks, their sizes and the classes, not on when and where it was trained.

    Raises:
        UserError: see `read_weights_metadata`.
    """
    recipe, metadata = read_weights_metadata(path)
    model = {
        "network": recipe.network.model_dump(mode="json"),
        "input": recipe.input.model_dump(mode="json"),
        "classes": metadata.classes,
        "exclusive": metadata.exclusive,
    }
    if recipe.refine:
        model["refine"] = recipe.refine.model_dump(mode="json", include={"size", "network"})
    with path.open("rb") as file:
        entries = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        entries.pop("__metadata__", None)
        digest = hashlib.file_digest(file, "sha256")  # from here to the end: the tensors
    digest.update(json.dumps([model, entries], sort_keys=True).encode())
    return digest.hexdigest()[:16]


def read_weights_metadata(path: Path) -> tuple[Recipe, WeightsMetadata]:
    """Read the recipe and metadata of a weights file without loading the weights.

    Raises:
        UserError: the file is missing, damaged, or was not written by `save_weights`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(path, "no such file", "train it with `make train`, or name another file") from None
    except (OSError, SafetensorError) as error:
        raise UserError(path, f"is not a complete safetensors file ({error})", "train it again") from None
    return parse_metadata(text, path)


def parse_metadata(text: Mapping[str, str], path: Path) -> tuple[Recipe, WeightsMetadata]:
    """Parse the strings in the header of a file with weights.

    Raises:
        UserError: one is missing, or the recipe is faulty.
    """
    missing = {"recipe", *(field.name for field in fields(WeightsMetadata) if field.default is MISSING)} - text.keys()
    if missing:
        what = f"has no {', '.join(sorted(missing))} in its metadata"
        raise UserError(path, what, "use weights written by this pipeline")
    return parse_recipe(text["recipe"], path), WeightsMetadata(
        **{field.name: text[field.name] for field in fields(WeightsMetadata) if field.name in text}
    )


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training (tensors and plain values), atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read the state of a training. Only tensors and plain values are unpickled, nothing that could run code.

    Raises:
        UserError: the file is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler's errors have no common base class
        raise UserError(path, f"cannot be read ({str(error)[:120]})", "delete it to train from the start") from None
    return state
