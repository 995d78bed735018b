"""Stages of the network: training steps, and prediction from a file to a row."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.stage import OURS, BenchData, Stage, Target
from benchmarks.usual import UsualUNet, predict_usual_row, usual_train_step
from pipeline.data.images import read_image
from pipeline.data.samples import load_test_samples
from pipeline.inference.ensemble import Ensemble, EnsembleMember
from pipeline.inference.postprocess import default_postprocess
from pipeline.inference.stream import predict_rows
from pipeline.models.classes import SINGLE_CLASS
from pipeline.models.device import ComputeDevice, choose_device, to_device
from pipeline.models.fuse import fuse_batch_norms
from pipeline.models.zoo import build_model
from pipeline.recipe import Recipe, SMPConfig, load_recipe
from pipeline.training.losses import SegmentationLoss
from pipeline.training.state import init_state, train_step

MATRIX = 2048
"""Side of the square matrices whose product measures a processor's rate; a GPU gets four times that."""

SMP = "smp UNet at equal multiply-adds"


def large_recipe(size: tuple[int, int], batch_size: int) -> Recipe:
    """Return a recipe with the network of `UsualUNet`, 31 million parameters."""
    values = load_recipe("baseline").model_dump()
    values["input"] |= {"size": size}
    values["network"] |= {"width": 64, "depth": 4, "max_width": 1024, "up": "transpose"}
    values["train"] |= {"batch_size": batch_size, "optimizer": "adamw", "ema_decay": 0.0, "resize_schedule": ()}
    values["predict"] |= {"flips": ["none"]}
    return Recipe.model_validate(values)


def with_smp_unet(recipe: Recipe) -> Recipe:
    """Return the recipe with the UNet of segmentation-models-pytorch, in the same precision and memory format."""
    return recipe.model_copy(update={"network": SMPConfig(name="Unet", encoder="resnet34")})


def step_stages(data: BenchData) -> Iterator[Stage]:
    """Training steps: the network of 31 million parameters at two sizes, and the recipe `cpu`."""
    device = choose_device()
    batch_size = 8 if device.is_cuda else 1
    # On a CPU, the large size would take a minute per step and round; the ratio is that of a quarter of the pixels.
    for width, height in ((240, 160), (960, 640) if device.is_cuda else (480, 320)):
        recipe = large_recipe((width, height), batch_size)
        usual_model = UsualUNet().to(device.device, memory_format=torch.channels_last).train()
        usual_step = usual_train_step(usual_model, device.device)
        floats = torch.rand(batch_size, 3, height, width)
        labels = (torch.rand(batch_size, height, width) > 0.5).long()
        ours, flops = our_step(recipe, device)
        ways = {OURS: ours, "usual": lambda x=floats, y=labels, step=usual_step: step(x, y)}
        name = f"training step, 31 M, {width}×{height}"
        yield with_matrix_limit(Stage(name, batch_size, "image", ways, Target(at_least=2.5)), device, flops)
    recipe = load_recipe("cpu")
    ours, flops = our_step(recipe, device)
    other, other_flops = our_step(with_smp_unet(recipe), device)
    stage = Stage(
        "training step, recipe cpu",
        recipe.train.batch_size,
        "image",
        {OURS: ours, SMP: other},
        scale={SMP: flops / other_flops},
    )
    yield with_matrix_limit(stage, device, flops)


def our_step(recipe: Recipe, device: ComputeDevice) -> tuple[Callable[[], object], float]:
    """Return a function that runs one training step on a random batch, and its FLOPs."""
    width, height = recipe.input.size
    count = recipe.train.batch_size
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
    masks = torch.rand(count, 1, height, width).round()
    state = init_state(recipe, SINGLE_CLASS, device, 0)
    state.model.train()
    loss = SegmentationLoss(recipe.train.loss)

    def step() -> float:
        batch = to_device(images, device), masks.to(device.device)
        return train_step(state, *batch, loss, device, recipe.train)[0].item()

    with FlopCounterMode(display=False) as counter:
        loss(state.model(to_device(images, device)), masks.to(device.device)).backward()
    return step, counter.get_total_flops()


def predict_stages(data: BenchData) -> Iterator[Stage]:
    """JPEG to row: the network of 31 million parameters, and the recipe `cpu` beside its network alone."""
    device = choose_device()
    count, size = (64, (960, 640)) if device.is_cuda else (2, (480, 320))
    samples = (load_test_samples(data.competition, data.folder) * 4)[:count]
    usual_model = UsualUNet().to(device.device, memory_format=torch.channels_last).eval()
    ours, _, flops = our_prediction(large_recipe(size, 8), samples, data, device)
    ways = {
        OURS: ours,
        "usual": lambda: [predict_usual_row(usual_model, sample.image, size, device.device) for sample in samples],
    }
    target = Target(at_least=8 if device.is_cuda else 3)
    stage = Stage(f"JPEG → row, 31 M, {size[0]}×{size[1]}", len(samples), "image", ways, target)
    yield with_matrix_limit(stage, device, flops * len(samples))

    samples, recipe = load_test_samples(data.competition, data.folder)[:12], load_recipe("cpu")
    ours, alone, flops = our_prediction(recipe, samples, data, device)
    _, other, other_flops = our_prediction(with_smp_unet(recipe), samples, data, device)
    ways = {OURS: ours, "network alone": alone, f"{SMP} alone": other}
    target, scale = Target("network alone", at_most=1.1), {f"{SMP} alone": flops / other_flops}
    stage = Stage("JPEG → row, recipe cpu", len(samples), "image", ways, target, scale=scale)
    yield with_matrix_limit(stage, device, flops * len(samples))


def our_prediction(
    recipe: Recipe, samples: list, data: BenchData, device: ComputeDevice
) -> tuple[Callable[[], object], Callable[[], object], float]:
    """Prepare a prediction with random weights.

    Returns:
        A function that predicts the rows, one that runs the network alone on decoded batches, and the FLOPs of
        an image.
    """
    torch.manual_seed(0)
    model = build_model(recipe.network).eval()
    fuse_batch_norms(model)
    model.to(device.device, memory_format=torch.channels_last)
    ensemble = Ensemble([model], recipe.predict.flips, device)
    postprocess = default_postprocess(data.competition, 0.5)
    members = [EnsembleMember(ensemble, recipe)]
    images = torch.stack([
        torch.from_numpy(read_image(sample.image, recipe.input.size)).permute(2, 0, 1) for sample in samples
    ])  # fmt: skip
    batches: tuple[Tensor, ...] = images.split(recipe.train.batch_size)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        ensemble(images[:1])

    def rows() -> None:
        for _ in predict_rows(members, samples, data.competition, postprocess):
            pass

    def alone() -> None:
        for batch in batches:
            ensemble(batch).sum().item()

    return rows, alone, counter.get_total_flops()


def with_matrix_limit(stage: Stage, device: ComputeDevice, flops: float) -> Stage:
    """Add the time that the multiplications of the stage take in one matrix product, at the device's precision."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}[device.precision]
    side = MATRIX * (4 if device.is_cuda else 1)
    matrix = torch.rand(side, side, device=device.device).to(dtype)

    def product() -> None:
        (matrix @ matrix)[0, 0].item()

    return Stage(
        stage.name,
        stage.items,
        stage.unit,
        {**stage.ways, "limit": product},
        stage.target,
        f"matrix products in {device.precision}",
        {**stage.scale, "limit": flops / (2 * side**3)},
        stage.rounds,
    )
