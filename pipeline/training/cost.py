"""Estimate the cost of a training step on a GPU, or on two CPU cores, without running one.

The step is traced on the meta device (shapes only). It counts FLOPs, bytes read and written without fusion, and bytes
saved for the backward pass; activations count in half precision. The time on a GPU follows from assumed utilizations,
the constants below. The optimizer, the data loader and validation are not included there. The figures of the CPU are
fitted to measured trainings, see docs/experiments.md.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from pipeline.competition import Competition, NotebookConfig
from pipeline.models.classes import SINGLE_CLASS, Classes, classes_of
from pipeline.models.refined import build_refiner
from pipeline.models.zoo import SegmentationModel, build_model, count_parameters
from pipeline.recipe import Recipe, RefineConfig
from pipeline.training.fold_data import require_no_second_stage
from pipeline.training.losses import SegmentationLoss
from pipeline.training.progress import format_duration
from pipeline.training.second_stage import tile_bytes

GIB = 2**30


@dataclass(frozen=True)
class Processor:
    """Peak figures of a GPU, or of CPU cores, in half precision."""

    name: str
    peak_flops_per_second: float
    """Floating-point operations per second of matrix products."""
    bandwidth: float
    """Bytes of its memory per second."""
    memory: float
    """Bytes."""
    step_seconds: float = 0.0
    """Constant overhead of a step in seconds."""


GPUS = (
    Processor("T4", 65e12, 320e9, 15 * GIB),
    Processor("A100 80 GB", 312e12, 2.0e12, 80 * GIB),
    Processor("H200", 790e12, 4.3e12, 139 * GIB),
)
CPU = Processor("2 CPU cores", 1.35e12, 30e9, float("inf"), step_seconds=0.03)
"""Cores of a server with fast bf16 instructions. Fitted, with the utilizations below, to measured trainings."""
COMPUTE_UTILIZATION = 0.4
"""Assumed fraction of the peak operations that the convolutions of a UNet reach."""
BANDWIDTH_UTILIZATION = 0.7
"""Assumed fraction of the peak bandwidth that passes over activations reach."""
CONTEXT_BYTES = 1.5 * GIB
"""Assumed memory of CUDA and of the convolutions' workspaces."""
_HALF = 2
_OPTIMIZER_STATES = {"adam": 2, "adamw": 2, "muon": 1, "sgd": 1}
"""Tensors of a parameter's size that an optimizer keeps."""


@dataclass(frozen=True)
class StepCost:
    """Cost of one training step of a recipe in half precision."""

    parameters: int
    batch_size: int
    forward_flops: float
    """Floating-point operations of the forward pass; a multiply-add counts as two."""
    flops: float
    """Floating-point operations of forward and backward pass."""
    forward_bytes: float
    """Bytes that the forward pass reads and writes if no two operations are fused."""
    bytes_moved: float
    """The same of forward and backward pass."""
    activation_bytes: float
    """Bytes of activations saved for the backward pass."""
    weight_bytes: float
    """Bytes of weights, gradients, EMA and optimizer state in float32."""

    @property
    def memory(self) -> float:
        """Bytes of GPU memory."""
        # At the start of the backward pass, the gradient of an activation is there in addition.
        return self.activation_bytes * 1.1 + self.weight_bytes + CONTEXT_BYTES

    def seconds(self, processor: Processor, scale: float = 1.0) -> float:
        """Return the seconds of a step: its arithmetic, its memory traffic, and what every step takes.

        Args:
            processor: what it runs on.
            scale: cost relative to a step at full size, from `relative_step_cost`.
        """
        return scale * _seconds(processor, self.flops, self.bytes_moved) + processor.step_seconds

    def prediction_seconds(self, processor: Processor) -> float:
        """Return the seconds of a forward pass over one batch."""
        return _seconds(processor, self.forward_flops, self.forward_bytes)


def _seconds(processor: Processor, flops: float, bytes_moved: float) -> float:
    arithmetic = flops / (processor.peak_flops_per_second * COMPUTE_UTILIZATION)
    return arithmetic + bytes_moved / (processor.bandwidth * BANDWIDTH_UTILIZATION)


def estimate_cost(recipe: Recipe, classes: Classes = SINGLE_CLASS) -> StepCost:
    """Trace one step of the first stage of a recipe at its full input size, for the classes of a competition."""
    return _trace_step(recipe, build_model(recipe.network, classes), classes.image_channels, classes)


def estimate_refine_cost(recipe: Recipe, classes: Classes = SINGLE_CLASS) -> StepCost:
    """Trace one step of the second stage of a recipe, on a batch of tiles."""
    assert recipe.refine is not None
    model = build_refiner(recipe.refine, classes)
    return _trace_step(recipe.stages()[1], model, classes.image_channels + classes.channels, classes)


def _trace_step(recipe: Recipe, model: SegmentationModel, channels: int, classes: Classes) -> StepCost:
    width, height = recipe.input.size
    batch_size = recipe.train.batch_size
    # Built on the CPU: some encoders compute with values during construction.
    model = model.train().to("meta")
    with torch.device("meta"):
        images = torch.empty(batch_size, channels, height, width)
        target = torch.empty(batch_size, classes.count, height, width)
        loss = SegmentationLoss(recipe.train.loss, classes)
        traffic, saved = _TrafficCounter(), _SavedTensorCounter()
        with FlopCounterMode(display=False) as flops, traffic:
            with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
                value = loss(model(images), target)
            forward_flops, forward_bytes = flops.get_total_flops(), traffic.total
            value.backward()
    parameters = count_parameters(model)
    copies = 2 + _OPTIMIZER_STATES[recipe.train.optimizer] + bool(recipe.train.ema_decay)
    return StepCost(
        parameters=parameters,
        batch_size=batch_size,
        forward_flops=float(forward_flops),
        flops=float(flops.get_total_flops()),
        forward_bytes=float(forward_bytes),
        bytes_moved=float(traffic.total),
        activation_bytes=float(saved.total),
        weight_bytes=4.0 * parameters * copies,
    )


def relative_step_cost(recipe: Recipe) -> float:
    """Return the mean cost of a step relative to one at full size, by pixels; below 1 with a resize schedule."""
    width, height = recipe.input.size
    mean, start = 0.0, 0.0
    for stage in recipe.train.resize_schedule:
        mean += (stage.until - start) * stage.size[0] * stage.size[1] / (width * height)
        start = stage.until
    return mean + 1 - start


def describe_cost(recipe: Recipe, images: int, competition: Competition) -> str:
    """Describe the cost of a recipe and the time on some GPUs and on CPU cores, as lines of text.

    Args:
        recipe: the recipe to estimate.
        images: number of training images of a fold; in windows, ``windows.per_image`` of each are seen in an epoch.
        competition: its classes are used; for a code competition also the time limit of the notebook.

    Raises:
        UserError: the competition has windows, and the recipe a second stage.
    """
    require_no_second_stage(competition, recipe)
    cost = estimate_cost(recipe, classes_of(competition))
    unit = "images"
    if competition.windows:
        images, unit = images * competition.windows.per_image, "windows"
    width, height = recipe.input.size
    scale = relative_step_cost(recipe)
    lines = [
        f"counted, per {unit[:-1]} of {width}×{height} and step:",
        f"  parameters                   {cost.parameters / 1e6:.2f} M",
        f"  multiply-adds forward        {cost.forward_flops / cost.batch_size / 2e9:.1f} G",
        f"  operations of a step         {cost.flops / cost.batch_size / 1e12:.3f} T",
        f"  activations read and written {cost.bytes_moved / cost.batch_size / 1e9:.2f} GB",
        f"  activations saved            {cost.activation_bytes / cost.batch_size / 1e9:.2f} GB",
        f"estimated, for a batch of {cost.batch_size}: {cost.memory / GIB:.1f} GiB of GPU memory",
    ]
    for processor in (*GPUS, CPU):
        rate = cost.batch_size / cost.seconds(processor)
        duration = _describe_duration(cost, processor, recipe.train.epochs * images, scale)
        fits = "" if cost.memory < processor.memory else "; does not fit"
        epochs = f"{recipe.train.epochs} epochs of {images} {unit}"
        lines.append(f"  {processor.name:11} {_round(rate)} {unit}/s at full size; {duration} for {epochs}{fits}")
    refine_cost = estimate_refine_cost(recipe, classes_of(competition)) if recipe.refine else None
    if refine_cost and recipe.refine:
        lines += _describe_refine(refine_cost, recipe.refine, images, classes_of(competition))
    if competition.notebook and not competition.windows:  # the number of predictions depends on the sizes of the images
        lines += _describe_notebook(cost, refine_cost, recipe, competition.folds, competition.notebook)
    assumed = f"{COMPUTE_UTILIZATION:.0%} of a GPU's arithmetic and {BANDWIDTH_UTILIZATION:.0%} of its bandwidth"
    return "\n".join([*lines, f"Nothing was run: the times assume {assumed}."])


def _describe_refine(cost: StepCost, config: RefineConfig, images: int, classes: Classes) -> list[str]:
    """Describe the second stage; predicting and cutting the tiles is left out."""
    tiles = config.tiles * images
    disk = tile_bytes(config, images, classes.image_channels + 2 * classes.count) / 1e9
    lines = [
        f"second stage, {cost.parameters / 1e6:.2f} M parameters, per tile of {config.tile}×{config.tile}: "
        f"{cost.forward_flops / cost.batch_size / 2e9:.2f} G multiply-adds forward",
        f"estimated, for a batch of {cost.batch_size}: {cost.memory / GIB:.1f} GiB of GPU memory; "
        f"{disk:.1f} GB of tiles on disk",
    ]
    for processor in (*GPUS, CPU):
        rate = cost.batch_size / cost.seconds(processor)
        duration = _describe_duration(cost, processor, config.epochs * tiles)
        epochs = f"{config.epochs} epochs of {tiles} tiles"
        fits = "" if cost.memory < processor.memory else "; does not fit"
        lines.append(f"  {processor.name:11} {_round(rate)} tiles/s; {duration} for {epochs}{fits}")
    return lines


def _describe_duration(cost: StepCost, processor: Processor, images: int, scale: float = 1.0) -> str:
    """Return the time for a number of images (or tiles), each counted as often as it is seen."""
    return format_duration(images / cost.batch_size * cost.seconds(processor, scale))


def _round(rate: float) -> str:
    return f"{rate:6.0f}" if rate >= 10 else f"{rate:6.1f}"


def _describe_notebook(
    cost: StepCost, refine_cost: StepCost | None, recipe: Recipe, folds: int, notebook: NotebookConfig
) -> list[str]:
    """Compare the prediction of the hidden test set on Kaggle's GPU with the time limit; decoding is left out."""
    passes = folds * len(recipe.predict.flips)
    gpu = GPUS[0]
    seconds = cost.prediction_seconds(gpu) / cost.batch_size
    if refine_cost and recipe.refine:
        width, height = recipe.refine.size
        tiles = width * height / recipe.refine.tile**2  # the second network runs over the whole image
        seconds += tiles * refine_cost.prediction_seconds(gpu) / refine_cost.batch_size
    minutes = notebook.images * passes * seconds / 60
    verdict = "within" if minutes < notebook.minutes else "over"
    return [
        f"estimated, for an inference notebook with {notebook.images} images, {folds} folds and "
        f"{len(recipe.predict.flips)} flips:",
        f"  {gpu.name:11} {minutes:.1f} min, {verdict} the limit of {notebook.minutes:g} min",
    ]


class _TrafficCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no annotations here
    """Add up the bytes that every operation reads and writes; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            leaves = tree_leaves((args, kwargs, result))
            self.total += sum(_half_precision_bytes(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        return result


class _SavedTensorCounter:
    """Add up the bytes saved for the backward pass, each storage once."""

    def __init__(self) -> None:
        self.total = 0
        self._seen: dict[int, Tensor] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in self._seen and not isinstance(tensor, torch.nn.Parameter):
            self._seen[key] = tensor  # keeps the storage alive, so that its address is not used again
            self.total += _half_precision_bytes(tensor)
        return tensor


def _half_precision_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor in half precision; integers, such as indices of maxima, keep their size."""
    return tensor.numel() * (_HALF if tensor.is_floating_point() else tensor.element_size())
