"""Samples as tensors: a repeatable stream of batches for training, and masks at native size for validation."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from pipeline.data.augment import Augmentation
from pipeline.data.labels import LabelReader, Truth
from pipeline.data.masks import resize_mask
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.host import available_cores, available_memory

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainDataset(Dataset[Any]):
    """Augmented training pairs, indexed by (epoch, index), so that workers keep no state.

    Args:
        samples: what to train on; every sample has a mask.
        labels: reads the masks.
        size: (width, height) of the model's input.
        augmentation: applied to every pair.
        cache: keep decoded pairs in memory; each worker has its own cache.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: LabelReader,
        size: tuple[int, int],
        augmentation: Augmentation,
        *,
        cache: bool = False,
    ) -> None:
        self.samples = samples
        self.labels = labels
        self.size = size
        self.augmentation = augmentation
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor] | UserError:
        """Return the image (channels, h, w) uint8 and the masks (classes, h, w) uint8: 255 × the fraction covered.

        An unreadable file is returned as its error, for `iterate` to raise in the main process.
        """
        epoch, index = key
        try:
            image, masks = self.augmentation(*self._read(index), epoch, index)
        except UserError as error:
            return error
        return channels_first(image), channels_first(masks if masks.ndim == 3 else masks[..., None])

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return image (h, w, channels) and masks (h, w) or (h, w, classes), both uint8, before augmentation."""
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        sample = self.samples[index]
        masks = [resize_mask(mask, self.size) for mask in self.labels.read_masks(sample)]
        pair = self.labels.images.read(sample, self.size), masks[0] if len(masks) == 1 else np.stack(masks, axis=-1)
        if self._cache is not None:
            self._cache[index] = pair
        return pair


class ValidationDataset(Dataset[Any]):
    """Validation pairs: images at the model's input size, labels at the size of submissions.

    Args:
        samples: what to validate on; every sample has a label.
        labels: reads the labels.
        size: (width, height) of the model's input.
        instances: whether the metric compares objects.
    """

    def __init__(
        self, samples: Sequence[Sample], labels: LabelReader, size: tuple[int, int], *, instances: bool = False
    ) -> None:
        self.samples = samples
        self.labels = labels
        self.size = size
        self.instances = instances

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Truth] | UserError:
        """Return the image (channels, h, w) uint8 and its labels; errors as `TrainDataset`."""
        sample = self.samples[index]
        try:
            image = self.labels.images.read(sample, self.size)
            return channels_first(image), self.labels.read_truth(sample, instances=self.instances)
        except UserError as error:
            return error


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) from any step on. The order of an epoch depends on (seed, epoch) only.

    Args:
        samples: number of samples. An incomplete last batch of an epoch is left out.
        batch_size: samples per batch.
        epochs: number of epochs.
        seed: random seed of the permutations.
        first_step: steps before this one are skipped.
        rank: yield only this process's part of each batch, every `world_size`-th sample.
        world_size: number of processes, a divisor of `batch_size`.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        epochs: int,
        seed: int,
        first_step: int = 0,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.epochs = epochs
        self.seed = seed
        self.first_step = first_step
        self.rank = rank
        self.world_size = world_size
        self.steps_per_epoch = samples // batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first_step, self.epochs * self.steps_per_epoch):
            epoch, batch = divmod(step, self.steps_per_epoch)
            if batch == 0 or step == self.first_step:
                order = np.random.default_rng([self.seed, epoch]).permutation(self.samples).tolist()
            indices = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(epoch, index) for index in indices[self.rank :: self.world_size]]

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch - self.first_step


def train_loader(
    dataset: Dataset[Any], batches: Iterable[list[tuple[int, int]]], workers: int, pin_memory: bool
) -> DataLoader[Any]:
    """Build one loader for all epochs: its workers start once and prefetch across epochs.

    Args:
        dataset: the training pairs.
        batches: the (epoch, index) of each pair of each batch.
        workers: number of worker processes.
        pin_memory: whether the batches are copied to a GPU.

    Returns:
        Batches of images (n, channels, h, w) uint8 and masks (n, classes, h, w) uint8.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=_collate_pairs,
        # A generator of its own: the default one is dropout's, and would advance once more at each resume.
        generator=torch.Generator(),
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_init_worker if pin_memory else _init_nice_worker,
        prefetch_factor=2 if workers else None,
    )


def validation_loader(dataset: ValidationDataset, batch_size: int, workers: int, pin_memory: bool) -> DataLoader[Any]:
    """Build the loader of the validation images; its workers persist between validations.

    Batches are images (n, 3, h, w) uint8 and a list of n `Truth`, whose masks may differ in size.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=_collate_truths,
        generator=torch.Generator(),
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_init_worker,
        persistent_workers=workers > 0,
        prefetch_factor=2 if workers else None,
    )


def iterate(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield the batches of a loader.

    Raises:
        UserError: a worker could not read a file.
    """
    with _hold_stop_signals():
        batches = iter(loader)
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def num_loader_workers(on_cpu: bool, processes: int = 1) -> int:
    """Return the number of worker processes: all cores (at most 16) for a GPU, 1 if the model needs the cores.

    Args:
        on_cpu: whether the model trains on the CPU.
        processes: number of processes on this machine that share its cores.
    """
    return 1 if on_cpu else max(1, min(available_cores() // processes, 16))


def fits_in_memory(samples: int, size: tuple[int, int], channels: int) -> bool:
    """Return whether decoded pairs take less than half of the free memory.

    Args:
        samples: number of pairs.
        size: (width, height).
        channels: channels of an image and its masks together.
    """
    width, height = size
    return samples * width * height * channels < available_memory() / 2


def require_batch(samples: int, batch_size: int, world_size: int = 1) -> None:
    """Raise a UserError if a batch has more images than there are, or cannot be split among the processes."""
    if batch_size % world_size:
        what = f"is {batch_size}, which {world_size} processes cannot share equally"
        raise UserError("train.batch_size", what, f"set a multiple of {world_size}, or GPUS to a divisor of it")
    if samples < batch_size:
        what = f"is {batch_size}, but this fold has {samples} training images"
        raise UserError("train.batch_size", what, "set a smaller train.batch_size")


def channels_first(image_hwc: np.ndarray) -> torch.Tensor:
    """Convert (h, w, c) to a contiguous tensor (c, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(image_hwc.transpose(2, 0, 1)))


def _first_error(items: Sequence[Any]) -> UserError | None:
    return next((item for item in items if isinstance(item, UserError)), None)


def _collate_pairs(items: list[Any]) -> Any:
    return _first_error(items) or default_collate(items)


def _collate_truths(items: list[Any]) -> Any:
    if error := _first_error(items):
        return error
    images, truths = zip(*items, strict=True)
    return torch.stack(images), list(truths)


@contextmanager
def _hold_stop_signals() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while worker processes start; they would end a worker that does not ignore them yet.

    The workers and the loader's threads never get these signals: they inherit the mask.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _init_worker(_: int) -> None:
    # Terminals, service managers and batch systems signal the whole process group. The main process finishes its step
    # and ends its workers; one that is gone before would make it fail. The mask is inherited; it is set again in case
    # this platform does not.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()
    # The workers share the cores; OpenCV's threads on top of them only add contention.
    cv2.setNumThreads(0)


def _init_nice_worker(number: int) -> None:
    """Lower the priority of a worker: if it interrupts one thread of the training, all others wait for that thread."""
    _init_worker(number)
    os.nice(10)


def _obey_parent(parent: int) -> None:
    """End the worker at a SIGTERM of its parent, which may wait for its end."""
    while signal.sigwaitinfo(_STOP_SIGNALS).si_pid != parent:
        pass
    os._exit(0)
