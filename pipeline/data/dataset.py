"""Samples as tensors: an endless, repeatable stream for training and native-size truth for validation."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.competition import Competition, Sample
from pipeline.data.augment import Augmenter
from pipeline.data.images import read_image, read_mask, resize_mask
from pipeline.errors import UserError
from pipeline.host import available_cores, available_memory
from pipeline.recipe import Recipe


def read_pair(sample: Sample, positive: int | str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A training image at `size` = (width, height) and its mask at its own size.

    Returns:
        image (height, width, 3) uint8 RGB; mask (native height, native width) bool.
    """
    assert sample.mask is not None
    return read_image(sample.image, size), read_mask(sample.mask, positive)


class TrainingSet(Dataset):
    """Augmented training pairs, indexed by (epoch, index) so that a worker needs no state of its own.

    Args:
        samples: what to train on.
        competition: how its masks are written.
        recipe: input size, augmentation and seed.
        keep: keep every pair in memory once it is decoded; each worker keeps its own.
    """

    def __init__(self, samples: Sequence[Sample], competition: Competition, recipe: Recipe, keep: bool = False) -> None:
        self.samples = samples
        self.positive = competition.masks.positive
        self.size = recipe.input.size
        self.augment = Augmenter(recipe.augment, recipe.seed)
        self.keep = keep
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (3, height, width) uint8 RGB; mask (1, height, width) uint8, 255 × the share covered."""
        epoch, index = key
        image, mask = self.augment(*self._decoded(index), epoch, index)
        return _channels_first(image), torch.from_numpy(np.ascontiguousarray(mask))[None]

    def _decoded(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A pair at the network's size, before augmentation."""
        if index in self._kept:
            return self._kept[index]
        image, mask = read_pair(self.samples[index], self.positive, self.size)
        pair = image, resize_mask(mask, self.size)
        if self.keep:
            self._kept[index] = pair
        return pair


class ValidationSet(Dataset):
    """Held-out pairs as they are: the image at the network's size, the mask at its own."""

    def __init__(self, samples: Sequence[Sample], competition: Competition, size: tuple[int, int]) -> None:
        self.samples = samples
        self.positive = competition.masks.positive
        self.size = size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (3, height, width) uint8 RGB; mask (native height, native width) bool."""
        image, mask = read_pair(self.samples[index], self.positive, self.size)
        return _channels_first(image), torch.from_numpy(mask)


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) from any step on: each epoch a permutation that depends on (seed, epoch) alone."""

    def __init__(self, samples: int, batch: int, epochs: int, seed: int, first_step: int = 0) -> None:
        self.samples, self.batch, self.epochs, self.seed, self.first_step = samples, batch, epochs, seed, first_step
        # An incomplete last batch would give its images more weight; they come again in another epoch.
        self.steps_per_epoch = samples // batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first_step, self.epochs * self.steps_per_epoch):
            epoch, offset = divmod(step, self.steps_per_epoch)
            if offset == 0 or step == self.first_step:
                order = np.random.default_rng([self.seed, epoch]).permutation(self.samples).tolist()
            yield [(epoch, index) for index in order[offset * self.batch : (offset + 1) * self.batch]]

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch - self.first_step


def training_loader(dataset: TrainingSet, sampler: EpochSampler, workers: int, pin: bool) -> DataLoader:
    """One loader over all epochs left, so that workers start once and never wait at the end of an epoch."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        generator=torch.Generator(),  # else it draws from the stream that dropout uses, once more at each resume
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_one_thread,
        **_ahead(workers),
    )


def validation_loader(dataset: ValidationSet, batch: int, workers: int, pin: bool) -> DataLoader:
    """Batches of (images (n, 3, h, w) uint8, list of n native masks): masks may differ in size."""
    return DataLoader(
        dataset,
        batch_size=batch,
        collate_fn=_stack_images,
        generator=torch.Generator(),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_one_thread,
        persistent_workers=workers > 0,  # it is asked again after every epoch
        **_ahead(workers),
    )


def worker_count(on_cpu: bool) -> int:
    """Loader processes: all cores beside a GPU (at most 16), one where the network itself needs the cores."""
    return 1 if on_cpu else min(available_cores(), 16)


def fits_in_memory(samples: int, size: tuple[int, int]) -> bool:
    """Whether that many decoded pairs of `size` = (width, height) take less than half of the free memory."""
    width, height = size
    return samples * width * height * 4 < available_memory() / 2


def require_batch(samples: int, batch: int) -> None:
    """Raise a UserError if there are fewer training images than one batch needs."""
    if samples < batch:
        raise UserError(f"train.batch is {batch}, but this fold trains on {samples} images; set a smaller train.batch")


def _channels_first(image_hwc: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image_hwc.transpose(2, 0, 1)))


def _stack_images(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    images, masks = zip(*pairs, strict=True)
    return torch.stack(images), list(masks)


def _ahead(workers: int) -> dict[str, int]:
    return {"prefetch_factor": 2} if workers else {}


def _one_thread(_: int) -> None:
    # Each worker is one core's share already; OpenCV's own pool on top of it would only make them fight.
    cv2.setNumThreads(0)
