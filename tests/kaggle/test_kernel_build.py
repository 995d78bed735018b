"""The folder for `kaggle kernels push`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.kaggle.kernel import build
from pipeline.kaggle.kernel.build import _collect_files, write_kernel
from pipeline.recipe import Recipe, save_recipe
from scripts import kernel as kernel_script
from tests.helpers import changed_competition, changed_recipe
from tests.kaggle.helpers import SLUG
from tests.standin.server import StandinServer

METADATA_FILE = "kernel-metadata.json"


@pytest.mark.slow
def test_the_client_pushes_the_folder(
    tiny: Competition, recipe: Recipe, standin: StandinServer, tmp_path: Path
) -> None:
    folder = tmp_path / "kernel"
    write_kernel(tiny, [recipe], folder, "ada", resume=True, datasets=["ada/wheels"])
    command = [str(Path(sys.executable).with_name("kaggle")), "kernels", "push", "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Kernel version 1 successfully pushed" in done.stdout, done.stderr
    assert "does not resolve" not in done.stdout, "title and address agree"
    (pushed,) = standin.backend.pushed_kernels
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
        "competitionDataSources": [SLUG],
        "datasetDataSources": ["ada/wheels"],
        "kernelDataSources": ["ada/tiny-pipeline"],
    }


@pytest.mark.slow
def test_the_same_source_gives_the_same_files(tiny: Competition, recipe: Recipe, tmp_path: Path) -> None:
    first = write_kernel(tiny, [recipe], tmp_path / "one", "ada")
    second = write_kernel(tiny, [recipe], tmp_path / "two", "ada")
    assert [path.name for path in first] == [METADATA_FILE, "kernel.py"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[1].stat().st_size < 500_000
    assert json.loads(first[0].read_text())["kernel_sources"] == []


def test_the_pack_holds_source_configuration_and_fallbacks(
    tiny: Competition, recipe: Recipe, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = {
        "pipeline/paths.py",
        "pipeline/kaggle/kernel/runner.py",
        "scripts/train.py",
        "competitions/tiny.toml",
        "recipes/tiny.toml",
        "fallback/simplejpeg/simplejpeg.py",
        "fallback/isal/isal/igzip.py",
        "fallback/isal/isal/igzip_lib.py",
        "fallback/tomli_w/tomli_w/__init__.py",
        "fallback/segmentation_models_pytorch/segmentation_models_pytorch/__init__.py",
    }
    files = _collect_files(tiny, [recipe])
    assert expected < set(files)
    assert "folds/tiny.csv" not in files
    paths.folds_csv("tiny").parent.mkdir()
    paths.folds_csv("tiny").write_bytes(table.read_bytes())
    assert _collect_files(tiny, [recipe])["folds/tiny.csv"] == table.read_bytes()


def test_the_list_of_corrections_and_its_masks_are_packed(
    tiny: Competition, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = paths.competition_toml("tiny").with_name("list.csv")
    (listed.parent / "repaired").mkdir(parents=True)
    (listed.parent / "repaired" / "b.png").write_bytes(b"mask")
    listed.write_text("id,mask\na.jpg,\nb.jpg,repaired/b.png\n")
    files = _collect_files(changed_competition(tiny, masks__corrections="list.csv"), [recipe])
    assert files["competitions/list.csv"] == listed.read_bytes()
    assert files["competitions/repaired/b.png"] == b"mask"


def test_a_training_that_needs_other_files_is_refused(tiny: Competition, recipe: Recipe, tmp_path: Path) -> None:
    network = {"name": "Unet", "encoder": "resnet18", "encoder_weights": "x.safetensors"}
    changes = {"train.pseudo": {"train__pseudo": "cpu"}, "network.encoder_weights": {"network": network}}
    for key, change in changes.items():
        changed = changed_recipe(recipe, **change)
        with pytest.raises(UserError, match=rf"{key}: names a file that a kernel does not have; train this recipe"):
            write_kernel(tiny, [changed], tmp_path, "ada")


def test_weights_of_another_recipe_are_refused(
    tiny: Competition, recipe: Recipe, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, paths.runs_folder("tiny", "tiny"))
    assert write_kernel(tiny, [recipe], tmp_path / "k", "ada", predict=True)
    with pytest.raises(UserError, match=r"weights\.safetensors: was trained with another recipe"):
        write_kernel(tiny, [changed_recipe(recipe, train__epochs=99)], tmp_path / "k", "ada", predict=True)


def test_code_that_is_too_long_is_refused(
    tiny: Competition, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "_MAX_CODE", 1000)
    with pytest.raises(UserError, match=r"kernel\.py: would have 0\.\d\d MB, and Kaggle accepts less than 0\.001"):
        write_kernel(tiny, [recipe], tmp_path, "ada")
    assert not (tmp_path / "kernel.py").exists()


@pytest.mark.slow
def test_names_that_kaggle_does_not_accept_are_refused(tiny: Competition, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--user 'a b': is not a name of a Kaggle account"):
        write_kernel(tiny, [recipe], tmp_path, "a b")
    # "tiny-" and " pipeline" are 14 characters of the title.
    write_kernel(tiny, [changed_recipe(recipe, name="x" * 36)], tmp_path, "ada")
    with pytest.raises(UserError, match="title of 51 characters, and Kaggle accepts 50; shorten"):
        write_kernel(tiny, [changed_recipe(recipe, name="x" * 37)], tmp_path, "ada")
    with pytest.raises(UserError, match=r"tiny\.toml: has no slug"):
        write_kernel(changed_competition(tiny, slug=None), [recipe], tmp_path, "ada")


@pytest.mark.slow
def test_the_script_applies_folds_and_overrides(
    tiny: Competition,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_recipe(recipe, paths.recipe_toml("tiny"))
    kernel_script.main("tiny", "tiny", user="ada", folds="1", overrides=["train.epochs=3"], seed="5")
    folder = paths.kernel_folder("tiny", "tiny")
    printed = capsys.readouterr().out
    assert f"{folder / METADATA_FILE}\n{folder / 'kernel.py'}\n" in printed
    assert f"kaggle kernels push -p {folder}" in printed
    settings = next(line for line in (folder / "kernel.py").read_text().splitlines() if line.startswith("SETTINGS = "))
    values = json.loads(json.loads(settings.removeprefix("SETTINGS = ")))
    assert (values["folds"], values["minutes"], values["recipe"]) == ([1], 675.0, "tiny")
