"""The notebook way: a folder that the client takes, and a file that runs the whole pipeline from nothing."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.kaggle.client import account_name
from pipeline.kaggle.kernel.attach import find_competition_folder, link_competition_files
from pipeline.kaggle.kernel.build import write_kernel
from pipeline.kaggle.kernel.main import Machine, on_all
from pipeline.kaggle.kernel.simplejpeg_fallback import decode_jpeg
from pipeline.paths import Run
from pipeline.recipe import Recipe
from pipeline.submission.check import expected_shapes
from pipeline.submission.score import score_submission
from pipeline.training.fold import train_fold
from tests.helpers import draw_ellipse
from tests.kaggle.conftest import HASTY
from tests.standin.server import Standin

CLIENT = Path(sys.executable).with_name("kaggle")


def write(competition: Competition, recipe: Recipe, folder: Path, **options: object) -> dict:
    write_kernel(competition, recipe, folder, "ada", **options)  # type: ignore[arg-type]
    return json.loads((folder / "kernel-metadata.json").read_text())


def test_the_client_pushes_it(tiny: Competition, recipe: Recipe, standin: Standin, tmp_path: Path) -> None:
    folder = tmp_path / "kernel"
    write(tiny, recipe, folder, resume=True, datasets=["ada/wheels"])
    command = [str(CLIENT), "kernels", "push", "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Kernel version 1 successfully pushed" in done.stdout, done.stderr
    assert "does not resolve" not in done.stdout, "title and address agree"
    (pushed,) = standin.world.kernels
    assert pushed.pop("text") == (folder / "kernel.py").read_text()
    assert pushed == {
        "slug": "ada/tiny-pipeline",
        "newTitle": "tiny pipeline",
        "language": "python",
        "kernelType": "script",
        "isPrivate": True,
        "enableGpu": True,
        "enableTpu": False,
        "enableInternet": False,
        "machineShape": "NvidiaTeslaT4",
        "competitionDataSources": ["tiny-cars"],
        "datasetDataSources": ["ada/wheels"],
        "kernelDataSources": ["ada/tiny-pipeline"],
    }


def test_the_account_is_asked_from_the_client(standin: Standin) -> None:
    assert account_name(HASTY) == "ada"


def test_the_same_source_gives_the_same_file(tiny: Competition, recipe: Recipe, tmp_path: Path) -> None:
    assert write(tiny, recipe, tmp_path / "one")["kernel_sources"] == []
    write(tiny, recipe, tmp_path / "two")
    assert (tmp_path / "one" / "kernel.py").read_bytes() == (tmp_path / "two" / "kernel.py").read_bytes()
    assert (tmp_path / "one" / "kernel.py").stat().st_size < 500_000


def test_refuses_what_kaggle_would(tiny: Competition, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'a b' is no account"):
        write_kernel(tiny, recipe, tmp_path, "a b")
    with pytest.raises(UserError, match="longer than the 50 characters"):
        write_kernel(tiny, recipe.model_copy(update={"name": "x" * 60}), tmp_path, "ada")
    with pytest.raises(UserError, match=r"tiny\.toml: has no slug"):
        write_kernel(tiny.model_copy(update={"slug": None}), recipe, tmp_path, "ada")


# ---- what runs there


def mount(files: dict[str, Path], folder: Path) -> Path:
    """The competition as Kaggle mounts it: not to be written to."""
    folder.mkdir(parents=True)
    for name, path in files.items():
        shutil.copy(path, folder / name)
    folder.chmod(0o555)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("place", ["tiny-cars", "competitions/tiny-cars", "moved/again"])
def test_attaches_archives(tiny: Competition, standin: Standin, data: Path, tmp_path: Path, place: str) -> None:
    folder = mount(standin.world.files, tmp_path / "input" / place)
    assert find_competition_folder(tiny, tmp_path / "input") == folder
    link_competition_files(tiny, folder, tmp_path / "attached")
    truth = tree(data)
    truth.pop("solution.csv")
    assert tree(tmp_path / "attached") == truth


def test_attaches_folders(tiny: Competition, data: Path, tmp_path: Path) -> None:
    """Unpacked by Kaggle, one of them into a folder of its own, and the broken picture still among the others."""
    folder = tmp_path / "input" / "tiny-cars"
    shutil.copytree(data, folder)
    shutil.move(folder / "train", folder / "moved")
    shutil.move(folder / "moved", folder / "train" / "train")
    shutil.move(folder / "test" / "omega_02.jpg", folder / "omega_02.jpg")
    (folder / "test" / "omega_02.jpg").write_bytes(b"no picture")
    link_competition_files(tiny, folder, tmp_path / "attached")
    link_competition_files(tiny, folder, tmp_path / "attached")
    truth = tree(data)
    truth.pop("solution.csv")
    assert tree(tmp_path / "attached") == truth


def test_says_what_is_not_attached(tiny: Competition, tmp_path: Path) -> None:
    (tmp_path / "input" / "other").mkdir(parents=True)
    with pytest.raises(UserError, match="does not hold the files of tiny-cars; attach the competition"):
        find_competition_folder(tiny, tmp_path / "input")
    (tmp_path / "input" / "tiny-cars" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds neither .* nor .*; attach"):
        link_competition_files(tiny, find_competition_folder(tiny, tmp_path / "input"), tmp_path / "attached")


def test_finished_rows_of_an_unfinished_prediction_are_handed_on(tmp_path: Path) -> None:
    first, second = (Machine(tmp_path / name, tmp_path / name / "scratch") for name in ("one", "two"))
    rows = first.output / "submissions" / ".part0-tiny.csv.gz.rows"
    rows.parent.mkdir(parents=True)
    rows.write_text("rows")
    first.show_hidden()
    assert not [path for path in rows.parent.iterdir() if path.name.startswith(".")]
    for place in ("last", "notebooks/ada/last"):
        shutil.copytree(first.output, second.inputs / place)
        (second.inputs / place / "submissions").chmod(0o555)
        second.resume("tiny")
        assert (second.output / "submissions").stat().st_mode & 0o200
        assert [path.name for path in (second.output / "submissions").iterdir()] == [rows.name]
        (second.inputs / place / "submissions").chmod(0o755)
        shutil.rmtree(second.output)
        shutil.rmtree(second.inputs)


def test_every_gpu_gets_a_fold_and_time_is_kept(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; time.sleep(0.3);"
        "Path(sys.argv[1]).write_text(os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + sys.argv[-1]);"
        "sys.exit(int(sys.argv[2]))"
    )
    tasks = [[sys.executable, "-c", code, str(tmp_path / str(n)), str(3 * (n == 2))] for n in range(3)]
    assert on_all(tasks, time.monotonic() + 600, count=2) == [0, 0, 3]
    said = [(tmp_path / str(number)).read_text().split() for number in range(3)]
    assert {gpu for gpu, _ in said} == {"0", "1"}
    assert all(9.8 < float(minutes) <= 10 for _, minutes in said)
    assert on_all(tasks, time.monotonic() + 30, count=2) == [None] * 3, "too late to begin"


@pytest.mark.parametrize("size", [(0, 0), (24, 32), (20, 30), (100, 200)])
def test_the_spare_decoder_agrees_with_the_true_one(size: tuple[int, int]) -> None:
    image, _ = draw_ellipse(np.random.default_rng(0), (128, 96))
    content = simplejpeg.encode_jpeg(image, quality=95)
    mine = decode_jpeg(content, "RGB", min_height=size[0], min_width=size[1])
    true = simplejpeg.decode_jpeg(content, "RGB", min_height=size[0], min_width=size[1])
    assert mine.dtype == np.uint8
    assert (mine.shape[0] >= size[0] and mine.shape[1] >= size[1]) or mine.shape == image.shape
    assert np.abs(mine.mean((0, 1)) - true.mean((0, 1))).max() < 1.5
    if mine.shape == true.shape:
        assert np.abs(mine.astype(int) - true.astype(int)).mean() < 2


def test_the_spare_decoder_refuses_other_formats() -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    for content in (buffer.getvalue(), b"no picture"):
        with pytest.raises(ValueError, match=r"PNG|cannot"):
            decode_jpeg(content, "RGB")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_runs_from_one_file_and_goes_on(
    tiny: Competition, recipe: Recipe, standin: Standin, data: Path, table: Path, tmp_path: Path
) -> None:
    """A read-only mount, two GPUs that are none, and fold 0 in the last version's output: everything else is done."""
    root = tmp_path / "kaggle"
    mount(standin.world.files, root / "input" / "competitions" / "tiny-cars")
    last = root / "input" / "notebooks" / "ada" / "tiny-pipeline"
    train_fold(tiny, recipe, data, table, 0, Run(last / "runs" / "tiny" / "fold0"))
    (last / "folds").mkdir()
    shutil.copy(table, last / "folds" / "tiny.csv")
    weights = (last / "runs" / "tiny" / "fold0" / "weights.safetensors").read_bytes()

    write(tiny, recipe, root / "push", resume=True)
    (root / "working").mkdir()
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: T4'\necho 'GPU 1: T4'\n")
    (tools / "nvidia-smi").chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    code = (
        f"import sys; sys.path.insert(0, {str(root / 'push')!r}); import kernel; from pathlib import Path;"
        f"kernel.main(kernel.Machine(Path({str(root)!r}), Path({str(root / 'scratch')!r})))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "packages not in this image: none" in done.stdout
    assert f"goes on from {last}" in done.stdout
    trained = [line for line in done.stdout.splitlines() if line.startswith("$") and "scripts.train" in line]
    assert len(trained) == 1
    assert "--fold 1 " in trained[0]

    output = root / "working"
    assert (output / "runs" / "tiny" / "fold0" / "weights.safetensors").read_bytes() == weights
    assert (output / "runs" / "tiny" / "evaluation.json").exists()
    submission = output / "submissions" / "tiny.csv.gz"
    assert sorted(path.name for path in submission.parent.iterdir()) == ["tiny.csv.gz", "tiny.json"]
    assert json.loads((submission.parent / "tiny.json").read_text())["folds"] == [0, 1]
    solution = data / "solution.csv"
    assert score_submission(submission, solution, tiny, expected_shapes(tiny, data, sample=solution)).mean() > 0.5
