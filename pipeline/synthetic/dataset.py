"""The embedded practice data: rendered cars in the layout of the competition's download.

It lets anyone run the whole pipeline without an account at Kaggle. Equal seed and size give equal files, no matter how
many processes render them.
"""

import csv
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image
from tqdm import tqdm

from pipeline.data.rle import mask_to_rle
from pipeline.errors import UserError
from pipeline.files import explain_os_error
from pipeline.host import available_cores
from pipeline.synthetic.turntable import VIEWS, Car, render_view

LARGEST = (1918, 1280)
SMALLEST = 64
JPEG_QUALITY = 55  # that of the competition's photos

_MODELS = {
    "sedan": (("Aldane", "Meridian"), ("Borealis", "S4"), ("Corvid", "Linden"), ("Fenwick", "Atlas"), ("Ostra", "E2")),
    "hatchback": (("Aldane", "Pip"), ("Hoshino", "Kite"), ("Ostra", "C1"), ("Corvid", "Dart")),
    "wagon": (("Borealis", "S4 Estate"), ("Fenwick", "Harrier"), ("Hoshino", "Loft")),
    "suv": (("Aldane", "Summit"), ("Borealis", "X5"), ("Granger", "Mesa"), ("Hoshino", "Ridge"), ("Ostra", "Q3")),
    "van": (("Fenwick", "Caravel"), ("Hoshino", "Nest"), ("Granger", "Porter")),
    "pickup": (("Granger", "1200"), ("Granger", "Bison"), ("Aldane", "Hauler")),
    "coupe": (("Corvid", "GT"), ("Borealis", "S4 Coupe"), ("Ostra", "R")),
    "roadster": (("Corvid", "Spyder"), ("Hoshino", "Zephyr")),
}
_TRIMS = ("Base", "LE", "Limited", "Premium", "Sport", "Touring", "")


def write_synthetic_dataset(
    root: Path,
    *,
    train_cars: int,
    test_cars: int,
    size: tuple[int, int] = LARGEST,
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Render cars from all sides and write them as the competition's files.

    The result is `train/`, `train_masks/`, `test/`, `train_masks.csv`, `solution.csv` (the masks of `test/`),
    `sample_submission.csv` and `metadata.csv`. It appears under its name only when it is complete.

    Args:
        root: the folder to make; it may exist if it is empty.
        train_cars: cars with masks, `VIEWS` images each.
        test_cars: other cars without.
        size: (width, height) of the images in pixels.
        seed: which cars; the first ones of a longer series are those of a shorter one.
        workers: processes; None takes one for each core.

    Raises:
        UserError: there is something in `root` already, the size or a number of cars is impossible, or the disk does
            not take the files.
    """
    _check(root, train_cars, test_cars, size, seed)
    partial = root.with_name(root.name + ".partial")
    try:
        if partial.exists():  # left by a run that was killed
            shutil.rmtree(partial)
        for folder in ("train", "train_masks", "test"):
            (partial / folder).mkdir(parents=True)
        tasks = [(partial, index < train_cars, size, seed, index) for index in range(train_cars + test_cars)]
        train, test, metadata = [], [], []
        with tqdm(total=len(tasks) * VIEWS, desc="render", unit="image", leave=False) as progress:
            for is_train, rows, about in _run(tasks, workers):
                (train if is_train else test).extend(rows)
                metadata.append(about)
                progress.update(VIEWS)
        header = ("img", "rle_mask")
        _write_csv(partial / "train_masks.csv", header, train)
        _write_csv(partial / "solution.csv", header, test)
        _write_csv(partial / "sample_submission.csv", header, [(name, "1 1") for name, _ in test])
        columns = ("id", "year", "make", "model", "trim1", "trim2")
        _write_csv(partial / "metadata.csv", columns, metadata, csv.QUOTE_ALL)
        if root.exists():
            root.rmdir()
        partial.rename(root)
    except OSError as error:
        raise explain_os_error(error, root) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(root: Path, train_cars: int, test_cars: int, size: tuple[int, int], seed: int) -> None:
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise UserError(root, "is there already and not empty", "remove it or choose another folder")
    if min(train_cars, test_cars) < 1:
        raise UserError(
            "", f"{train_cars} training and {test_cars} test cars cannot be rendered", "ask for 1 or more of each"
        )
    if seed < 0:
        raise UserError("", f"seed {seed} is negative", "choose 0 or more")
    if min(size) < SMALLEST or size[0] > LARGEST[0] or size[1] > LARGEST[1]:
        raise UserError(
            "",
            f"images of {size[0]}×{size[1]} cannot be rendered",
            f"choose from {SMALLEST}×{SMALLEST} to {LARGEST[0]}×{LARGEST[1]}",
        )


def _run(tasks: list[tuple], workers: int | None) -> Iterator[tuple]:
    """The results of all tasks, as they come."""
    if workers is None:
        workers = available_cores()
    workers = min(workers, len(tasks))
    if workers <= 1:
        yield from map(_render_car, tasks)
        return
    # Fresh processes instead of forks: a fork would inherit locks of threads that it does not have.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        try:
            for future in as_completed([pool.submit(_render_car, task) for task in tasks]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _render_car(task: tuple[Path, bool, tuple[int, int], int, int]) -> tuple[bool, list[tuple[str, str]], tuple]:
    """Write all views of a car; hand back what the CSV files say of it."""
    root, is_train, size, seed, index = task
    # Every car has its own sequence of random numbers, and so has every view's noise: no order of rendering matters.
    rng = _generator(seed, index)
    car_id = f"{int(rng.integers(16**12)):012x}"
    car = Car.random(rng)
    make, model = _MODELS[car.body][int(rng.integers(len(_MODELS[car.body])))]
    about = (car_id, int(rng.integers(2004, 2017)), make, model, model, _TRIMS[int(rng.integers(len(_TRIMS)))])
    rows = []
    for view in range(1, VIEWS + 1):
        name = f"{car_id}_{view:02d}"
        image, mask = render_view(car, view, size, _generator(seed, index, view))
        jpeg = simplejpeg.encode_jpeg(image, quality=JPEG_QUALITY, colorsubsampling="420")
        (root / ("train" if is_train else "test") / f"{name}.jpg").write_bytes(jpeg)
        if is_train:
            _save_mask(mask, root / "train_masks" / f"{name}_mask.gif")
        rows.append((f"{name}.jpg", mask_to_rle(mask)))
    return is_train, rows, about


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _save_mask(mask: np.ndarray, path: Path) -> None:
    """Write a (height, width) bool mask as a palette GIF of the values 0, shown black, and 1, shown white."""
    picture = Image.fromarray(mask.astype(np.uint8))
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(path, format="GIF")


def _write_csv(path: Path, header: tuple[str, ...], rows: list[tuple], quoting: int = csv.QUOTE_MINIMAL) -> None:
    """Write rows sorted by their first field, which is the id."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=quoting, lineterminator="\n").writerows([header, *sorted(rows)])
