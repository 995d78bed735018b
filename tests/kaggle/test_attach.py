"""A data folder from a read-only mount: archives, unpacked folders, replacements."""

import shutil
from pathlib import Path

import pytest

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.kaggle.kernel.attach import find_competition_folder, link_competition_files
from tests.kaggle.helpers import SLUG, WRONG_IMAGE, mount, read_tree
from tests.standin.server import StandinServer


@pytest.mark.parametrize("place", [SLUG, f"competitions/{SLUG}", "moved/again"])
def test_mounted_archives_are_unpacked(
    tiny: Competition, standin: StandinServer, expected: dict[str, bytes], tmp_path: Path, place: str
) -> None:
    folder = mount(standin.backend.files, tmp_path / "input" / place)
    assert find_competition_folder(tiny, tmp_path / "input") == folder
    link_competition_files(tiny, folder, tmp_path / "attached")
    assert read_tree(tmp_path / "attached") == expected


def test_mounted_folders_are_linked(tiny: Competition, data: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "input" / SLUG
    shutil.copytree(data, folder)
    # Kaggle unpacks some archives into another folder of the same name.
    shutil.move(folder / "train", folder / "moved")
    shutil.move(folder / "moved", folder / "train" / "train")
    shutil.move(folder / "test" / "omega_02.jpg", folder / "omega_02.jpg")
    (folder / "test" / "omega_02.jpg").write_bytes(WRONG_IMAGE)
    for _ in range(2):
        link_competition_files(tiny, folder, tmp_path / "attached")
        assert read_tree(tmp_path / "attached") == expected
    assert (tmp_path / "attached" / "train" / "alpha_01.jpg").is_symlink()


def test_without_the_replacement_the_archives_own_image_is_used(tiny: Competition, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "input" / SLUG
    shutil.copytree(data, folder)
    (folder / "test" / "omega_02.jpg").write_bytes(WRONG_IMAGE)
    link_competition_files(tiny, folder, tmp_path / "attached")
    assert (tmp_path / "attached" / "test" / "omega_02.jpg").read_bytes() == WRONG_IMAGE


def test_a_damaged_archive_is_named(tiny: Competition, standin: StandinServer, tmp_path: Path) -> None:
    archive = standin.backend.files["train.zip"]
    archive.write_bytes(archive.read_bytes()[:-100])
    folder = mount(standin.backend.files, tmp_path / "input" / SLUG)
    with pytest.raises(UserError, match=r"train\.zip: is damaged .*; attach the competition again"):
        link_competition_files(tiny, folder, tmp_path / "attached")


def test_missing_competitions_and_files_are_named(tiny: Competition, tmp_path: Path) -> None:
    (tmp_path / "input" / "other").mkdir(parents=True)
    with pytest.raises(UserError, match="does not contain the files of tiny-cars; attach the competition"):
        find_competition_folder(tiny, tmp_path / "input")
    (tmp_path / "input" / SLUG / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"contains neither train_masks\.csv nor train_masks\.csv\.zip; attach"):
        link_competition_files(tiny, find_competition_folder(tiny, tmp_path / "input"), tmp_path / "attached")
