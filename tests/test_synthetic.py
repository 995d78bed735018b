"""The embedded practice data: complete, reproducible, and true to its masks."""

import csv
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data.rle import rle_to_mask
from pipeline.errors import UserError
from pipeline.synthetic import dataset as synthetic
from pipeline.synthetic import turntable
from pipeline.synthetic.bodywork import SKIN, build
from pipeline.synthetic.car import SHAPES, Car, Surface
from pipeline.synthetic.dataset import _MODELS, VIEWS, write_synthetic_dataset
from pipeline.synthetic.turntable import _Scene, render_view

SIZE = (190, 126)
SEED = 5
PLAIN = {"train_cars": 1, "test_cars": 1, "size": SIZE}


def generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def car_with_body(body: str) -> Car:
    """The first car of that body type."""
    return next(car for car in (Car.random(generator(1, index)) for index in itertools.count()) if car.body == body)


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cars to train on and one to test on, rendered by two processes."""
    root = tmp_path_factory.mktemp("synthetic") / "data"
    write_synthetic_dataset(root, train_cars=2, test_cars=1, size=SIZE, seed=SEED, workers=2)
    return root


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by this process alone."""
    root = tmp_path_factory.mktemp("alone") / "data"
    write_synthetic_dataset(root, train_cars=2, test_cars=1, size=SIZE, seed=SEED, workers=1)
    return root


@pytest.fixture(scope="module")
def views() -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Images and masks of one car of each body type, from eight sides."""
    return {
        body: [
            render_view(car_with_body(body), view, (480, 320), generator(view)) for view in (1, 3, 4, 6, 8, 11, 13, 16)
        ]
        for body in SHAPES
    }


def test_layout_is_that_of_the_download(root: Path) -> None:
    assert sorted(path.name for path in root.iterdir()) == [
        "metadata.csv",
        "sample_submission.csv",
        "solution.csv",
        "test",
        "train",
        "train_masks",
        "train_masks.csv",
    ]
    assert not root.with_name("data.partial").exists()
    for folder, cars in (("train", 2), ("test", 1)):
        names = sorted(path.name for path in (root / folder).iterdir())
        assert all(re.fullmatch(r"[0-9a-f]{12}_[0-9]{2}\.jpg", name) for name in names)
        ids = sorted({name[:12] for name in names})
        assert len(ids) == cars
        assert names == [f"{car}_{view:02d}.jpg" for car in ids for view in range(1, VIEWS + 1)]
    masks = sorted(path.name for path in (root / "train_masks").iterdir())
    assert masks == sorted(path.stem + "_mask.gif" for path in (root / "train").iterdir())


def test_images_and_masks_have_the_competitions_formats(root: Path) -> None:
    for path in itertools.chain((root / "train").iterdir(), (root / "test").iterdir()):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", SIZE)
    for path in (root / "train_masks").iterdir():
        with Image.open(path) as mask:
            assert (mask.format, mask.mode, mask.size) == ("GIF", "P", SIZE)
            assert mask.getpalette()[:6] == [0, 0, 0, 255, 255, 255]
            assert set(np.unique(np.asarray(mask))) == {0, 1}


def test_csv_files_name_all_images_in_order(root: Path) -> None:
    header = ["img", "rle_mask"]
    train, solution, sample = (rows(root / f"{name}.csv") for name in ("train_masks", "solution", "sample_submission"))
    assert train[0] == solution[0] == sample[0] == header
    assert [row[0] for row in train[1:]] == sorted(path.name for path in (root / "train").iterdir())
    assert [row[0] for row in solution[1:]] == sorted(path.name for path in (root / "test").iterdir())
    assert sample[1:] == [[row[0], "1 1"] for row in solution[1:]]


def test_metadata_knows_all_cars_and_is_quoted(root: Path) -> None:
    lines = (root / "metadata.csv").read_text().splitlines()
    assert lines[0] == '"id","year","make","model","trim1","trim2"'
    assert all(re.fullmatch(r'("[^"]*",){5}"[^"]*"', line) for line in lines)
    images = itertools.chain((root / "train").iterdir(), (root / "test").iterdir())
    assert [row[0] for row in rows(root / "metadata.csv")[1:]] == sorted({path.name[:12] for path in images})


def test_every_body_type_has_models_to_be_called_by() -> None:
    assert set(_MODELS) == set(SHAPES)


def test_rle_of_the_training_set_is_its_gifs(root: Path) -> None:
    for name, text in rows(root / "train_masks.csv")[1:]:
        with Image.open(root / "train_masks" / name.replace(".jpg", "_mask.gif")) as mask:
            expected = np.asarray(mask) == 1
        np.testing.assert_array_equal(rle_to_mask(text, SIZE[::-1]), expected)


def test_solution_is_the_masks_of_the_test_images(root: Path) -> None:
    # The test cars follow the training cars in the series.
    rng = generator(SEED, 2)
    car_id = f"{int(rng.integers(16**12)):012x}"
    car = Car.random(rng)
    solution = dict(rows(root / "solution.csv")[1:])
    for view in (3, 12):
        mask = render_view(car, view, SIZE, generator(0))[1]
        np.testing.assert_array_equal(rle_to_mask(solution[f"{car_id}_{view:02d}.jpg"], SIZE[::-1]), mask)


def test_number_of_workers_does_not_matter(root: Path, alone: Path) -> None:
    files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    for file in files:
        assert (root / file).read_bytes() == (alone / file).read_bytes(), file


def test_other_seeds_give_other_cars(root: Path) -> None:
    known = {path.name[:12] for path in (root / "train").iterdir()}
    rng = generator(SEED + 1, 0)
    assert f"{int(rng.integers(16**12)):012x}" not in known
    cars = [Car.random(generator(seed, index)) for seed in range(20) for index in range(2)]
    assert len(set(cars)) == len(cars)
    assert len({car.body for car in cars}) >= 5
    assert len({car.paint for car in cars}) == len(cars)


def test_views_differ(root: Path) -> None:
    train = rows(root / "train_masks.csv")[1:]
    masks = [rle_to_mask(text, SIZE[::-1]) for _, text in train]
    for one, other in itertools.combinations(masks[:VIEWS], 2):
        assert (one != other).sum() > 0.01 * one.sum()


def test_masks_are_one_car_in_the_middle(views: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    for body, pairs in views.items():
        for _, mask in pairs:
            assert mask.dtype == bool
            assert 0.08 <= mask.mean() <= 0.40, body
            _, _, parts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
            assert parts[1:, cv2.CC_STAT_AREA].max() >= 0.97 * mask.sum(), body
            border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
            assert not border.any(), body
            y, x = np.nonzero(mask)
            assert abs(x.mean() / mask.shape[1] - 0.5) < 0.12, body
            assert abs(y.mean() / mask.shape[0] - 0.5) < 0.12, body


def test_masks_have_no_cracks(views: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    # Light shines through below roof rails and behind mirrors, nowhere else.
    for body, pairs in views.items():
        for _, mask in pairs:
            _, labels, parts, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
            holes = parts[[label for label in range(1, len(parts)) if label != labels[0, 0]], cv2.CC_STAT_AREA]
            assert holes.sum() < 0.005 * mask.sum(), body


@pytest.mark.parametrize("size", [(960, 640), (321, 213)])
def test_mask_is_what_hides_the_studio(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without transparent glass, what a pixel shows of a white studio and not of a black one is what is not car."""
    monkeypatch.setattr(turntable, "NOISE", 0.0)
    opaque = replace(car_with_body("sedan"), glass=(1.0, 1.0))
    for view in (1, 6, 11):
        pictures = []
        for light in (0, 255):
            studio = np.full((size[1], size[0], 3), light, np.float32)
            monkeypatch.setattr(turntable, "_studio", lambda scene, studio=studio: studio.copy())
            image, mask = render_view(opaque, view, size, generator(0))
            pictures.append(image[..., 0].astype(float))
        covered = 1 - (pictures[1] - pictures[0]) / 255
        np.testing.assert_array_equal(mask, covered > 0.49)
        assert ((covered > 0.1) & (covered < 0.9)).sum() > 100


def test_wheels_stand_on_the_floor() -> None:
    car, size = car_with_body("suv"), (960, 640)
    mask = render_view(car, 5, size, generator(0))[1]
    scene = _Scene(car, 5, size)
    for axle, half in zip(scene.surface.axles, scene.surface.track, strict=True):
        x, y = np.round(scene.project(scene.place(np.array([axle, half, 0])))).astype(int)
        assert mask[y - 4, x]
        assert not mask[y + 4, x]


def test_glass_belongs_to_the_mask_and_lets_light_through() -> None:
    car = car_with_body("sedan")
    clear, dark = (replace(car, glass=(share, share)) for share in (0.1, 1.0))
    image, mask = render_view(clear, 5, (480, 320), generator(0))
    dark_image, dark_mask = render_view(dark, 5, (480, 320), generator(0))
    np.testing.assert_array_equal(mask, dark_mask)
    brighter = image.astype(int).mean(2) - dark_image.astype(int).mean(2) > 60
    assert 0.01 < (brighter & mask).sum() / mask.sum() < 0.3


def test_shadow_and_reflection_are_in_the_picture_but_not_in_the_mask() -> None:
    car = car_with_body("van")
    image, mask = render_view(car, 5, (480, 320), generator(0))
    rows_, columns = np.nonzero(mask)
    below, middle = rows_.max() + 3, int(columns.mean())
    floor = image[below, 5:25].mean()
    assert not mask[below].any()
    assert image[below, middle - 20 : middle + 20].mean() < 0.85 * floor


def test_noise_is_all_that_the_generator_decides() -> None:
    car = car_with_body("coupe")
    one, one_mask = render_view(car, 2, SIZE, generator(1))
    other, other_mask = render_view(car, 2, SIZE, generator(2))
    same, _ = render_view(car, 2, SIZE, generator(1))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one_mask, other_mask)
    difference = np.abs(one.astype(int) - other.astype(int))
    assert 0.5 < difference.mean() < 8


def test_car_keeps_its_place_at_other_sizes() -> None:
    car = car_with_body("suv")
    large = render_view(car, 3, (960, 640), generator(0))[1]
    small = render_view(car, 3, (240, 160), generator(0))[1]
    shrunk = cv2.resize(large.astype(np.float32), (240, 160), interpolation=cv2.INTER_AREA) >= 0.5
    assert 2 * (shrunk & small).sum() / (shrunk.sum() + small.sum()) > 0.985


def test_wide_and_tall_pictures_show_the_whole_car() -> None:
    car = car_with_body("pickup")
    for size in ((400, 100), (100, 400), (64, 64)):
        image, mask = render_view(car, 4, size, generator(0))
        assert image.shape == (size[1], size[0], 3)
        assert mask.any()
        assert not np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).any()


def test_points_laid_on_a_car_are_on_its_surface() -> None:
    surface = Surface(car_with_body("hatchback"))
    drawing = np.stack(np.meshgrid([-0.5, 0.0, 0.5], [0.5, 0.7]), axis=-1)
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        points = surface.lay(drawing, axis, sign)
        outward = sign * np.eye(3)[axis]
        assert (surface.outside(points - 0.001 * outward) < 0).all()
        assert (surface.outside(points + 0.001 * outward) > 0).all()


def test_faces_look_outward() -> None:
    _, faces = build(car_with_body("sedan"))
    np.testing.assert_allclose(np.linalg.norm(faces.normals, axis=1), 1, atol=1e-6)
    assert ((faces.normals * faces.planes).sum(1) > 0.5).mean() > 0.99
    skin = faces.kind == SKIN
    middles = faces.corners[skin].mean(1)
    outward = (faces.planes[skin] * (middles - (0, 0, 0.6)) * (0, 1, 1)).sum(1)
    assert (outward > -0.1).all()


def test_view_must_exist() -> None:
    for view in (0, VIEWS + 1):
        with pytest.raises(ValueError, match="expected 1 to 16"):
            render_view(car_with_body("sedan"), view, SIZE, generator(0))


def test_refuses_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty; remove it or choose another"):
        write_synthetic_dataset(tmp_path, **PLAIN)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("precious")
    with pytest.raises(UserError, match="choose another folder"):
        write_synthetic_dataset(tmp_path / "data", **PLAIN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (63, 100)}, "63×100 cannot be rendered"),
        ({"size": (100, 0)}, "cannot be rendered"),
        ({"size": (1919, 1280)}, "to 1918×1280"),
        ({"size": (1280, 1918)}, "to 1918×1280"),
        ({"train_cars": 0}, "ask for 1 or more"),
        ({"test_cars": -1}, "ask for 1 or more"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_refuses_the_impossible(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        write_synthetic_dataset(tmp_path / "data", **{**PLAIN, **change})
    assert not any(tmp_path.iterdir())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Car]]:
    """Makes rendering take no time, and fail in a view if asked to; hands back a list of the cars it gets."""

    def install(fails_in: int = 0) -> list[Car]:
        cars = []

        def fake(car: Car, view: int, size: tuple[int, int], rng: np.random.Generator) -> tuple:
            if view == fails_in:
                raise KeyboardInterrupt
            cars.append(car)
            return np.zeros((size[1], size[0], 3), np.uint8), np.eye(size[1], size[0], dtype=bool)

        monkeypatch.setattr(synthetic, "render", fake)
        return cars

    return install


def test_first_cars_of_a_longer_series_are_those_of_a_shorter_one(tmp_path: Path, quick: Callable) -> None:
    cars = quick()
    write_synthetic_dataset(tmp_path / "short", train_cars=2, test_cars=1, size=SIZE, workers=1)
    write_synthetic_dataset(tmp_path / "long", train_cars=4, test_cars=2, size=SIZE, workers=1)
    short, long = cars[: 3 * VIEWS], cars[3 * VIEWS :]
    assert short == long[: 3 * VIEWS]
    assert len(set(long)) == 6


def test_leaves_nothing_behind_when_interrupted(tmp_path: Path, quick: Callable) -> None:
    quick(fails_in=7)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic_dataset(tmp_path / "data", **PLAIN, workers=1)
    assert not any(tmp_path.iterdir())


def test_clears_what_a_killed_run_left(tmp_path: Path, quick: Callable) -> None:
    quick()
    (tmp_path / "data").mkdir()
    (tmp_path / "data.partial" / "train").mkdir(parents=True)
    (tmp_path / "data.partial" / "train" / "old_01.jpg").write_bytes(b"")
    write_synthetic_dataset(tmp_path / "data", **PLAIN, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert not (tmp_path / "data" / "train" / "old_01.jpg").exists()
