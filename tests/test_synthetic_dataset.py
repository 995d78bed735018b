"""Tests of the files of the embedded data set: complete, reproducible and in the competition's formats."""

import csv
import errno
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.rle import rle_to_mask
from pipeline.errors import UserError
from pipeline.synthetic.car import BODY_SHAPES, Car, sample_car
from pipeline.synthetic.dataset import MODEL_NAMES, write_synthetic_dataset
from pipeline.synthetic.scene import VIEWS
from pipeline.synthetic.turntable import render_view

pytestmark = pytest.mark.slow

SIZE = (190, 126)
SEED = 5
TWO_CARS = {"train_cars": 1, "test_cars": 1, "size": SIZE, "seed": SEED}


def generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def read_rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """One training car and one test car, rendered in this process."""
    root = tmp_path_factory.mktemp("synthetic") / "data"
    write_synthetic_dataset(root, **TWO_CARS, workers=1)
    return root


@pytest.fixture
def fake_rendering(monkeypatch):
    """Return a function that replaces rendering by constant images and returns the list of requested cars."""

    def install(error: BaseException | None = None) -> list[Car]:
        cars = []

        def fake_view(car, view, size, rng):
            if error and view == 7:
                raise error
            cars.append(car)
            return np.zeros((size[1], size[0], 3), np.uint8), np.eye(size[1], size[0], dtype=bool)

        monkeypatch.setattr("pipeline.synthetic.dataset.render_view", fake_view)
        return cars

    return install


@pytest.fixture
def many_cars(tmp_path, fake_rendering):
    """Three training cars and two test cars with constant images."""
    fake_rendering()
    write_synthetic_dataset(tmp_path / "data", train_cars=3, test_cars=2, size=SIZE, seed=SEED, workers=1)
    return tmp_path / "data"


def test_files_are_those_of_the_download(many_cars):
    assert file_names(many_cars.parent) == ["data"]
    assert file_names(many_cars) == [
        "metadata.csv",
        "sample_submission.csv",
        "solution.csv",
        "test",
        "train",
        "train_masks",
        "train_masks.csv",
    ]
    for folder, cars in (("train", 3), ("test", 2)):
        names = file_names(many_cars / folder)
        assert all(re.fullmatch(r"[0-9a-f]{12}_[0-9]{2}\.jpg", name) for name in names)
        ids = sorted({name[:12] for name in names})
        assert len(ids) == cars
        assert names == [f"{car}_{view:02d}.jpg" for car in ids for view in range(1, VIEWS + 1)]
    masks = [name.replace(".jpg", "_mask.gif") for name in file_names(many_cars / "train")]
    assert file_names(many_cars / "train_masks") == masks


def test_csv_files_list_all_images_in_order(many_cars):
    train, solution, sample = (
        read_rows(many_cars / f"{name}.csv") for name in ("train_masks", "solution", "sample_submission")
    )
    assert train[0] == solution[0] == sample[0] == ["img", "rle_mask"]
    assert [row[0] for row in train[1:]] == file_names(many_cars / "train")
    assert [row[0] for row in solution[1:]] == file_names(many_cars / "test")
    assert sample[1:] == [[row[0], "1 1"] for row in solution[1:]]


def test_metadata_lists_all_cars_and_is_quoted(many_cars):
    lines = (many_cars / "metadata.csv").read_text().splitlines()
    assert lines[0] == '"id","year","make","model","trim1","trim2"'
    assert all(re.fullmatch(r'("[^"]*",){5}"[^"]*"', line) for line in lines)
    rows = read_rows(many_cars / "metadata.csv")[1:]
    images = file_names(many_cars / "train") + file_names(many_cars / "test")
    assert [row[0] for row in rows] == sorted({name[:12] for name in images})
    assert all(2004 <= int(row[1]) <= 2016 for row in rows)


def test_every_body_type_has_model_names():
    assert set(MODEL_NAMES) == set(BODY_SHAPES)


def test_images_and_masks_have_the_competitions_formats(dataset):
    for path in itertools.chain((dataset / "train").iterdir(), (dataset / "test").iterdir()):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", SIZE)
    for path in (dataset / "train_masks").iterdir():
        with Image.open(path) as mask:
            assert (mask.format, mask.mode, mask.size) == ("GIF", "P", SIZE)
            assert mask.getpalette()[:6] == [0, 0, 0, 255, 255, 255]
            assert set(np.unique(np.asarray(mask))) == {0, 1}


def test_rle_of_the_training_set_equals_its_gif_masks(dataset):
    for name, text in read_rows(dataset / "train_masks.csv")[1:]:
        with Image.open(dataset / "train_masks" / name.replace(".jpg", "_mask.gif")) as mask:
            expected = np.asarray(mask) == 1
        np.testing.assert_array_equal(rle_to_mask(text, SIZE[::-1]), expected)


def test_solution_has_the_masks_of_the_test_images(dataset):
    # The test cars follow the training cars in the series.
    rng = generator(SEED, 1)
    car_id = f"{int(rng.integers(16**12)):012x}"
    car = sample_car(rng)
    solution = dict(read_rows(dataset / "solution.csv")[1:])
    for view in (3, 12):
        image, mask = render_view(car, view, SIZE, generator(SEED, 1, view))
        np.testing.assert_array_equal(rle_to_mask(solution[f"{car_id}_{view:02d}.jpg"], SIZE[::-1]), mask)
        with Image.open(dataset / "test" / f"{car_id}_{view:02d}.jpg") as jpeg:
            assert np.abs(np.asarray(jpeg).astype(int) - image).mean() < 8


def test_views_of_a_car_differ(dataset):
    masks = [rle_to_mask(text, SIZE[::-1]) for _, text in read_rows(dataset / "train_masks.csv")[1:]]
    assert len(masks) == VIEWS
    for one, other in itertools.combinations(masks, 2):
        assert (one != other).sum() > 0.01 * one.sum()


def test_files_do_not_depend_on_the_number_of_workers(dataset, tmp_path):
    parallel = tmp_path / "data"
    write_synthetic_dataset(parallel, **TWO_CARS, workers=2)
    files = sorted(path.relative_to(dataset) for path in dataset.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(parallel) for path in parallel.rglob("*") if path.is_file())
    for file in files:
        assert (dataset / file).read_bytes() == (parallel / file).read_bytes(), file


def test_other_seeds_give_other_cars(tmp_path, fake_rendering):
    cars = fake_rendering()
    for seed in (0, 1):
        write_synthetic_dataset(tmp_path / str(seed), **{**TWO_CARS, "seed": seed}, workers=1)
    assert len(set(cars)) == 4
    assert not set(file_names(tmp_path / "0" / "train")) & set(file_names(tmp_path / "1" / "train"))


def test_a_longer_series_starts_with_the_cars_of_a_shorter_one(tmp_path, fake_rendering):
    cars = fake_rendering()
    write_synthetic_dataset(tmp_path / "short", train_cars=2, test_cars=1, size=SIZE, workers=1)
    write_synthetic_dataset(tmp_path / "long", train_cars=4, test_cars=2, size=SIZE, workers=1)
    short, long = cars[: 3 * VIEWS], cars[3 * VIEWS :]
    assert short == long[: 3 * VIEWS]
    assert len(set(long)) == 6


def test_a_folder_with_files_is_refused_and_unchanged(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="is not an empty folder; delete it or choose another"):
        write_synthetic_dataset(tmp_path, **TWO_CARS)
    assert file_names(tmp_path) == ["mine.txt"]


def test_a_file_is_refused_and_unchanged(tmp_path):
    (tmp_path / "data").write_text("precious")
    with pytest.raises(UserError, match="choose another folder"):
        write_synthetic_dataset(tmp_path / "data", **TWO_CARS)
    assert (tmp_path / "data").read_text() == "precious"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (63, 100)}, "63×100 are not supported; choose from 64×64"),
        ({"size": (100, 63)}, "100×63 are not supported"),
        ({"size": (1919, 1280)}, "to 1918×1280"),
        ({"size": (1918, 1281)}, "to 1918×1280"),
        ({"size": (1280, 1918)}, "to 1918×1280"),
        ({"train_cars": 0}, "--train-cars 0: there must be at least one car; choose 1 or more"),
        ({"test_cars": -1}, "--test-cars -1: there must be at least one car"),
        ({"seed": -1}, "--seed -1: a seed must not be negative; choose 0 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(change, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write_synthetic_dataset(tmp_path / "data", **{**TWO_CARS, **change})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(64, 64), (1918, 1280)])
def test_sizes_at_the_limits_are_accepted(size, tmp_path, fake_rendering):
    fake_rendering()
    write_synthetic_dataset(tmp_path / "data", train_cars=1, test_cars=1, size=size, workers=1)
    with Image.open(next((tmp_path / "data" / "train").iterdir())) as image:
        assert image.size == size


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "no space is left on this disk"),
    ],
)
def test_nothing_is_left_after_an_interruption(error, raised, message, tmp_path, fake_rendering):
    fake_rendering(error)
    with pytest.raises(raised, match=message):
        write_synthetic_dataset(tmp_path / "data", **TWO_CARS, workers=1)
    assert not any(tmp_path.iterdir())


def test_files_of_a_killed_process_and_an_empty_folder_are_replaced(tmp_path, fake_rendering):
    fake_rendering()
    (tmp_path / "data").mkdir()
    (tmp_path / "data.partial" / "train").mkdir(parents=True)
    (tmp_path / "data.partial" / "train" / "old_01.jpg").write_bytes(b"")
    write_synthetic_dataset(tmp_path / "data", **TWO_CARS, workers=1)
    assert file_names(tmp_path) == ["data"]
    assert len(file_names(tmp_path / "data" / "train")) == VIEWS
    assert not (tmp_path / "data" / "train" / "old_01.jpg").exists()
