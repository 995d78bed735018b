"""Windows cover what they must, never leave their block, and show the rare objects; runs are those of whole masks."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.competition import Competition
from pipeline.data import window_reader
from pipeline.data.augment import Augmentation
from pipeline.data.dataset import EpochSampler, iterate, train_loader
from pipeline.data.folds import make_folds, read_folds, save_folds, split_samples
from pipeline.data.labels import LabelReader
from pipeline.data.mask_areas import measure_mask_areas
from pipeline.data.rle import mask_to_runs
from pipeline.data.samples import load_training_samples
from pipeline.data.window_dataset import WindowDataset
from pipeline.data.window_reader import WindowReader
from pipeline.data.windows import (
    Block,
    RunCollector,
    Window,
    blend_weight,
    block_window,
    choose_window,
    cut_runs,
    grid_starts,
)
from pipeline.errors import UserError
from pipeline.recipe import AugmentConfig
from tests.helpers import changed_competition

masks = st.builds(
    lambda seed, height, width, share: np.random.default_rng(seed).random((height, width)) < share,
    st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
)  # fmt: skip
orders = st.sampled_from(["row", "column"])


class TestRuns:
    @given(mask=masks, order=orders, heights=st.lists(st.integers(1, 7), min_size=40, max_size=40))
    @settings(max_examples=200, deadline=None)
    def test_rows_that_arrive_in_bands_give_the_runs_of_the_whole_mask(self, mask, order, heights):
        collector, top = RunCollector(mask.shape, order), 0
        for height in heights:
            if top < len(mask):
                collector.add(mask[top : top + height])
                top += height
        runs = collector.finish()
        assert runs.dtype == np.int64
        assert np.array_equal(runs, mask_to_runs(mask, order))

    def test_missing_rows_are_an_error(self):
        collector = RunCollector((5, 4), "column")
        collector.add(np.ones((3, 4), dtype=bool))
        with pytest.raises(ValueError, match="3 rows are not the 5 of the mask"):
            collector.finish()

    @given(mask=masks, order=orders, corner=st.tuples(st.integers(0, 39), st.integers(0, 39)), size=st.integers(1, 20))
    @settings(max_examples=200, deadline=None)
    def test_a_window_is_cut_without_painting_the_rest(self, mask, order, corner, size):
        window = Window(corner[0] % mask.shape[1], corner[1] % mask.shape[0], size, size)
        part = mask[window.top : window.bottom, window.left : window.right]
        expected = np.zeros((size, size), dtype=bool)
        expected[: part.shape[0], : part.shape[1]] = part
        found = cut_runs(mask_to_runs(mask, order), mask.shape, order, window)
        assert np.array_equal(found.paint(size, size), expected)
        assert found.area == expected.sum()
        pixels = {found.pixel(number) for number in range(found.area)}
        assert pixels == {(x, y) for y, x in zip(*np.nonzero(expected), strict=True)}


class TestPlaces:
    @given(length=st.integers(1, 500), side=st.integers(1, 200), step=st.integers(1, 200))
    def test_a_grid_covers_everything_in_steps_that_are_not_too_long(self, length, side, step):
        starts = grid_starts(length, side, min(step, side))
        assert starts[0] == 0
        assert starts[-1] == max(0, length - side)
        assert all(0 < later - earlier <= min(step, side) for earlier, later in pairwise(starts))

    def test_weights_fall_from_the_center_and_are_never_zero(self):
        weight = blend_weight((32, 16))
        assert weight.shape == (16, 32)
        assert weight.min() > 0
        assert weight.max() == weight[7:9, 15:17].min() <= 1
        assert (np.diff(weight[8, 16:]) <= 0).all()
        assert np.array_equal(weight, weight[::-1, ::-1])

    @given(
        size=st.tuples(st.integers(60, 300), st.integers(60, 300)),
        grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
        margin=st.integers(0, 12),
    )
    def test_blocks_do_not_come_closer_than_the_margin(self, size, grid, margin):
        places = [Block(x, y, *grid) for x, y in product(range(grid[0]), range(grid[1]))]
        windows = [block_window(size, place, margin) for place in places]
        covered = np.zeros(size[::-1], dtype=int)
        for window in windows:
            covered[window.top : window.bottom, window.left : window.right] += 1
        assert covered.max() == 1
        for number, window in enumerate(windows):
            around = covered.copy()
            around[window.top : window.bottom, window.left : window.right] = 0
            near = around[
                max(0, window.top - margin) : window.bottom + margin,
                max(0, window.left - margin) : window.right + margin,
            ]
            assert not near.any(), places[number]
        if margin == 0:
            assert covered.all()
        assert len({str(place) for place in places}) == len(places)

    @given(seed=st.integers(0, 2**31), width=st.integers(5, 60), height=st.integers(5, 60), order=orders)
    @settings(deadline=None)
    def test_random_windows_stay_in_their_region_and_often_show_an_object(self, seed, width, height, order):
        rng = np.random.default_rng(seed)
        region = Window(7, 9, width, height)
        mask = np.zeros((height, width), dtype=bool)
        y, x = int(rng.integers(height)), int(rng.integers(width))
        mask[y, x] = True
        objects = [cut_runs(mask_to_runs(mask, order), mask.shape, order, Window(0, 0, width, height))]
        empty = [cut_runs(np.empty((0, 2), np.int64), mask.shape, order, Window(0, 0, width, height))]
        for probability, classes in ((1.0, objects), (0.0, objects), (1.0, empty), (1.0, objects + empty)):
            window = choose_window(rng, region, (12, 10), classes, probability)
            assert (window.width, window.height) == (12, 10)
            assert region.left <= window.left <= max(region.left, region.right - 12)
            assert region.top <= window.top <= max(region.top, region.bottom - 10)
            if probability and len(classes[0].line):
                assert window.left <= region.left + x < window.right
                assert window.top <= region.top + y < window.bottom

    def test_rare_classes_are_shown_as_often_as_frequent_ones(self):
        mask = np.zeros((2, 100, 100), dtype=bool)
        mask[0, :, :90], mask[1, 95, 95] = True, True
        whole = Window(0, 0, 100, 100)
        objects = [cut_runs(mask_to_runs(each), each.shape, "row", whole) for each in mask]
        rng = np.random.default_rng(0)
        chosen = [choose_window(rng, whole, (4, 4), objects, 1.0) for _ in range(300)]
        assert 110 < sum(window.right > 95 and window.bottom > 95 for window in chosen) < 190


def in_windows(competition: Competition, **keys) -> Competition:
    windows = {"size": (32, 24), "per_image": 5, "objects": 0.5, **keys}
    return changed_competition(competition, windows=windows, masks__may_be_empty=True)


class TestCompetitions:
    def test_training_never_sees_a_pixel_of_a_validation_block(self, competition, data, tmp_path, recipe):
        """Images are fewer than folds: each is divided, and its blocks are in different folds."""
        divided = in_windows(competition, blocks=(3, 2), margin=6)
        samples = load_training_samples(divided, data)
        assert len(samples) == 12 * 6
        save_folds(make_folds(samples, measure_mask_areas(samples, divided), 2), tmp_path / "folds.csv")
        train, validation = split_samples(samples, read_folds(tmp_path / "folds.csv", samples), 0)
        windows = WindowReader(divided, LabelReader(divided))
        pairs = WindowDataset(train, windows, recipe.input.size, Augmentation(recipe.augment, 0), 0)
        held_out = {}
        for sample in validation:
            held_out.setdefault(sample.image, np.zeros((62, 94), dtype=bool))
            region = windows.region(sample)
            held_out[sample.image][region.top : region.bottom, region.left : region.right] = True
        assert any(sample.image in held_out for sample in train), "blocks of one image are in different folds"
        read = []
        windows.labels.images.read_window = lambda sample, window: (
            read.append((sample, window)) or np.zeros((window.height, window.width, 3), np.uint8)
        )
        for index in range(len(pairs)):
            pairs[0, index]
        assert len(read) == len(pairs)
        for sample, window in read:
            if sample.image in held_out:
                around = np.s_[max(0, window.top - 5) : window.bottom + 5, max(0, window.left - 5) : window.right + 5]
                assert not held_out[sample.image][around].any()

    def test_another_division_is_another_split(self, competition, data, tmp_path):
        first, second = (in_windows(competition, blocks=blocks) for blocks in ((2, 3), (3, 2)))
        samples = load_training_samples(first, data)
        save_folds(make_folds(samples, measure_mask_areas(samples, first), 2), tmp_path / "folds.csv")
        with pytest.raises(UserError, match=r"folds\.csv: lacks 72 images of the data"):
            read_folds(tmp_path / "folds.csv", load_training_samples(second, data))

    def test_a_margin_that_leaves_nothing_is_an_error(self, competition, data):
        divided = in_windows(competition, blocks=(3, 1), margin=64)
        sample = load_training_samples(divided, data)[1]
        with pytest.raises(UserError, match=r"has nothing left in .*#c2r1of3x1, because windows\.margin is 64"):
            WindowReader(divided, LabelReader(divided)).region(sample)

    @pytest.mark.slow
    def test_windows_of_an_epoch_are_the_same_under_any_number_of_workers_and_after_a_resume(
        self, competition, data, recipe
    ):
        chosen = in_windows(competition)
        samples = load_training_samples(chosen, data)

        def batches(workers, first_step=0):
            windows = WindowReader(chosen, LabelReader(chosen))
            augmentation = Augmentation(AugmentConfig(brightness=0.2, shift=0.1), 3)
            pairs = WindowDataset(samples, windows, recipe.input.size, augmentation, 3)
            sampler = EpochSampler(len(pairs), 20, 2, 3, first_step)
            return list(iterate(train_loader(pairs, sampler, workers, pin_memory=False)))

        alone, shared, resumed = batches(0), batches(2), batches(1, first_step=4)
        assert len(alone) == 6
        for first, second in [*zip(alone, shared, strict=True), *zip(alone[4:], resumed, strict=True)]:
            assert all((one == other).all() for one, other in zip(first, second, strict=True))
        assert (alone[0][0] != alone[3][0]).any(), "each epoch has its own windows"

    def test_forgetting_masks_changes_nothing(self, competition, data, monkeypatch):
        chosen = in_windows(competition)
        samples = load_training_samples(chosen, data)[:4]
        expected = [WindowReader(chosen, LabelReader(chosen)).area(sample) for sample in samples]
        monkeypatch.setattr(window_reader, "_KEPT_BYTES", 0)
        windows = WindowReader(chosen, LabelReader(chosen))
        assert [windows.area(sample) for sample in samples] == expected
        assert len(windows._runs) <= 1

    def test_masks_of_windows_are_those_of_the_image(self, competition, data):
        chosen = in_windows(competition, blocks=(1, 2), margin=4)
        labels = LabelReader(chosen)
        windows = WindowReader(chosen, labels)
        for sample in load_training_samples(chosen, data)[:4]:
            whole, region = labels.read_masks(sample), windows.region(sample)
            part = whole[:, region.top : region.bottom, region.left : region.right]
            assert windows.area(sample) == pytest.approx(part.mean())
            window = Window(region.left + 3, region.top + 2, 40, region.height)  # leaves the region at the bottom
            masks, inside = windows.read_masks(sample, window), part[:, 2:, 3:43]
            assert np.array_equal(masks[:, :-2], inside)
            assert np.array_equal(masks[:, -2:], inside[:, -1:].repeat(2, axis=1))
            image = windows.read_image(sample, window)
            assert np.array_equal(image[-2:], image[-3:-2].repeat(2, axis=0))
