"""Random augmentation of training pairs with albumentations."""

import os

# albumentations checks over the network for a newer version when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np

from pipeline.recipe import AugmentConfig


class Augmentation:
    """Augment an image and its mask together, the same way for the same (seed, epoch, index).

    Args:
        config: the recipe's ``[augment]`` table.
        seed: seed of the random numbers.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        steps: list[A.BasicTransform] = []
        if config.horizontal_flip:
            steps.append(A.HorizontalFlip(p=config.horizontal_flip))
        if config.vertical_flip:
            steps.append(A.VerticalFlip(p=config.vertical_flip))
        if config.rotate or config.shift or config.scale:
            steps.append(
                A.Affine(
                    scale=(1 - config.scale, 1 + config.scale),
                    keep_ratio=True,
                    translate_percent=(-config.shift, config.shift),
                    rotate=(-config.rotate, config.rotate),
                    interpolation=cv2.INTER_LINEAR,
                    mask_interpolation=cv2.INTER_LINEAR,
                    # No test image has a black margin; a mirrored one has the colors of the background.
                    border_mode=cv2.BORDER_REFLECT_101,
                    p=1.0,
                )
            )
        if config.brightness or config.contrast or config.hue or config.saturation:
            steps.append(
                A.ColorJitter(
                    brightness=(1 - config.brightness, 1 + config.brightness),
                    contrast=(1 - config.contrast, 1 + config.contrast),
                    saturation=(1 - config.saturation, 1 + config.saturation),
                    hue=(-config.hue, config.hue),
                    p=0.8,
                )
            )
        self._compose = A.Compose(steps)
        self._seed = seed

    def __call__(self, image: np.ndarray, mask: np.ndarray, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Augment one pair.

        Args:
            image: (h, w, 3) uint8 RGB.
            mask: (h, w) or (h, w, classes) uint8, 0 to 255.
            epoch: number of the epoch, from 0.
            index: index of the sample in its data set.

        Returns:
            Image and mask with the same shapes and dtypes.
        """
        # In loader workers the random streams of albumentations repeat, seeded or not. A seed per sample makes them
        # differ by sample and epoch and independent of the number of workers.
        self._compose.set_random_seed(int(np.random.SeedSequence([self._seed, epoch, index]).generate_state(1)[0]))
        changed = self._compose(image=image, mask=mask)
        return changed["image"], changed["mask"]
