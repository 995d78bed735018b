"""Random changes of a training image and its mask, by albumentations."""

import os

# The package asks the network for a newer version of itself when it is imported; a training run should not.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np

from pipeline.recipe import AugmentConfig


class Augmentation:
    """Changes image and mask together, and the same way for the same (seed, epoch, index)."""

    def __init__(self, settings: AugmentConfig, seed: int) -> None:
        steps: list[A.BasicTransform] = []
        if settings.horizontal_flip:
            steps.append(A.HorizontalFlip(p=settings.horizontal_flip))
        if settings.vertical_flip:
            steps.append(A.VerticalFlip(p=settings.vertical_flip))
        if settings.rotate or settings.shift or settings.scale:
            steps.append(
                A.Affine(
                    scale=(1 - settings.scale, 1 + settings.scale),
                    keep_ratio=True,
                    translate_percent=(-settings.shift, settings.shift),
                    rotate=(-settings.rotate, settings.rotate),
                    interpolation=cv2.INTER_LINEAR,
                    mask_interpolation=cv2.INTER_LINEAR,
                    # A black margin exists in no test image; a mirrored one at least has the studio's colours.
                    border_mode=cv2.BORDER_REFLECT_101,
                    p=1.0,
                )
            )
        if settings.brightness or settings.contrast or settings.hue or settings.saturation:
            steps.append(
                A.ColorJitter(
                    brightness=(1 - settings.brightness, 1 + settings.brightness),
                    contrast=(1 - settings.contrast, 1 + settings.contrast),
                    saturation=(1 - settings.saturation, 1 + settings.saturation),
                    hue=(-settings.hue, settings.hue),
                    p=0.8,
                )
            )
        self._compose = A.Compose(steps)
        self._seed = seed

    def __call__(self, image: np.ndarray, mask: np.ndarray, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Change one pair.

        Args:
            image: (height, width, 3) uint8 RGB.
            mask: (height, width) uint8, 0 to 255.
            epoch: counted from 0.
            index: of the sample in its set.

        Returns:
            Image and mask with the shapes and dtypes they came with.
        """
        # In the workers of a loader albumentations' own random streams repeat, seeded or not; a seed for each sample
        # makes the stream differ by sample and epoch, and independent of how many workers share the work.
        self._compose.set_random_seed(int(np.random.SeedSequence([self._seed, epoch, index]).generate_state(1)[0]))
        changed = self._compose(image=image, mask=mask)
        return changed["image"], changed["mask"]
