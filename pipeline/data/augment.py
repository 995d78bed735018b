"""Random augmentation of training pairs with albumentations."""

import os
from typing import Any

# albumentations checks over the network for a newer version when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np

from pipeline.recipe import AugmentConfig

_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""RGB to luma and two components of chroma (NTSC)."""
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


class ColorJitter(A.ImageOnlyTransform):  # type: ignore[misc] # a library without types
    """Change brightness, contrast, saturation and hue by one linear map of the colors.

    A.ColorJitter applies them one after another, which takes ten times as long. Here hue and saturation rotate and
    scale the chroma in YIQ, and colors are clipped once, at the end.

    Args:
        config: the largest changes.
        p: probability of a change.
    """

    def __init__(self, config: AugmentConfig, p: float) -> None:
        super().__init__(p=p)
        self.config = config

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the map: (3, 4) float64, the last column is added."""
        config, uniform = self.config, self.py_random.uniform
        brightness, contrast, saturation = (
            1 + uniform(-largest, largest) for largest in (config.brightness, config.contrast, config.saturation)
        )
        angle = 2 * np.pi * uniform(-config.hue, config.hue)
        cosine, sine = saturation * np.cos(angle), saturation * np.sin(angle)
        chroma = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        gray = _TO_YIQ[0] @ cv2.mean(data["image"])[:3]
        colors = brightness * contrast * (_FROM_YIQ @ chroma @ _TO_YIQ)
        return {"matrix": np.column_stack([colors, np.full(3, brightness * (1 - contrast) * gray)])}

    def apply(self, img: np.ndarray, matrix: np.ndarray, **_: Any) -> np.ndarray:
        """Map the colors of an image (h, w, 3) uint8 RGB."""
        changed: np.ndarray = cv2.transform(img, matrix)
        return changed


class ValueJitter(A.ImageOnlyTransform):  # type: ignore[misc] # a library without types
    """Change brightness and contrast of channels that are no colors, all by the same map.

    Args:
        config: the largest changes; hue and saturation do not apply.
        p: probability of a change.
    """

    def __init__(self, config: AugmentConfig, p: float) -> None:
        super().__init__(p=p)
        self.config = config

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the map: (256,) uint8, the new value of each value."""
        brightness, contrast = (
            1 + self.py_random.uniform(-largest, largest) for largest in (self.config.brightness, self.config.contrast)
        )
        mean = float(data["image"].mean())
        return {"table": (brightness * (mean + contrast * (np.arange(256) - mean))).clip(0, 255).astype(np.uint8)}

    def apply(self, img: np.ndarray, table: np.ndarray, **_: Any) -> np.ndarray:
        """Map the values of an image (h, w, c) uint8."""
        return cv2.LUT(img, table).reshape(img.shape)


class Augmentation:
    """Augment an image and its mask together, the same way for the same (seed, epoch, index).

    Args:
        config: the recipe's ``[augment]`` table.
        seed: seed of the random numbers.
        is_rgb: whether the channels are colors.
    """

    def __init__(self, config: AugmentConfig, seed: int, *, is_rgb: bool = True) -> None:
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
            steps.append(ColorJitter(config, p=0.8) if is_rgb else ValueJitter(config, p=0.8))
        self._compose = A.Compose(steps)
        self._seed = seed

    def __call__(self, image: np.ndarray, mask: np.ndarray, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Augment one pair.

        Args:
            image: (h, w, channels) uint8.
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
