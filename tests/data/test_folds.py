"""Folds that do not leak, augmentation that does not repeat, loaders that resume."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import dataset
from pipeline.data.augment import Augmentation
from pipeline.data.dataset import EpochSampler, TrainDataset, ValidationDataset, fits_in_memory, train_loader
from pipeline.data.folds import make_folds, read_folds, save_folds, split_groups
from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError
from pipeline.recipe import AugmentConfig


class TestFolds:
    @settings(max_examples=30, deadline=None)
    @given(sizes=st.lists(st.integers(1, 6), min_size=5, max_size=20), count=st.integers(2, 5), seed=st.integers(0, 9))
    def test_groups_stay_together_and_every_fold_is_filled(self, sizes, count, seed):
        groups = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
        areas = np.random.default_rng(seed).random(len(groups))
        result = split_groups(groups, areas, count, seed)
        assert set(result) == set(range(count))
        assert pd.DataFrame({"group": groups, "fold": result}).groupby("group").fold.nunique().max() == 1

    def test_mask_areas_are_alike(self):
        rng = np.random.default_rng(0)
        centre = rng.uniform(0.05, 0.5, 60)
        groups = np.repeat([f"car{number}" for number in range(60)], 16)
        areas = np.repeat(centre, 16) + rng.normal(0, 0.01, 960)

        def spread(result):
            means = pd.Series(areas).groupby(result).mean()
            return means.max() - means.min()

        blind = np.median([spread(rng.permutation(60).repeat(16) % 5) for _ in range(50)])
        assert spread(split_groups(groups, areas, 5)) < blind / 4

    def test_same_seed_same_folds(self):
        groups, areas = [str(n // 2) for n in range(40)], np.linspace(0.1, 0.9, 40)
        first = split_groups(groups, areas, 4, seed=1)
        assert np.array_equal(first, split_groups(groups, areas, 4, seed=1))
        assert not np.array_equal(first, split_groups(groups, areas, 4, seed=2))

    def test_too_few_groups(self, competition, data):
        samples = load_training_samples(competition, data)
        with pytest.raises(UserError, match="4 groups cannot fill 9 folds; set `folds`"):
            make_folds(samples, [0.2] * len(samples), 9)

    @pytest.fixture
    def saved(self, tmp_path, competition, data):
        samples = load_training_samples(competition, data)
        save_folds(make_folds(samples, [0.2] * len(samples), 2), tmp_path / "folds.csv")
        return tmp_path / "folds.csv", samples

    def test_read_back(self, saved):
        path, samples = saved
        fold_of = read_folds(path, samples)
        assert fold_of.keys() == {sample.id for sample in samples}
        assert set(fold_of.values()) == {0, 1}

    @pytest.mark.parametrize(
        ("break_it", "reason"),
        [
            (lambda t: t.assign(fold=[1 - t.fold[0], *t.fold[1:]]), "group alpha stands in folds . and ., which leaks"),
            (lambda t: t.iloc[1:], "1 images are not in it, such as alpha_01.jpg"),
            (lambda t: pd.concat([t, t.tail(1).assign(id="zeta_01.jpg")]), "1 of its images are not in the data"),
            (lambda t: pd.concat([t, t.tail(1)]), "stands in it twice"),
            (lambda t: t.drop(columns="area"), "has columns id, group, fold; expected"),
            (lambda t: t.assign(fold="x"), "is not a table of folds"),
        ],
    )
    def test_broken_tables_are_refused(self, saved, break_it, reason):
        path, samples = saved
        break_it(pd.read_csv(path)).to_csv(path, index=False)
        with pytest.raises(UserError, match=reason):
            read_folds(path, samples)

    def test_a_leak_hidden_by_an_edited_group_is_found(self, saved):
        path, samples = saved
        table = pd.read_csv(path)
        table.loc[0, ["group", "fold"]] = ["other", 1 - table.fold[0]]
        table.to_csv(path, index=False)
        with pytest.raises(UserError, match="leaks"):
            read_folds(path, samples)

    def test_missing(self, tmp_path):
        with pytest.raises(UserError, match="run `make folds`"):
            read_folds(tmp_path / "none.csv", [])


class TestAugmenter:
    IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    MASK = (np.indices((40, 60)).sum(axis=0) % 40 < 9).astype(np.uint8) * 255
    STRONG = AugmentConfig(
        horizontal_flip=0.5, vertical_flip=0.5, rotate=20, shift=0.1, scale=0.2, brightness=0.3, hue=0.1
    )

    def test_differs_by_sample_and_epoch_and_repeats_by_key(self):
        augment = Augmentation(self.STRONG, seed=3)
        results = {key: augment(self.IMAGE, self.MASK, *key)[0].tobytes() for key in np.ndindex(4, 5)}
        assert len(set(results.values())) == 20
        again = Augmentation(self.STRONG, seed=3)
        assert all(again(self.IMAGE, self.MASK, *key)[0].tobytes() == results[key] for key in reversed(results))
        assert Augmentation(self.STRONG, seed=4)(self.IMAGE, self.MASK, 0, 0)[0].tobytes() != results[0, 0]

    def test_mask_moves_with_the_image(self):
        augment = Augmentation(
            AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5, rotate=30, shift=0.1, scale=0.2), seed=0
        )
        picture = np.repeat(self.MASK[..., None], 3, axis=2)
        for index in range(10):
            image, mask = augment(picture, self.MASK, 0, index)
            assert np.abs(image[..., 0].astype(int) - mask).max() <= 1

    def test_nothing_is_nothing(self):
        image, mask = Augmentation(AugmentConfig(horizontal_flip=0), seed=0)(self.IMAGE, self.MASK, 0, 0)
        assert np.array_equal(image, self.IMAGE)
        assert np.array_equal(mask, self.MASK)


class TestLoaders:
    def stream(self, competition, data, recipe, workers, first_step=0):
        samples = load_training_samples(competition, data)
        strong = recipe.model_copy(update={"augment": TestAugmenter.STRONG})
        sampler = EpochSampler(len(samples), batch=2, epochs=2, seed=0, first_step=first_step)
        training = TrainDataset(samples, competition, strong)
        return list(train_loader(training, sampler, workers, pin=False))

    def test_stream_does_not_depend_on_workers_or_on_where_it_starts(self, competition, data, recipe):
        whole = self.stream(competition, data, recipe, workers=0)
        assert len(whole) == 12
        for workers, first_step in ((1, 0), (2, 0), (2, 7)):
            other = self.stream(competition, data, recipe, workers, first_step)
            assert len(other) == 12 - first_step
            for (image, mask), (image2, mask2) in zip(whole[first_step:], other, strict=True):
                assert torch.equal(image, image2)
                assert torch.equal(mask, mask2)

    def test_pairs_kept_in_memory_are_the_same(self, competition, data, recipe):
        samples = load_training_samples(competition, data)
        strong = recipe.model_copy(update={"augment": TestAugmenter.STRONG})
        read, kept = (TrainDataset(samples, competition, strong, keep) for keep in (False, True))
        for key in [(0, 0), (1, 0), (0, 3), (1, 3), (2, 0)]:
            for one, other in zip(read[key], kept[key], strict=True):
                assert torch.equal(one, other)

    def test_kept_pairs_are_not_read_again(self, competition, data, recipe, monkeypatch):
        training = TrainDataset(load_training_samples(competition, data), competition, recipe, keep=True)
        training[0, 0]
        monkeypatch.setattr(dataset, "read_pair", None)
        training[1, 0]
        with pytest.raises(TypeError):
            training[0, 1]

    def test_what_does_not_fit_is_not_kept(self, monkeypatch):
        monkeypatch.setattr(dataset, "available_memory", lambda: 2 * 4 * 64 * 48 * 10)
        assert fits_in_memory(9, (64, 48))
        assert not fits_in_memory(10, (64, 48))

    def test_no_two_augmentations_are_equal(self, competition, data, recipe):
        images = [image.numpy().tobytes() for batch, _ in self.stream(competition, data, recipe, 2) for image in batch]
        assert len(set(images)) == len(images)

    def test_each_epoch_has_every_sample_once_in_another_order(self):
        batches = list(EpochSampler(12, batch=3, epochs=2, seed=0))
        first, second = ([index for batch in half for _, index in batch] for half in (batches[:4], batches[4:]))
        assert sorted(first) == sorted(second) == list(range(12))
        assert first != second

    def test_shapes(self, competition, data, recipe):
        image, mask = self.stream(competition, data, recipe, 0)[0]
        assert (image.shape, image.dtype) == ((2, 3, 48, 64), torch.uint8)
        assert (mask.shape, mask.dtype) == ((2, 1, 48, 64), torch.uint8)
        truth = ValidationDataset(load_training_samples(competition, data), competition, (64, 48))[0][1]
        assert (truth.shape, truth.dtype) == ((62, 94), torch.bool)
