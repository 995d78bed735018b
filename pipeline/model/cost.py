"""What a training step costs, counted from its operations without running one: for a GPU that is not at hand.

The step is traced on torch's meta device, which knows shapes and computes nothing: floating-point operations, bytes
that operations read and write if none are fused, bytes that the backward pass needs kept. Every activation counts in
half precision. How fast a card turns this into seconds is an assumption, and stands here as one; the optimiser, the
loader and the validation are left out.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from pipeline.model.loss import SegmentationLoss
from pipeline.model.zoo import build, parameters
from pipeline.recipe import Recipe

GIB = 2**30


@dataclass(frozen=True)
class Card:
    """What a card can do; half precision."""

    name: str
    flops: float
    """Floating-point operations a second, of matrix products."""
    bandwidth: float
    """Bytes of its memory a second."""
    memory: float
    """Bytes."""


CARDS = (
    Card("T4", 65e12, 320e9, 15 * GIB),
    Card("A100 80 GB", 312e12, 2.0e12, 80 * GIB),
    Card("H200", 790e12, 4.3e12, 139 * GIB),
)
COMPUTE_SHARE = 0.4
"""Of a card's operations that the convolutions of a UNet reach; assumed."""
BANDWIDTH_SHARE = 0.7
"""Of a card's bandwidth that passes over activations reach; assumed."""
CONTEXT = 1.5 * GIB
"""Bytes that CUDA and the workspaces of its convolutions take; assumed."""
_HALF = 2


@dataclass(frozen=True)
class Cost:
    """Of one step of a recipe, in half precision."""

    parameters: int
    batch: int
    forward: float
    """Floating-point operations of the forward pass; a multiply-add is two."""
    flops: float
    """Of forward and backward."""
    moved: float
    """Bytes read and written if no two operations are fused."""
    kept: float
    """Bytes of activations kept for the backward pass."""
    weights: float
    """Bytes of weights, gradients, their average and what the optimiser remembers, in float32."""

    @property
    def memory(self) -> float:
        """Bytes that the card needs."""
        # While the backward pass begins, the gradient of an activation stands beside the activations.
        return self.kept * 1.1 + self.weights + CONTEXT

    def seconds(self, card: Card) -> float:
        """Of one step on a card: its arithmetic, and its passes over memory, one after the other."""
        return self.flops / (card.flops * COMPUTE_SHARE) + self.moved / (card.bandwidth * BANDWIDTH_SHARE)


def count(recipe: Recipe) -> Cost:
    """Trace one training step of a recipe at its full input size."""
    width, height = recipe.input.size
    batch = recipe.train.batch
    # Built where numbers exist: some encoders compute with them while they are built.
    network = build(recipe.network).train().to("meta")
    with torch.device("meta"):
        images = torch.empty(batch, 3, height, width)
        target = torch.empty(batch, 1, height, width)
        loss = SegmentationLoss(recipe.train.loss)
        traffic, kept = _Traffic(), _Kept()
        with FlopCounterMode(display=False) as flops, traffic:
            with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
                value = loss(network(images), target)
            forward = flops.get_total_flops()
            value.backward()
    trained = parameters(network)
    remembered = {"adam": 2, "adamw": 2, "muon": 1, "sgd": 1}[recipe.train.optimizer]
    copies = 2 + remembered + bool(recipe.train.ema)
    return Cost(
        parameters=trained,
        batch=batch,
        forward=float(forward),
        flops=float(flops.get_total_flops()),
        moved=float(traffic.total),
        kept=float(kept.total),
        weights=4.0 * trained * copies,
    )


def relative(recipe: Recipe) -> float:
    """Mean cost of a step in steps at full size, by pixels: 1, or less with early stages."""
    width, height = recipe.input.size
    mean, before = 0.0, 0.0
    for stage in recipe.train.early:
        mean += (stage.until - before) * stage.size[0] * stage.size[1] / (width * height)
        before = stage.until
    return mean + 1 - before


class _Traffic(TorchDispatchMode):
    """Adds up what every operation reads and writes; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.total += sum(_bytes(leaf) for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
        return result


class _Kept:
    """Adds up what the backward pass needs, each storage once."""

    def __init__(self) -> None:
        self.total = 0
        self._seen: dict[int, Tensor] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in self._seen and not isinstance(tensor, torch.nn.Parameter):
            self._seen[key] = tensor  # held, so that no other storage gets its address
            self.total += _bytes(tensor)
        return tensor


def _bytes(tensor: Tensor) -> int:
    """In half precision; integers, such as the places of maxima, keep their size."""
    return tensor.numel() * (_HALF if tensor.is_floating_point() else tensor.element_size())
