"""Weights that are safe to load and say where they come from, and states from which a training goes on.

Weights are safetensors files: numbers and a few strings, no code. The strings hold the whole recipe, so a weights file
alone is enough to build its network and to predict with it.
"""

import io
import subprocess
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from pipeline.errors import UserError
from pipeline.files import atomic
from pipeline.model.zoo import Segmenter, build
from pipeline.recipe import Recipe, ZooSettings, dump, parse


@dataclass(frozen=True)
class Origin:
    """Where weights come from; kept as strings beside them."""

    competition: str
    fold: str
    """Its number, or "all" if nothing was held out."""
    held_out: str
    """Fingerprint of the ids that the network has not seen."""
    epochs: str
    dice: str
    """Of the last validation, at native size; empty if nothing was held out."""
    commit: str
    torch: str


def save_weights(path: Path, network: Segmenter, recipe: Recipe, origin: Origin) -> None:
    """Write the weights of a network as safetensors, whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    text = {"recipe": dump(recipe), **asdict(origin)}
    # Written by Python, and not by the library, so that a full disk is an OSError with a name.
    with atomic(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata=text))


def load_weights(path: Path) -> tuple[Segmenter, Recipe, Origin]:
    """Build the network that a weights file describes and fill it.

    Returns:
        The network in evaluation mode on the CPU, the recipe it was trained by, and where it comes from.

    Raises:
        UserError: the file is missing, damaged, not ours, or does not fit the network that its own recipe describes.
    """
    recipe, origin = read_origin(path)
    settings = recipe.network
    if isinstance(settings, ZooSettings):
        # The file holds all weights; the one they started from may be on another machine.
        settings = settings.model_copy(update={"encoder_weights": None})
    network = build(settings)
    try:
        network.load_state_dict(safetensors.torch.load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise UserError(f"{path}: its weights do not fit its recipe ({str(error)[:200]}); train it again") from None
    return network.eval(), recipe, origin


def read_origin(path: Path) -> tuple[Recipe, Origin]:
    """The recipe and origin of a weights file, without reading the weights.

    Raises:
        UserError: the file is missing, damaged, or was not written by `save_weights`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; train it with `make train`, or name another checkpoint") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: is not a whole safetensors file ({error}); train it again") from None
    names = [field.name for field in fields(Origin)]
    missing = {"recipe", *names} - text.keys()
    if missing:
        raise UserError(
            f"{path}: says nothing of its {', '.join(sorted(missing))}; only weights written here can be read"
        )
    return parse(text["recipe"], path), Origin(**{name: text[name] for name in names})


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write everything a training needs to go on, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote: tensors and plain values only, nothing that could run code.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler's errors have no common base
        raise UserError(f"{path}: cannot be read ({str(error)[:120]}); delete it to train from the start") from None


def commit() -> str:
    """The checked-out commit, with a + if files have changed since; empty where there is no repository."""
    command = ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
