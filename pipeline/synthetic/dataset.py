"""The embedded data set: rendered cars in the layout of the competition's download.

With it, the whole pipeline runs without a Kaggle account. Equal seed and size give equal files for any number of
processes.
"""

import csv
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image
from tqdm import tqdm

from pipeline.data.rle import mask_to_rle
from pipeline.errors import UserError
from pipeline.files import explain_os_error
from pipeline.host import available_cores
from pipeline.synthetic.car import sample_car
from pipeline.synthetic.scene import VIEWS
from pipeline.synthetic.turntable import render_view

MAX_SIZE = (1918, 1280)
"""(width, height) of the competition's images."""
MIN_SIDE = 64
JPEG_QUALITY = 55
"""As the competition's images."""

MODEL_NAMES = {
    "sedan": (("Aldane", "Meridian"), ("Borealis", "S4"), ("Corvid", "Linden"), ("Fenwick", "Atlas"), ("Ostra", "E2")),
    "hatchback": (("Aldane", "Pip"), ("Hoshino", "Kite"), ("Ostra", "C1"), ("Corvid", "Dart")),
    "wagon": (("Borealis", "S4 Estate"), ("Fenwick", "Harrier"), ("Hoshino", "Loft")),
    "suv": (("Aldane", "Summit"), ("Borealis", "X5"), ("Granger", "Mesa"), ("Hoshino", "Ridge"), ("Ostra", "Q3")),
    "van": (("Fenwick", "Caravel"), ("Hoshino", "Nest"), ("Granger", "Porter")),
    "pickup": (("Granger", "1200"), ("Granger", "Bison"), ("Aldane", "Hauler")),
    "coupe": (("Corvid", "GT"), ("Borealis", "S4 Coupe"), ("Ostra", "R")),
    "roadster": (("Corvid", "Spyder"), ("Hoshino", "Zephyr")),
}
"""Body type -> (make, model) of invented cars."""
_TRIM_LEVELS = ("Base", "LE", "Limited", "Premium", "Sport", "Touring", "")

_MASK_COLUMNS = ("img", "rle_mask")
_METADATA_COLUMNS = ("id", "year", "make", "model", "trim1", "trim2")


class _Task(NamedTuple):
    """One car to render."""

    root: Path
    is_train: bool
    size: tuple[int, int]
    seed: int
    car_index: int


class _RenderedCar(NamedTuple):
    is_train: bool
    mask_rows: list[tuple[str, str]]
    metadata_row: tuple[str, int, str, str, str, str]


def write_synthetic_dataset(
    root: Path,
    *,
    train_cars: int,
    test_cars: int,
    size: tuple[int, int] = MAX_SIZE,
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Render cars from all sides and write them as the competition's files, atomically.

    The files are `train/`, `train_masks/`, `test/`, `train_masks.csv`, `solution.csv` (the masks of `test/`),
    `sample_submission.csv` and `metadata.csv`.

    Args:
        root: the folder to create; an empty one is replaced.
        train_cars: number of cars with masks, `VIEWS` images each.
        test_cars: number of other cars, without masks.
        size: (width, height) of the images in pixels.
        seed: random seed of the cars. A longer series starts with the cars of a shorter one.
        workers: number of processes; None for one per core.

    Raises:
        UserError: `root` is not empty, an argument is out of range, or the disk is full or not writable.
    """
    _check_arguments(train_cars, test_cars, size, seed)
    with _atomic_folder(root) as folder:
        for name in ("train", "train_masks", "test"):
            (folder / name).mkdir(parents=True)
        tasks = [_Task(folder, index < train_cars, size, seed, index) for index in range(train_cars + test_cars)]
        cars = []
        with tqdm(total=len(tasks) * VIEWS, desc="render", unit="image", leave=False) as progress:
            for car in _render_cars(tasks, workers):
                cars.append(car)
                progress.update(VIEWS)
        train = [row for car in cars if car.is_train for row in car.mask_rows]
        test = [row for car in cars if not car.is_train for row in car.mask_rows]
        _write_csv(folder / "train_masks.csv", _MASK_COLUMNS, train)
        _write_csv(folder / "solution.csv", _MASK_COLUMNS, test)
        _write_csv(folder / "sample_submission.csv", _MASK_COLUMNS, [(name, "1 1") for name, _ in test])
        _write_csv(folder / "metadata.csv", _METADATA_COLUMNS, [car.metadata_row for car in cars], quote_all=True)


def _check_arguments(train_cars: int, test_cars: int, size: tuple[int, int], seed: int) -> None:
    for option, cars in (("--train-cars", train_cars), ("--test-cars", test_cars)):
        if cars < 1:
            raise UserError(f"{option} {cars}", "there must be at least one car", "choose 1 or more")
    if seed < 0:
        raise UserError(f"--seed {seed}", "a seed must not be negative", "choose 0 or more")
    if min(size) < MIN_SIDE or size[0] > MAX_SIZE[0] or size[1] > MAX_SIZE[1]:
        what = f"images of {size[0]}×{size[1]} are not supported"
        fix = f"choose from {MIN_SIDE}×{MIN_SIDE} to {MAX_SIZE[0]}×{MAX_SIZE[1]}"
        raise UserError("--width, --height", what, fix)


@contextmanager
def _atomic_folder(root: Path) -> Iterator[Path]:
    """Yield a temporary folder and rename it to `root` if the block ends without an exception."""
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise UserError(root, "exists already and is not an empty folder", "delete it or choose another folder")
    partial = root.with_name(root.name + ".partial")
    try:
        if partial.exists():  # from a process that was killed
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        yield partial
        if root.exists():
            root.rmdir()
        partial.rename(root)
    except OSError as error:
        raise explain_os_error(error, root) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _render_cars(tasks: Sequence[_Task], workers: int | None) -> Iterator[_RenderedCar]:
    """Yield the results of all tasks in the order of completion."""
    workers = min(available_cores() if workers is None else workers, len(tasks))
    if workers <= 1:
        yield from map(_render_car, tasks)
        return
    # Spawned processes instead of forked ones: a fork inherits the locks of threads that do not exist in it.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        try:
            for future in as_completed([pool.submit(_render_car, task) for task in tasks]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _render_car(task: _Task) -> _RenderedCar:
    """Write all views of a car and return its rows of the CSV files."""
    # Each car and the noise of each view have their own random generators, so the order of rendering has no effect.
    rng = _generator(task.seed, task.car_index)
    car_id = f"{int(rng.integers(16**12)):012x}"
    car = sample_car(rng)
    make, model = MODEL_NAMES[car.body][int(rng.integers(len(MODEL_NAMES[car.body])))]
    year, trim_level = int(rng.integers(2004, 2017)), _TRIM_LEVELS[int(rng.integers(len(_TRIM_LEVELS)))]
    rows = []
    for view in range(1, VIEWS + 1):
        name = f"{car_id}_{view:02d}"
        image, mask = render_view(car, view, task.size, _generator(task.seed, task.car_index, view))
        jpeg = simplejpeg.encode_jpeg(image, quality=JPEG_QUALITY, colorsubsampling="420")
        (task.root / ("train" if task.is_train else "test") / f"{name}.jpg").write_bytes(jpeg)
        if task.is_train:
            _write_mask(mask, task.root / "train_masks" / f"{name}_mask.gif")
        rows.append((f"{name}.jpg", mask_to_rle(mask)))
    return _RenderedCar(task.is_train, rows, (car_id, year, make, model, model, trim_level))


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _write_mask(mask: np.ndarray, path: Path) -> None:
    """Write a (height, width) bool mask as a palette GIF: index 0 is black, 1 is white."""
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(path, format="GIF")


def _write_csv(
    path: Path, header: tuple[str, ...], rows: Iterable[tuple[str | int, ...]], *, quote_all: bool = False
) -> None:
    """Write rows sorted by their first field, the ID."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL, lineterminator="\n")
        writer.writerows([header, *sorted(rows)])
