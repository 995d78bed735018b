"""Colors change by the stated amounts, grays stay gray, and the same seed gives the same change."""

import albumentations as A
import numpy as np
import pytest

from pipeline.data.augment import ColorJitter
from pipeline.recipe import AugmentConfig

COLORS = np.random.default_rng(0).integers(60, 180, (20, 30, 3), dtype=np.uint8)
GRAYS = np.repeat(COLORS[..., :1], 3, axis=-1)


def jitter(image: np.ndarray, seed: int, **changes: float) -> np.ndarray:
    compose = A.Compose([ColorJitter(AugmentConfig(**changes), p=1.0)])
    compose.set_random_seed(seed)
    return compose(image=image)["image"]


def luma(image: np.ndarray) -> np.ndarray:
    return image @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize("seed", range(5))
def test_hue_and_saturation_keep_grays_and_luma(seed):
    assert np.abs(jitter(GRAYS, seed, hue=0.5, saturation=0.9).astype(int) - GRAYS).max() <= 1
    changed = jitter(COLORS, seed, hue=0.2, saturation=0.2)
    assert np.abs(luma(changed) - luma(COLORS)).max() < 3
    assert np.abs(changed.astype(int) - COLORS).max() > 5


def test_half_a_turn_of_hue_exchanges_complementary_colors():
    red = np.full((4, 4, 3), (180, 60, 60), dtype=np.uint8)
    furthest = min((jitter(red, seed, hue=0.5) for seed in range(200)), key=lambda image: int(image[0, 0, 0]))
    assert furthest[0, 0, 0] < furthest[0, 0, 1]
    assert furthest[0, 0, 0] < furthest[0, 0, 2]


@pytest.mark.parametrize("seed", range(5))
def test_brightness_is_a_factor(seed):
    ratio = jitter(COLORS, seed, brightness=0.3).astype(float) / COLORS
    assert ratio.std() < 0.01
    assert 0.7 <= ratio.mean() <= 1.3


@pytest.mark.parametrize("seed", range(5))
def test_contrast_keeps_the_mean_and_scales_the_deviation(seed):
    changed = jitter(GRAYS, seed, contrast=0.3)
    assert changed.mean() == pytest.approx(GRAYS.mean(), abs=1)
    assert 0.68 < changed.std() / GRAYS.std() < 1.32
    assert abs(changed.std() / GRAYS.std() - 1) > 0.01


def test_changes_depend_on_the_seed_only():
    one, same, other = (jitter(COLORS, seed, brightness=0.3, hue=0.1) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
