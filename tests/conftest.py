"""Data for the tests: a tiny competition made here, and the practice data where it is at hand."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import runs
from pipeline.competition import Competition, training_samples
from pipeline.data import areas, folds, rle
from pipeline.model.checkpoint import load_weights, save_weights
from pipeline.recipe import Input, Predict, Recipe
from pipeline.train import train_fold

# Tiny networks gain nothing from threads, and lose much where other work runs beside the tests.
torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared"
SIZE = (94, 62)  # width, height: no multiple of anything


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"practice data {name} is not beside the repository")
    return folder


@pytest.fixture(scope="session")
def shared_carvana() -> Path:
    return _shared("carvana")


@pytest.fixture(scope="session")
def shared_nuclei() -> Path:
    return _shared("nuclei")


@pytest.fixture(scope="session")
def competition() -> Competition:
    """Carvana's layout, in small."""
    return Competition.model_validate(
        {
            "name": "tiny",
            "title": "Tiny",
            "folds": 2,
            "images": {"train": "train", "test": "test", "suffixes": [".jpg"], "size": SIZE},
            "masks": {"train": "train_masks", "suffixes": ["_mask.gif"], "positive": 1, "area": [0.01, 0.9]},
            "groups": {"pattern": "^([a-z]+)_[0-9]{2}$", "size": 3},
            "csv": {
                "columns": ["img", "rle_mask"],
                "id": "name",
                "order": "row",
                "train": "train_masks.csv",
                "sample": "sample_submission.csv",
                "solution": "solution.csv",
            },
        }
    )


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """A network that learns the tiny competition in seconds."""
    return Recipe.model_validate(
        {
            "name": "tiny",
            "input": {"size": [64, 48]},
            "network": {"name": "unet", "width": 8, "depth": 2},
            "train": {"epochs": 8, "batch": 2, "learning_rate": 0.03, "precision": "float32", "ema": 0.5},
            "predict": {"flips": ["none", "horizontal"]},
        }
    )


def ellipse(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A reddish ellipse on a bluish ground: image (h, w, 3) uint8 and mask (h, w) bool."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    centre, radius = rng.uniform(0.35, 0.65, 2) * (width, height), rng.uniform(0.18, 0.3, 2) * (width, height)
    mask = ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 < 1
    image = np.where(mask[..., None], (200, 90, 80), (90, 110, 190)) + rng.normal(0, 8, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), mask


def save_mask(mask: np.ndarray, path: Path) -> None:
    """A palette GIF with values 0 and 1, as the competition has them."""
    picture = Image.fromarray(mask.astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(path)


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("img", "rle_mask"), *rows])


@pytest.fixture(scope="session")
def untouched_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four groups of three images to train on, one to test on, with every file of the competition. Read only."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for folder in ("train", "train_masks", "test"):
        (root / folder).mkdir(parents=True)
    train, test = [], []
    for group in ("alpha", "beta", "delta", "gamma", "omega"):
        for view in (1, 2, 3):
            image, mask = ellipse(rng)
            name = f"{group}_{view:02d}"
            test_image = group == "omega"
            Image.fromarray(image).save(root / ("test" if test_image else "train") / f"{name}.jpg", quality=95)
            (test if test_image else train).append((f"{name}.jpg", rle.encode(mask)))
            if not test_image:
                save_mask(mask, root / "train_masks" / f"{name}_mask.gif")
    write_csv(root / "train_masks.csv", train)
    write_csv(root / "solution.csv", test)
    write_csv(root / "sample_submission.csv", [(name, "1 1") for name, _ in reversed(test)])
    return root


@pytest.fixture
def data(untouched_data: Path, tmp_path: Path) -> Path:
    """A copy of the tiny competition's files, to be broken at will."""
    return Path(shutil.copytree(untouched_data, tmp_path / "data"))


@pytest.fixture(scope="session")
def untouched_table(competition: Competition, untouched_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folds of the tiny competition. Read only."""
    samples = training_samples(competition, untouched_data)
    path = tmp_path_factory.mktemp("folds") / "folds.csv"
    folds.save(folds.make(samples, areas.measure(samples, competition), 2), path)
    return path


@pytest.fixture
def table(untouched_table: Path, tmp_path: Path) -> Path:
    """A copy of the table of folds."""
    return Path(shutil.copy(untouched_table, tmp_path / "folds.csv"))


@pytest.fixture(scope="session")
def untouched_runs(
    competition: Competition,
    recipe: Recipe,
    untouched_data: Path,
    untouched_table: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Both folds of the tiny competition, trained. Read only."""
    folder = tmp_path_factory.mktemp("runs")
    for fold in (0, 1):
        train_fold(competition, recipe, untouched_data, untouched_table, fold, runs.of_fold(folder, fold))
    return folder


@pytest.fixture
def trained(untouched_runs: Path, tmp_path: Path) -> Path:
    """A copy of the trained folds."""
    return Path(shutil.copytree(untouched_runs, tmp_path / "runs"))


@pytest.fixture
def small(recipe: Recipe) -> Recipe:
    """Another recipe: a coarser input, other flips, and a threshold that must not count in second place."""
    changes = {"name": "small", "input": Input(size=(40, 32)), "predict": Predict(flips=("none",), threshold=0.7)}
    return recipe.model_copy(update=changes)


@pytest.fixture
def trained_small(trained: Path, small: Recipe, tmp_path: Path) -> Path:
    """Its runs: the same networks under another recipe, which takes no training."""
    for fold in (0, 1):
        network, _, origin = load_weights(runs.of_fold(trained, fold).weights)
        save_weights(runs.of_fold(tmp_path / "small", fold).weights, network, small, origin)
    return tmp_path / "small"
