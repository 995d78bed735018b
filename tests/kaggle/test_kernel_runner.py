"""Code that runs on Kaggle: stages on several GPUs, files of the previous version, the whole kernel."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.competition import Competition
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.rle import rle_to_mask
from pipeline.errors import UserError
from pipeline.evaluation.predict import predict_as_evaluated
from pipeline.inference.broken import fallback_rows
from pipeline.kaggle.kernel import runner
from pipeline.kaggle.kernel.attach import link_mounted_data
from pipeline.kaggle.kernel.build import write_kernel
from pipeline.kaggle.kernel.previous_version import find_in_inputs, restore_output, show_hidden_files
from pipeline.kaggle.kernel.runner import (
    KernelSettings,
    StageRunner,
    count_gpus,
    run_kernel,
    run_on_gpus,
    run_prediction,
)
from pipeline.kaggle.kernel.shards import join_submissions, shard_path, split_test_images
from pipeline.kaggle.kernel.weights_dataset import restore_weights, write_weights_dataset
from pipeline.recipe import Recipe
from pipeline.stages import Stage
from pipeline.submission.score import score_submission
from pipeline.submission.shapes import expected_shapes
from tests.helpers import SIZE, TINY, TINY_FORMAT, changed_competition
from tests.kaggle.helpers import mount
from tests.standin.server import StandinServer

SETTINGS = KernelSettings("tiny", "cpu", [0, 1], 60.0, "abc")


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An nvidia-smi that lists two GPUs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: T4'\necho 'GPU 1: T4'\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_gpus_are_counted(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_gpus() == 2
    monkeypatch.setenv("PATH", "")
    assert count_gpus() == 0


# ---- commands


@pytest.mark.slow
def test_each_gpu_runs_one_command_at_a_time_with_the_time_left(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; time.sleep(0.3);"
        "Path(sys.argv[1]).write_text(os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + sys.argv[-1]);"
        "sys.exit(int(sys.argv[2]))"
    )
    commands = [[sys.executable, "-c", code, str(tmp_path / str(n)), str(3 * (n == 2))] for n in range(3)]
    assert run_on_gpus(commands, time.monotonic() + 600, gpus=2) == [0, 0, 3]
    written = [(tmp_path / str(number)).read_text().split() for number in range(3)]
    assert {gpu for gpu, _ in written} == {"0", "1"}
    assert all(9.8 < float(minutes) <= 10 for _, minutes in written)


def test_nothing_is_started_in_the_last_minute() -> None:
    assert run_on_gpus([["false"], ["false"]], time.monotonic() + 59, gpus=2) == [None, None]
    assert run_on_gpus([["false"], ["true"]], time.monotonic() + 65, gpus=2) == [1, 0]


def test_without_a_gpu_commands_run_one_after_the_other(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"echo start $CUDA_VISIBLE_DEVICES >> {log}; sleep 0.1; echo end >> {log}; true"
    commands = [["sh", "-c", code]] * 2
    assert run_on_gpus(commands, time.monotonic() + 600, gpus=0) == [0, 0]
    assert log.read_text().split() == ["start", "end", "start", "end"]


def test_commands_have_the_options_of_their_stage() -> None:
    stage = Stage("train", Path("target"), (), ("--recipe", "cpu", "--fold", "0"))
    command = StageRunner(SETTINGS, 0.0, 0).command(stage, Path("data"), "--out", "x")
    assert command == [
        *(sys.executable, "-m", "scripts.train", "--competition", "tiny", "--data", "data"),
        *("--recipe", "cpu", "--fold", "0", "--out", "x"),
    ]


@pytest.mark.parametrize(("code", "trained"), [(0, True), (3, False), (1, False), (None, False)], ids=str)
def test_finished_folds_are_checked_and_the_others_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, trained: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = paths.fold_run(paths.runs_folder("tiny", "cpu"), 0).weights
    weights.parent.mkdir(parents=True)
    weights.touch()
    started: list[list[str]] = []

    def run(commands: list[list[str]], *_: object) -> list[int | None]:
        started.extend(commands)
        return [code if command[-1] == "1" else 0 for command in commands]

    monkeypatch.setattr(runner, "run_on_gpus", run)
    assert StageRunner(SETTINGS, 0.0, 0).train(Path("data")) == trained
    assert [command[-4:] for command in started] == [["--recipe", "cpu", "--fold", fold] for fold in "01"]


@pytest.mark.parametrize("changed", [True, False])
def test_results_of_other_weights_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool) -> None:
    monkeypatch.chdir(tmp_path)
    runs, submission = paths.runs_folder("tiny", "cpu"), paths.submission_csv("tiny", "cpu")
    weights = [paths.fold_run(runs, fold).weights for fold in (0, 1)]
    results = [paths.evaluation_json(runs), submission, shard_path(submission, 0, 2)]
    for path in (*weights, *results):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("first")

    def run(commands: list[list[str]], *_: object) -> list[int | None]:
        weights[1].write_text("second" if changed else "first")
        return [0] * len(commands)

    monkeypatch.setattr(runner, "run_on_gpus", run)
    assert StageRunner(SETTINGS, 0.0, 0).train(Path("data"))
    assert [path.exists() for path in results] == [not changed] * 3


@pytest.mark.parametrize("code", [0, 1])
def test_parts_that_failed_are_predicted_again_on_one_gpu(
    tiny: Competition, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls: list[tuple[int, int]] = []

    def run(commands: list[list[str]], _: float, gpus: int) -> list[int | None]:
        calls.append((len(commands), gpus))
        return [0, 1] if len(calls) == 1 else [code]

    shutil.copytree(data, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "run_on_gpus", run)
    monkeypatch.setattr(runner, "run_command", lambda *_, **__: 0)
    monkeypatch.setattr(runner, "join_submissions", lambda *_: None)
    monkeypatch.setattr(runner, "load_competition", lambda _: tiny)
    assert StageRunner(SETTINGS, 0.0, 2).predict(tmp_path / "copy") == (code == 0)
    assert calls == [(2, 2), (1, 1)]


@pytest.mark.parametrize("code", [0, 1])
def test_the_only_fold_left_is_trained_on_all_gpus_or_else_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = paths.fold_run(paths.runs_folder("tiny", "cpu"), 0).weights
    weights.parent.mkdir(parents=True)
    weights.touch()
    together: list[list[str]] = []
    alone: list[list[str]] = []
    monkeypatch.setattr(runner, "run_command", lambda command: together.append(command) or code)
    monkeypatch.setattr(runner, "run_on_gpus", lambda commands, *_: alone.extend(commands) or [0] * len(commands))
    assert StageRunner(SETTINGS, time.monotonic() + 600, 2).train(Path("data"))
    (command,) = together
    assert command[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert command[6:8] == ["-m", "scripts.train"]
    assert [command[-1] for command in alone] == ["0", "1"][: 1 + code]


@pytest.mark.parametrize("name", ["checkpoint", "weights", "coarse.checkpoint", "coarse.weights", None])
def test_an_unfinished_kernel_succeeds_if_something_is_trained(
    tiny: Competition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "find_competition_folder", lambda *_: tmp_path)
    monkeypatch.setattr(runner, "link_competition_files", lambda *_: None)
    monkeypatch.setattr(StageRunner, "train", lambda *_: False)
    paths.folds_csv("tiny").parent.mkdir()
    paths.folds_csv("tiny").touch()
    if name:
        path = attrgetter(name)(paths.fold_run(paths.runs_folder("tiny", "cpu"), 1))
        path.parent.mkdir(parents=True)
        path.touch()
    finished = run_kernel(SETTINGS, tmp_path / "input", tmp_path, tmp_path / "data", time.monotonic())
    assert finished == (name is not None)


@pytest.mark.parametrize("download", [True, False])
def test_the_mounted_files_are_linked(
    tiny: Competition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = tiny if download else changed_competition(tiny, download=None)
    monkeypatch.setattr(runner, "load_competition", lambda _: chosen)
    monkeypatch.setattr(StageRunner, "train", lambda *_: False)
    monkeypatch.setattr(runner, "run_command", lambda *_: 0)
    for name in ("train", "test", "train_masks"):
        (tmp_path / "input" / str(tiny.slug) / name).mkdir(parents=True)
    if download:
        monkeypatch.setattr(
            runner, "link_competition_files", lambda *_: (tmp_path / "data" / "train").mkdir(parents=True)
        )
        monkeypatch.setattr(runner, "find_competition_folder", lambda *_: tmp_path)
    run_kernel(SETTINGS, tmp_path / "input", tmp_path, tmp_path / "data", time.monotonic())
    assert (tmp_path / "data" / "train").is_dir()


# ---- parts of the test set


@pytest.mark.parametrize("count", [0, 1])
def test_one_part_is_the_whole_test_set(tiny: Competition, data: Path, count: int) -> None:
    assert split_test_images(tiny, data, count) == [data]
    assert split_test_images(changed_competition(tiny, csv__sample=None), data, 2) == [data]
    assert shard_path(Path("submissions/x.csv.gz"), 0, 1) == Path("submissions/x.csv.gz")
    assert shard_path(Path("submissions/x.csv.gz"), 1, 2) == Path("submissions/part1-x.csv.gz")


def test_there_are_no_more_parts_than_images(tiny: Competition, data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    assert len(split_test_images(tiny, copy, 16)) == 3
    write_mask_csv(copy / "sample_submission.csv", TINY_FORMAT, [("omega_01.jpg", 0, "1 1")])
    assert split_test_images(tiny, copy, 2) == [copy]


def test_parts_contain_every_image_once(tiny: Competition, data: Path) -> None:
    everything = [row.id for row in read_mask_csv(data / "sample_submission.csv", TINY_FORMAT)]
    for _ in range(2):
        folders = split_test_images(tiny, data, 2)
    parts = [[row.id for row in read_mask_csv(folder / "sample_submission.csv", TINY_FORMAT)] for folder in folders]
    assert [len(part) for part in parts] == [2, 1]
    assert sorted(parts[0] + parts[1]) == sorted(everything)
    assert len({*folders, data}) == 3
    assert (folders[1] / "test").resolve() == data / "test"
    assert [row.id for row in read_mask_csv(data / "sample_submission.csv", TINY_FORMAT)] == everything


def write_part(path: Path, rows: list[tuple[str, int, str]], **metadata: object) -> Path:
    write_mask_csv(path, TINY_FORMAT, rows)
    paths.submission_metadata(path).write_text(json.dumps(metadata))
    return path


def test_parts_are_joined_and_deleted(tiny: Competition, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "submissions"
    folder.mkdir()
    parts = [
        write_part(folder / "part0-x.csv.gz", [("omega_03.jpg", 0, "1 2")], commit="", images="part", recipe="cpu"),
        write_part(folder / "part1-x.csv.gz", [("omega_01.jpg", 0, "5 1"), ("omega_02.jpg", 0, "7 1")], images="part"),
    ]
    join_submissions(tiny, data, parts, folder / "x.csv.gz", "abc")
    rows = [row[1:] for row in read_mask_csv(folder / "x.csv.gz", TINY_FORMAT)]
    assert rows == [("omega_03.jpg", 0, "1 2"), ("omega_01.jpg", 0, "5 1"), ("omega_02.jpg", 0, "7 1")]
    assert sorted(path.name for path in folder.iterdir()) == ["x.csv.gz", "x.json"]
    metadata = json.loads((folder / "x.json").read_text())
    assert (metadata["commit"], metadata["recipe"]) == ("abc", "cpu")
    assert metadata["images"] != "part"


def test_a_single_part_gets_a_commit(tiny: Competition, data: Path, tmp_path: Path) -> None:
    out = write_part(tmp_path / "x.csv.gz", [("omega_03.jpg", 0, "1 2")], commit="123", images="all")
    content = out.read_bytes()
    join_submissions(tiny, data, [out], out, "abc")
    assert json.loads((tmp_path / "x.json").read_text()) == {"commit": "123", "images": "all"}
    assert out.read_bytes() == content


# ---- the previous version


def test_inputs_are_searched_at_three_depths(tmp_path: Path) -> None:
    for place in ("a", "b/c", "d/e/f", "g/h/i/j"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "x.whl").touch()
    assert find_in_inputs(tmp_path, "*.whl") == [tmp_path / place / "x.whl" for place in ("a", "b/c", "d/e/f")]


@pytest.mark.parametrize("place", ["last", "notebooks/ada/last"])
def test_finished_rows_reach_the_next_version(tmp_path: Path, place: str) -> None:
    output = tmp_path / "output"
    spool = output / paths.submission_spool(Path("submissions/part0-tiny.csv.gz"))
    spool.parent.mkdir(parents=True)
    spool.write_text("rows")
    show_hidden_files(output)
    assert [path.name for path in spool.parent.iterdir()] == ["unfinished.part0-tiny.csv.gz.rows"]
    inputs, next_output = tmp_path / "inputs", tmp_path / "next"
    shutil.copytree(output, inputs / place)
    (inputs / place / "submissions").chmod(0o555)
    restore_output(inputs, next_output, [paths.SUBMISSIONS, paths.RUNS])
    assert (next_output / "submissions").stat().st_mode & 0o200
    assert [path.name for path in (next_output / "submissions").iterdir()] == [spool.name]
    (inputs / place / "submissions").chmod(0o755)


# ---- the whole kernel


def run_code_file(root: Path) -> "subprocess.CompletedProcess[str]":
    """Run ``root/push/kernel.py`` in a process that cannot connect to anything."""
    blocked = root / "no_network"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import socket\n"
        "connect = socket.socket.connect\n"
        "def local_only(self, address):\n"
        "    if self.family != socket.AF_UNIX:\n"
        "        raise OSError('the network is switched off')\n"
        "    return connect(self, address)\n"
        "socket.socket.connect = local_only\n"
    )
    (root / "working").mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(root / 'push')!r}); import kernel; from pathlib import Path;"
        f"kernel.main(kernel.KernelFolders(Path({str(root)!r}), Path({str(root / 'scratch')!r})))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(blocked)}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_the_code_file_finishes_what_the_previous_version_began(
    tiny: Competition,
    recipe: Recipe,
    standin: StandinServer,
    data: Path,
    table: Path,
    trained: Path,
    two_gpus: None,
    tmp_path: Path,
) -> None:
    root = tmp_path / "kaggle"
    mount(standin.backend.files, root / "input" / "competitions" / "tiny-cars")
    previous = root / "input" / "notebooks" / "ada" / "tiny-pipeline"
    previous_run = paths.fold_run(previous / "runs" / "tiny", 0)
    shutil.copytree(paths.fold_run(trained, 0).folder, previous_run.folder)
    (previous / "folds").mkdir()
    shutil.copy(table, previous / "folds" / "tiny.csv")

    write_kernel(tiny, [recipe], root / "push", "ada", resume=True)
    done = run_code_file(root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "packages missing in this image: none" in done.stderr
    assert f"resume from {previous}" in done.stderr
    commands = [line for line in done.stderr.splitlines() if line.startswith("$ ")]
    check, train = [line for line in commands if "scripts.train" in line]
    assert "--fold 0 " in check
    assert "--fold 1 " in train
    assert sum("scripts.predict" in line for line in commands) == 2

    output = root / "working"
    runs = output / paths.runs_folder("tiny", "tiny")
    assert paths.fold_run(runs, 0).weights.read_bytes() == previous_run.weights.read_bytes()
    assert paths.evaluation_json(runs).exists()
    submission = output / paths.submission_csv("tiny", "tiny")
    assert sorted(path.name for path in submission.parent.iterdir()) == ["tiny.csv.gz", "tiny.doubts.csv", "tiny.json"]
    assert json.loads(paths.submission_metadata(submission).read_text())["folds"] == [0, 1]
    solution = data / "solution.csv"
    assert score_submission(submission, solution, tiny, expected_shapes(tiny, data, sample=solution)).score.mean() > 0.5


@pytest.mark.slow
def test_an_inference_kernel_predicts_a_larger_hidden_test_set_without_network(
    tiny: Competition,
    recipe: Recipe,
    data: Path,
    trained: Path,
    two_gpus: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows for all hidden images, a fallback mask for one that does not decode, nothing from the visible test set."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, paths.runs_folder("tiny", "tiny"))
    root = tmp_path / "kaggle"
    address = write_weights_dataset("tiny", "tiny", [0, 1], tmp_path / "dataset", "ada")
    assert address == "ada/tiny-weights"
    write_kernel(tiny, [recipe], root / "push", "ada", folds=[0, 1], predict=True, datasets=[address])
    # The hidden test set replaces the visible one of three images: the training images play it.
    mounted = root / "input" / "competitions" / "tiny-cars"
    (mounted / "test").mkdir(parents=True)
    images = sorted((data / "train").iterdir())
    for image in images:
        shutil.copy(image, mounted / "test" / image.name)
    (mounted / "test" / "alpha_01.jpg").write_bytes(b"not an image")
    write_mask_csv(mounted / "sample_submission.csv", TINY_FORMAT, [(image.name, 0, "1 1") for image in images])
    for folder in (mounted / "test", mounted):
        folder.chmod(0o555)
    shutil.copytree(tmp_path / "dataset", root / "input" / "datasets" / "ada" / "tiny-weights")

    done = run_code_file(root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "alpha_01.jpg: cannot be decoded" in done.stderr
    assert "scripts.train" not in done.stderr
    assert "scripts.evaluate" not in done.stderr
    submission = root / "working" / "submission.csv"
    assert [path.name for path in submission.parent.iterdir()] == ["submission.csv"]
    rows = {row.id: row.rle for row in read_mask_csv(submission, TINY_FORMAT)}
    assert len(rows) == 12
    assert rows.pop("alpha_01.jpg") == fallback_rows(tiny, SIZE)[0][1]
    true = {row.id: row.rle for row in read_mask_csv(data / "train_masks.csv", TINY_FORMAT)}
    for id, rle in rows.items():
        predicted, mask = rle_to_mask(rle, (62, 94)), rle_to_mask(true[id], (62, 94))
        assert 2 * (predicted & mask).sum() / (predicted.sum() + mask.sum()) > 0.8


@pytest.mark.slow
def test_the_time_limit_fills_masks_instead_of_failing(
    tiny: Competition, recipe: Recipe, data: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "s.csv"
    arguments = (tiny, [recipe], data, [trained], [0], trained, out)
    assert not predict_as_evaluated(*arguments, minutes=0)
    assert predict_as_evaluated(*arguments, minutes=0, best_effort=True)
    texts = [row.rle for row in read_mask_csv(out, TINY_FORMAT)]
    assert len(texts) == 3
    assert fallback_rows(tiny, SIZE)[0][1] in texts
    assert "images are not predicted; their masks are filled" in caplog.text


@pytest.mark.parametrize("filled", [2, 3])
def test_a_version_without_any_predicted_mask_fails(
    tiny: Competition, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: int
) -> None:
    """Empty masks for all images, as without a package that reads them, would use up a submission."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "load_competition", lambda _: tiny)
    metadata = paths.submission_metadata(paths.submission_csv("tiny", "cpu"))
    metadata.parent.mkdir()
    metadata.write_text(json.dumps({"filled": ["a", "b", "c"][:filled]}))
    monkeypatch.setattr(runner, "run_on_gpus", lambda commands, *_: [0] * len(commands))
    monkeypatch.setattr(runner, "join_submissions", lambda *_: None)
    settings = replace(SETTINGS, predict=True)
    assert StageRunner(settings, 0.0, 0).predict(data) == (filled < 3)


@pytest.mark.parametrize("folder", [True, False])
def test_a_version_succeeds_where_the_whole_test_set_is_hidden(
    tiny: Competition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "restore_weights", lambda _: None)
    monkeypatch.setattr(runner, "load_competition", lambda _: tiny)
    mounted = tmp_path / "input" / "competitions" / "tiny-cars"
    (mounted / "test" if folder else mounted).mkdir(parents=True)
    write_mask_csv(mounted / "sample_submission.csv", TINY_FORMAT, [])
    assert run_prediction(SETTINGS, tmp_path / "input", tmp_path, tmp_path / "data", time.monotonic())
    assert (tmp_path / "submission.csv").read_text() == ",".join(TINY_FORMAT.header) + "\n"


def test_untrained_folds_long_names_and_missing_wheels_are_refused(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"fold0/weights\.safetensors: no such file; run `make train FOLD=0 RECIPE=tiny`"
    ):
        write_weights_dataset("tiny", "tiny", [0], tmp_path / "dataset", "ada")
    shutil.copytree(trained, paths.runs_folder("tiny", "tiny"))
    with pytest.raises(UserError, match=r"x\.whl: no such file"):
        write_weights_dataset("tiny", "tiny", [0], tmp_path / "dataset", "ada", [Path("x.whl")])
    shutil.copytree(trained, paths.runs_folder("t" * 25, "r" * 24))
    with pytest.raises(UserError, match="title of 58 characters"):
        write_weights_dataset("t" * 25, "r" * 24, [0], tmp_path / "dataset", "ada")
    with pytest.raises(UserError, match="no attached dataset has a pipeline-files"):
        restore_weights(tmp_path)
    with pytest.raises(UserError, match="no input has the folder test"):
        link_mounted_data(Competition.model_validate(TINY), tmp_path / "nowhere", tmp_path / "x")
