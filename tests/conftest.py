"""Fixtures: a tiny generated competition with trained models, and the practice data if it is available."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, settings
from PIL import Image

from pipeline.competition import Competition
from pipeline.data.folds import make_folds, save_folds
from pipeline.data.mask_areas import measure_mask_areas
from pipeline.data.rle import mask_to_rle
from pipeline.data.samples import load_training_samples
from pipeline.paths import fold_run
from pipeline.recipe import InputConfig, PredictConfig, Recipe
from tests.helpers import TINY, draw_ellipse, save_mask, write_csv

# `make mutate` needs the same verdict in every run, and no smallest example of thousands of planted faults.
settings.register_profile("mutation", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])

# A shell starts background jobs with SIGINT ignored, and programs started by the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Expected results are those of a CPU. Must be set before torch looks for GPUs.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Limit torch to one thread; more slow tiny models down a lot when other processes use the cores."""
    import torch  # here, because the process that starts the workers does not need it

    torch.set_num_threads(1)


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no practice data: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def shared_carvana() -> Path:
    """Practice data of Carvana: real images, masks and CSV files. Read only."""
    return _shared("carvana")


@pytest.fixture(scope="session")
def shared_nuclei() -> Path:
    """Practice data of the merged nuclei. Read only."""
    return _shared("nuclei")


@pytest.fixture(scope="session")
def competition() -> Competition:
    """The tiny competition, in the layout of Carvana."""
    return Competition.model_validate(TINY)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """A recipe that learns the tiny competition in seconds."""
    return Recipe.model_validate(
        {
            "name": "tiny",
            "input": {"size": [64, 48]},
            "network": {"name": "unet", "width": 8, "depth": 2},
            "train": {
                "epochs": 12,
                "batch_size": 2,
                "learning_rate": 0.03,
                "precision": "float32",
                "ema_decay": 0.5,
                "validate_every": 12,
            },
            "predict": {"flips": ["none", "horizontal"]},
        }
    )


@pytest.fixture(scope="session")
def untouched_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of the tiny competition: four training groups and one test group of three images each. Read only."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for folder in ("train", "train_masks", "test"):
        (root / folder).mkdir(parents=True)
    train, test = [], []
    for group in ("alpha", "beta", "delta", "gamma", "omega"):
        for view in (1, 2, 3):
            image, mask = draw_ellipse(rng)
            name = f"{group}_{view:02d}"
            test_image = group == "omega"
            Image.fromarray(image).save(root / ("test" if test_image else "train") / f"{name}.jpg", quality=95)
            (test if test_image else train).append((f"{name}.jpg", mask_to_rle(mask)))
            if not test_image:
                save_mask(mask, root / "train_masks" / f"{name}_mask.gif")
    write_csv(root / "train_masks.csv", train)
    write_csv(root / "solution.csv", test)
    write_csv(root / "sample_submission.csv", [(name, "1 1") for name, _ in reversed(test)])
    return root


@pytest.fixture
def data(untouched_data: Path, tmp_path: Path) -> Path:
    """A copy of the tiny competition's files that a test may change."""
    return Path(shutil.copytree(untouched_data, tmp_path / "data"))


@pytest.fixture(scope="session")
def untouched_table(competition: Competition, untouched_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of two folds of the tiny competition. Read only."""
    samples = load_training_samples(competition, untouched_data)
    path = tmp_path_factory.mktemp("folds") / "folds.csv"
    save_folds(make_folds(samples, measure_mask_areas(samples, competition), 2), path)
    return path


@pytest.fixture
def table(untouched_table: Path, tmp_path: Path) -> Path:
    """A copy of the table of folds that a test may change."""
    return Path(shutil.copy(untouched_table, tmp_path / "folds.csv"))


@pytest.fixture(scope="session")
def untouched_runs(
    competition: Competition,
    recipe: Recipe,
    untouched_data: Path,
    untouched_table: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The runs folder with both folds of the tiny competition, trained. Read only."""
    from pipeline.training.fold import train_fold

    folder = tmp_path_factory.mktemp("runs")
    for fold in (0, 1):
        train_fold(competition, recipe, untouched_data, untouched_table, fold, fold_run(folder, fold))
    return folder


@pytest.fixture
def trained(untouched_runs: Path, tmp_path: Path) -> Path:
    """A copy of the runs folder that a test may change."""
    return Path(shutil.copytree(untouched_runs, tmp_path / "runs"))


@pytest.fixture
def small(recipe: Recipe) -> Recipe:
    """A second recipe: smaller input, other flips, and a threshold that an ensemble must ignore for its second member."""
    changes = {
        "name": "small",
        "input": InputConfig(size=(40, 32)),
        "predict": PredictConfig(flips=("none",), threshold=0.7),
    }
    return recipe.model_copy(update=changes)


@pytest.fixture
def trained_small(trained: Path, small: Recipe, tmp_path: Path) -> Path:
    """The runs folder of `small`: the weights of `trained` saved with the other recipe, so no training is needed."""
    from pipeline.models.checkpoint import load_weights, save_weights

    for fold in (0, 1):
        model, _, metadata = load_weights(fold_run(trained, fold).weights)
        save_weights(fold_run(tmp_path / "small", fold).weights, model, small, metadata)
    return tmp_path / "small"
