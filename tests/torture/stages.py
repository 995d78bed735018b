"""The stages: what each one needs, its command, and its result."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import tomli_w

from pipeline.competition import load_competition
from pipeline.models.checkpoint import fingerprint_weights
from tests.standin.archives import pack_files
from tests.standin.backend import Backend
from tests.standin.server import StandinServer
from tests.torture.processes import REPOSITORY, Command

NAME = "torture"
"""Name of the competition and of the recipe."""

RECIPE: dict[str, Any] = {
    "input": {"size": [16, 16]},
    "network": {"name": "unet", "width": 4, "depth": 2},
    "train": {"epochs": 3, "batch_size": 2, "learning_rate": 0.03, "precision": "float32", "ema_decay": 0.5},
    "augment": {"horizontal_flip": 0.5},
    "predict": {"flips": ["none", "horizontal"]},
}
RENDERED: dict[str, Any] = {
    "base": "carvana",
    "slug": "torture-cars",
    "folds": 2,
    "images": {"size": [192, 128], "test_count": 16},
}
"""The competition of `render`."""

_BALLAST_BYTES = 4 << 20
_BYTES_PER_SECOND = 3e6


@dataclass(frozen=True)
class Stage:
    """One command and how its result is read."""

    name: str
    arguments: tuple[str, ...]
    read_result: Callable[[Path], dict[str, str]]
    """Working folder -> what must be equal to an undisturbed run."""
    inputs: tuple[str, ...] = ()
    """What its working folder links to in the folder of the world."""
    environment: Mapping[str, str] = field(default_factory=dict)


def render(folder: Path) -> None:
    """Write the embedded data set: two training cars and one test car."""
    width, height = map(str, RENDERED["images"]["size"])
    size = ("--width", width, "--height", height)
    _run("scripts.render", "--out", str(folder), "--train-cars", "2", "--test-cars", "1", *size, folder=folder.parent)


@contextmanager
def build_stages(world: Path, competition: Mapping[str, Any], *, fork: bool = False) -> Iterator[dict[str, Stage]]:
    """Prepare everything that the stages need, and keep a stand-in for Kaggle running.

    Args:
        world: a folder with the data set in ``data/torture``.
        competition: content of its TOML file, without the table of downloads.
        fork: see `Command`.
    """
    data = world / "data" / NAME
    _write_settings(world, competition)
    options = ("--competition", NAME, "--recipe", NAME)
    train = Stage("train", ("scripts.train", *options), _read_training, ("data", "folds"))
    predict = Stage("predict", ("scripts.predict", *options, "--folds", "0"), _read_submission, ("data", "runs"))
    _run("scripts.folds", "--competition", NAME, folder=world, fork=fork)
    _run(*train.arguments, folder=world, fork=fork)
    for index, threshold in enumerate(("0.3", "0.5", "0.7")):
        out = f"inputs/{index}.csv.gz"
        _run(*predict.arguments, "--threshold", threshold, "--out", out, folder=world, fork=fork)
    blend = ("scripts.blend", *(f"inputs/{index}.csv.gz" for index in range(3)), "--competition", NAME)
    with ExitStack() as stack:
        files = pack_files(load_competition(NAME, world / "competitions"), data, world / "offered")
        # A transfer of some seconds, of which the client has written a part. The entry is not unpacked.
        with zipfile.ZipFile(files["train.zip"], "a") as archive:
            archive.writestr("train/.DS_Store", Random(0).randbytes(_BALLAST_BYTES))
        backend = Backend(f"{NAME}-cars", files, lambda _: (0.0, 0.0), world / "uploads")
        server = stack.enter_context(StandinServer(backend))
        server.faults.add("* train.zip", "throttle", times=None, amount=_BYTES_PER_SECOND)
        account = {**server.environment(), "KAGGLE_CONFIG_DIR": str(world / ".kaggle")}
        download = ("scripts.download", "--competition", NAME)
        stages = [
            train,
            predict,
            Stage("download", download, _read_download, environment=account),
            Stage("blend", blend, _read_submission, ("inputs",)),
        ]
        yield {stage.name: stage for stage in stages}


def fill_working_folder(folder: Path, world: Path, stage: Stage) -> None:
    """Link to the settings and to what the stage needs."""
    for name in ("competitions", "recipes", *stage.inputs):
        (folder / name).symlink_to(world / name)


def _write_settings(world: Path, competition: Mapping[str, Any]) -> None:
    loose = ("train_masks.csv", "sample_submission.csv")
    offered = [(f"{name}.zip", name) for name in (*loose, "train_masks", "train", "test")]
    download = {"download": {"files": [{"name": name, "to": to, "mb": 1} for name, to in offered]}}
    for name, values in (("competitions", {**competition, **download}), ("recipes", RECIPE)):
        (world / name).mkdir()
        (world / name / f"{NAME}.toml").write_text(tomli_w.dumps(values), encoding="utf-8")
    carvana = REPOSITORY / "competitions" / "carvana.toml"
    (world / "competitions" / "carvana.toml").symlink_to(carvana)


def _run(*arguments: str, folder: Path, fork: bool = False) -> None:
    command = Command(arguments, folder, {}, fork=fork)
    ending = command.wait()
    command.close()
    assert ending is not None
    assert ending.code == 0, ending.text


def _read_training(folder: Path) -> dict[str, str]:
    (run,) = (folder / "runs").glob("*/fold0")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = ("seconds", "images_per_second", "wait", "validation_seconds")
    history = json.dumps([{key: value for key, value in row.items() if key not in times} for row in rows])
    files = [path for path in _files(folder / "runs") if not path.name.startswith("events.out.")]
    names = ", ".join(path.relative_to(folder).as_posix() for path in files)
    return {"metrics": history, "weights": fingerprint_weights(run / "weights.safetensors"), "names of files": names}


def _read_submission(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): _hash(path) for path in _files(folder / "submissions")}


def _read_download(folder: Path) -> dict[str, str]:
    data = folder / "data"
    # The records hold times.
    return {
        path.relative_to(folder).as_posix(): "" if ".download" in path.parts else _hash(path) for path in _files(data)
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
