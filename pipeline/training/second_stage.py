"""The second stage of a training: tiles of the images around the edges, with the logits of the first stage."""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from pipeline.data.augment import Augmentation
from pipeline.data.dataset import TrainDataset, channels_first, iterate, num_loader_workers, train_loader
from pipeline.data.labels import LabelReader
from pipeline.data.samples import Sample
from pipeline.models.checkpoint import fingerprint_weights, load_weights
from pipeline.models.classes import Classes
from pipeline.models.device import ComputeDevice, to_device
from pipeline.models.refined import RefinedModel, Refiner, build_refiner, encode_logits
from pipeline.models.zoo import SegmentationModel
from pipeline.paths import Fold, Run
from pipeline.recipe import AugmentConfig, Recipe, RefineConfig
from pipeline.training.ranks import Ranks
from pipeline.training.state import TrainState, init_state

log = logging.getLogger(__name__)

_UNSURE_LOGIT = 3.0
"""Tiles are centered near pixels with a smaller logit, and near the true edges."""
_NO_AUGMENTATION = Augmentation(AugmentConfig(horizontal_flip=0.0), seed=0)


class TileDataset(Dataset[Any]):
    """Augmented tiles, indexed by (epoch, index) as `pipeline.data.dataset.TrainDataset`.

    Args:
        folder: the folder that `cut_tiles` wrote.
        augmentation: its color transforms apply to the image channels, its geometric ones also to logits and masks.
    """

    def __init__(self, folder: Path, augmentation: Augmentation) -> None:
        self.augmentation = augmentation
        # Mapped, not read: tiles may take more memory than there is.
        self._images, self._masks = (np.load(path, mmap_mode="r") for path in _files(folder))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tile (channels + classes, t, t) and the masks (classes, t, t), both uint8, for `Refiner`."""
        epoch, index = key
        image, masks = self._images[index], self._masks[index]
        channels = image.shape[-1] - masks.shape[-1]
        # Geometric transforms apply to the codes of the logits as to masks.
        maps = np.concatenate([image[..., channels:], masks], axis=-1)
        colors, maps = self.augmentation(np.ascontiguousarray(image[..., :channels]), maps, epoch, index)
        codes = maps[..., : masks.shape[-1]]
        tile = np.concatenate([colors, codes], axis=-1)
        return channels_first(tile), channels_first(maps[..., codes.shape[-1] :])


def init_second_stage(
    recipe: Recipe,
    train: Sequence[Sample],
    labels: LabelReader,
    run: Run,
    classes: Classes,
    device: ComputeDevice,
    fold: Fold,
    ranks: Ranks,
) -> tuple[TrainState, TileDataset]:
    """Build the state of the second stage at step 0 and its training tiles, from the weights of the first stage.

    Args:
        recipe: a recipe with a second stage.
        train: the training images of the fold.
        labels: reads their masks.
        run: the run; the first stage is finished.
        classes: classes of the competition.
        device: the device.
        fold: the fold.
        ranks: the processes that train; the main one cuts the tiles.

    Returns:
        The state, whose `complete` adds the first network, and the tiles.

    Raises:
        UserError: a file cannot be read.
    """
    assert recipe.refine is not None
    coarse, _, metadata = load_weights(run.coarse.weights)
    coarse = coarse.requires_grad_(False).to(device.device).to(memory_format=torch.channels_last)

    def complete(refiner: SegmentationModel) -> RefinedModel:
        assert isinstance(refiner, Refiner)
        return RefinedModel(coarse, recipe.input.size, refiner)

    state = init_state(recipe.stages()[1], classes, device, fold, partial(build_refiner, recipe.refine))
    state.complete = complete
    started = time.monotonic()
    if ranks.is_main:
        made_from = f"{run.split.read_text()}{recipe.refine!r} {fingerprint_weights(run.coarse.weights)}"
        model = complete(state.model)
        cut_tiles(train, labels, model, device, recipe.refine, recipe.train.batch_size, run.tiles, made_from)
    ranks.broadcast(True)  # the others wait
    state.seconds = 60 * float(metadata.minutes) + time.monotonic() - started
    augmentation = Augmentation(recipe.augment, recipe.seed, is_rgb=labels.images.is_rgb)
    return state, TileDataset(run.tiles, augmentation)


def cut_tiles(
    samples: Sequence[Sample],
    labels: LabelReader,
    model: RefinedModel,
    device: ComputeDevice,
    config: RefineConfig,
    batch_size: int,
    folder: Path,
    made_from: str = "",
) -> None:
    """Predict the training images with the first network, and write tiles of them; do nothing if they exist.

    That network was trained on these images, so its errors are smaller than on new ones.

    Args:
        samples: the training images of the fold.
        labels: reads their masks.
        model: its first network is trained; on the device.
        device: the device.
        config: number, side and scale of the tiles.
        batch_size: images per prediction.
        folder: where to write ``.images.npy`` and ``.masks.npy``.
        made_from: text that identifies the images, `config` and the first network; tiles with another text are cut
            again.
    """
    origin = folder / ".made_from"
    if all(path.exists() for path in (*_files(folder), origin)) and origin.read_text() == made_from:
        return
    remove_tiles(folder)
    dataset = TrainDataset(samples, labels, config.size, _NO_AUGMENTATION)
    workers = num_loader_workers(device.device.type == "cpu")
    numbers = range(len(samples))
    batches = [[(0, number) for number in numbers[start:][:batch_size]] for start in numbers[::batch_size]]
    loader = train_loader(dataset, batches, workers, device.is_cuda)
    count = len(samples) * config.tiles
    unfinished = _unfinished(folder)
    unfinished.mkdir(parents=True)
    try:
        _write_tiles(iterate(loader), len(loader), model, device, config, count, unfinished)
        (unfinished / origin.name).write_text(made_from)
    except BaseException:
        remove_tiles(folder)  # a full disk would stay full
        raise
    unfinished.replace(folder)
    log.info("%s: %d tiles of %d images", folder, count, len(samples))


def _write_tiles(
    batches: Iterator[Any],
    total: int,
    model: RefinedModel,
    device: ComputeDevice,
    config: RefineConfig,
    count: int,
    folder: Path,
) -> None:
    """Write `count` tiles of `total` batches of images and masks."""
    side, index = config.tile, 0
    files: list[np.memmap[Any, Any]] = []
    for images, masks in tqdm(batches, total=total, desc="tiles", unit="batch", leave=False):
        logits = _predict_logits(model, images, device)
        unsure = (logits.abs() < _UNSURE_LOGIT).any(dim=1).cpu().numpy()
        arrays = (batch.permute(0, 2, 3, 1).cpu() for batch in (images, logits, masks))
        for image, maps, mask, is_unsure in zip(*arrays, unsure, strict=True):
            if not files:
                depth = image.shape[-1] + maps.shape[-1]
                shapes = [(count, side, side, channels) for channels in (depth, mask.shape[-1])]
                files = [_create(path, shape) for path, shape in zip(_files(folder), shapes, strict=True)]
            for top, left in _choose_corners(mask.numpy(), is_unsure, config, np.random.default_rng([0, index])):
                window = np.s_[top : top + side, left : left + side]
                files[0][index, ..., : image.shape[-1]] = image[window]
                files[0][index, ..., image.shape[-1] :] = encode_logits(maps[window]).round().to(torch.uint8)
                files[1][index] = mask[window]
                index += 1
    for file in files:
        file.flush()


@torch.inference_mode()
def _predict_logits(model: RefinedModel, images: Tensor, device: ComputeDevice) -> Tensor:
    """Predict a batch with the first network, in halves if it does not fit into the memory of a GPU."""
    try:
        with device.autocast():
            return model.coarse_logits(to_device(images, device))
    except torch.cuda.OutOfMemoryError:
        if len(images) == 1:
            raise
    torch.cuda.empty_cache()
    return torch.cat([_predict_logits(model, half, device) for half in images.chunk(2)])


def tile_bytes(config: RefineConfig, images: int, channels: int) -> int:
    """Return the bytes of the tiles of a number of images; `channels` are those of an image, its logits and masks."""
    return images * config.tiles * config.tile**2 * channels


def remove_tiles(folder: Path) -> None:
    """Delete the tiles of a folder, and those of a process that was killed while it cut them."""
    for path in (folder, _unfinished(folder)):
        shutil.rmtree(path, ignore_errors=True)


def _choose_corners(
    mask: np.ndarray, unsure: np.ndarray, config: RefineConfig, rng: np.random.Generator
) -> Sequence[tuple[int, int]]:
    """Choose the top left corners (row, column) of the tiles of one image.

    Args:
        mask: (h, w, classes) uint8, 0 to 255.
        unsure: (h, w) bool.
        config: number and side of the tiles.
        rng: random numbers.
    """
    edges = [
        cv2.morphologyEx(layer, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) for layer in np.moveaxis(mask, -1, 0)
    ]
    rows, columns = np.nonzero(np.any(edges, axis=0) | unsure)
    height, width = unsure.shape
    if not len(rows):
        rows, columns = (rng.integers(0, limit, config.tiles) for limit in (height, width))
    chosen = rng.integers(0, len(rows), config.tiles)
    shift = rng.integers(-config.tile // 4, config.tile // 4 + 1, (2, config.tiles)) - config.tile // 2
    tops = (rows[chosen] + shift[0]).clip(0, height - config.tile)
    lefts = (columns[chosen] + shift[1]).clip(0, width - config.tile)
    return list(zip(tops.tolist(), lefts.tolist(), strict=True))


def _create(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Create a .npy file of uint8, mapped into memory."""
    file: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        # A write to mapped memory for which the disk has no space would kill the process.
        with path.open("rb+") as opened:
            os.posix_fallocate(opened.fileno(), 0, path.stat().st_size)
    return file


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}")


def _files(folder: Path) -> tuple[Path, Path]:
    # Hidden: gigabytes that can be made again do not belong into an object store (`pipeline.storage`).
    return folder / ".images.npy", folder / ".masks.npy"
