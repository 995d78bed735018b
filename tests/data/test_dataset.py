"""Augmentation never repeats, batches do not depend on workers or resuming, labels keep their size."""

import os

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from pipeline.data import dataset
from pipeline.data.augment import Augmentation
from pipeline.data.dataset import (
    EpochSampler,
    TrainDataset,
    ValidationDataset,
    fits_in_memory,
    iterate,
    require_batch,
    train_loader,
    validation_loader,
)
from pipeline.data.labels import LabelReader
from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError
from pipeline.recipe import AugmentConfig

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
MASK = (np.indices((40, 60)).sum(axis=0) % 40 < 9).astype(np.uint8) * 255
STRONG = AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5, rotate=20, shift=0.1, scale=0.2, brightness=0.3, hue=0.1)
SIZE = (64, 48)


def test_augmentation_differs_by_sample_and_epoch_and_repeats_by_key():
    augment = Augmentation(STRONG, seed=3)
    results = {key: augment(IMAGE, MASK, *key)[0].tobytes() for key in np.ndindex(4, 5)}
    assert len(set(results.values())) == 20
    again = Augmentation(STRONG, seed=3)
    assert all(again(IMAGE, MASK, *key)[0].tobytes() == results[key] for key in reversed(results))
    assert Augmentation(STRONG, seed=4)(IMAGE, MASK, 0, 0)[0].tobytes() != results[0, 0]


def test_masks_of_all_classes_move_with_the_image():
    augment = Augmentation(AugmentConfig(vertical_flip=0.5, rotate=30, shift=0.1, scale=0.2), seed=0)
    image, masks = np.repeat(MASK[..., None], 3, axis=2), np.stack([MASK, 255 - MASK], axis=2)
    for index in range(10):
        moved, moved_masks = augment(image, masks, 0, index)
        assert np.abs(moved[..., 0].astype(int) - moved_masks[..., 0]).max() <= 1
        assert np.abs(255 - moved[..., 0].astype(int) - moved_masks[..., 1]).max() <= 1


def test_augmentation_without_changes_returns_its_input():
    image, mask = Augmentation(AugmentConfig(horizontal_flip=0), seed=0)(IMAGE, MASK, 0, 0)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(mask, MASK)


@pytest.fixture
def train_set(competition, data):
    """Build the augmented training set of the tiny competition."""

    def build(cache=False):
        samples = load_training_samples(competition, data)
        return TrainDataset(samples, LabelReader(competition), SIZE, Augmentation(STRONG, 0), cache=cache)

    return build


class Priority(Dataset):
    """Return the priority of the process as the image and as the mask."""

    def __getitem__(self, key):
        return (torch.tensor(os.getpriority(os.PRIO_PROCESS, 0)),) * 2


def test_workers_of_a_training_on_a_cpu_have_a_lower_priority():
    ((value, _),) = iterate(train_loader(Priority(), [[(0, 0)]], 1, pin_memory=False))
    assert value.item() == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)


def batches(train_set, workers, first_step=0):
    sampler = EpochSampler(len(train_set), batch_size=2, epochs=2, seed=0, first_step=first_step)
    return list(iterate(train_loader(train_set, sampler, workers, pin_memory=False)))


@pytest.mark.slow
def test_batches_do_not_depend_on_workers_or_on_the_first_step(train_set):
    complete = batches(train_set(), workers=0)
    assert len(complete) == 12
    for workers, first_step in ((1, 0), (2, 0), (2, 7)):
        other = batches(train_set(), workers, first_step)
        assert len(other) == 12 - first_step
        for pair, other_pair in zip(complete[first_step:], other, strict=True):
            assert all(torch.equal(*tensors) for tensors in zip(pair, other_pair, strict=True))


def test_no_two_augmented_images_are_equal(train_set):
    images = [image.numpy().tobytes() for batch, _ in batches(train_set(), 0) for image in batch]
    assert len(set(images)) == len(images)


def test_cached_pairs_equal_pairs_that_are_read(train_set):
    read, cached = train_set(), train_set(cache=True)
    for key in [(0, 0), (1, 0), (0, 3), (1, 3), (2, 0)]:
        assert all(torch.equal(*tensors) for tensors in zip(read[key], cached[key], strict=True))


def test_cached_pairs_are_not_read_again(train_set, monkeypatch):
    training = train_set(cache=True)
    training[0, 0]
    monkeypatch.setattr(training.labels.images, "read", None)
    training[1, 0]
    with pytest.raises(TypeError):
        training[0, 1]


def test_half_of_the_free_memory_is_used_for_the_cache(monkeypatch):
    monkeypatch.setattr(dataset, "available_memory", lambda: 2 * 4 * 64 * 48 * 10)
    assert fits_in_memory(9, (64, 48), channels=4)
    assert not fits_in_memory(10, (64, 48), channels=4)
    assert not fits_in_memory(9, (64, 48), channels=5)


def test_each_epoch_has_every_sample_once_in_another_order():
    drawn = list(EpochSampler(12, batch_size=3, epochs=2, seed=0))
    first, second = ([index for batch in half for _, index in batch] for half in (drawn[:4], drawn[4:]))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert [epoch for batch in drawn for epoch, _ in batch] == [0] * 12 + [1] * 12


def test_incomplete_batch_of_an_epoch_is_left_out():
    drawn = list(EpochSampler(7, batch_size=3, epochs=2, seed=0))
    assert [len(batch) for batch in drawn] == [3] * 4
    assert len(EpochSampler(7, batch_size=3, epochs=2, seed=0, first_step=1)) == 3


def test_shapes_and_dtypes(competition, data, train_set):
    image, masks = train_set()[0, 0]
    assert (image.shape, image.dtype) == ((3, 48, 64), torch.uint8)
    assert (masks.shape, masks.dtype) == ((1, 48, 64), torch.uint8)
    validation = ValidationDataset(load_training_samples(competition, data), LabelReader(competition), SIZE)
    images, truths = next(iter(iterate(validation_loader(validation, 5, 0, pin_memory=False))))
    assert images.shape == (5, 3, 48, 64)
    assert [truth.masks.shape for truth in truths] == [(1, 62, 94)] * 5


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_file_is_named_in_the_main_process(train_set, data, workers):
    for path in (data / "train").glob("*.jpg"):
        path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match=r"^\S+\.jpg: cannot be decoded .*; download the file again, or remove it$"):
        batches(train_set(), workers)


def test_batch_larger_than_the_training_set_is_refused():
    require_batch(4, 4)
    with pytest.raises(UserError, match=r"train.batch_size: is 5, but this fold has 4 training images"):
        require_batch(4, 5)
