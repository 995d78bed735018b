"""Random windows of large images as training pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pipeline.data.augment import Augmentation
from pipeline.data.dataset import channels_first
from pipeline.data.masks import Size, resize_mask
from pipeline.data.samples import Sample
from pipeline.data.window_reader import WindowReader
from pipeline.data.windows import Window, choose_window
from pipeline.errors import UserError


class WindowDataset(Dataset[Any]):
    """Augmented training pairs of random windows, indexed by (epoch, index) as `pipeline.data.dataset.TrainDataset`.

    The window depends on seed, epoch and index only, so it does not depend on the number of workers or on a resume.

    Args:
        samples: what to train on; every sample has a mask.
        windows: reads the windows.
        size: (width, height) of the model's input.
        augmentation: applied to every pair.
        seed: seed of the choice of the windows.
    """

    def __init__(
        self, samples: Sequence[Sample], windows: WindowReader, size: Size, augmentation: Augmentation, seed: int
    ) -> None:
        self.samples = samples
        self.windows = windows
        self.size = size
        self.augmentation = augmentation
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples) * self.windows.config.per_image

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor] | UserError:
        """Return image (channels, h, w) and masks (classes, h, w) as `pipeline.data.dataset.TrainDataset` does."""
        epoch, index = key
        sample = self.samples[index // self.windows.config.per_image]
        try:
            window = self.choose(sample, epoch, index)
            image = self.windows.read_image(sample, window, self.size)
            masks = [resize_mask(mask, self.size) for mask in self.windows.read_masks(sample, window)]
        except UserError as error:
            return error
        image, changed = self.augmentation(image, np.stack(masks, axis=-1), epoch, index)
        return channels_first(image), channels_first(changed)

    def choose(self, sample: Sample, epoch: int, index: int) -> Window:
        """Choose the window of one pair."""
        rng, config = np.random.default_rng([self.seed, epoch, index]), self.windows.config
        objects = self.windows.objects(sample)
        return choose_window(rng, self.windows.region(sample), config.size, objects, config.objects)
