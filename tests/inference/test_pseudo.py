"""Pseudo-labels keep the surest masks, train a fold, and never reach a fold whose images their model has seen."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.data.folds import read_folds, split_samples
from pipeline.data.groups import SampleGroups
from pipeline.data.labels import LabelReader
from pipeline.data.pseudo import load_pseudo_samples
from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError
from pipeline.inference.image_model import load_image_model
from pipeline.inference.postprocess import binarize
from pipeline.inference.pseudo import write_pseudo_labels
from pipeline.paths import fold_run, pseudo_csv
from pipeline.training.fold import train_fold
from tests.helpers import SIZE, changed_competition, changed_recipe


@pytest.fixture
def write(competition, recipe, data, trained, tmp_path, monkeypatch):
    """Write the pseudo-labels of a fold at their place in a fresh folder; returns the file."""
    monkeypatch.chdir(tmp_path)

    def call(fold: int = 0, **options):
        path = pseudo_csv("tiny", "tiny", fold)
        write_pseudo_labels(competition, recipe, data, fold_run(trained, fold).weights, path, **options)
        return path

    return call


@pytest.fixture
def validation(competition, data, table):
    """The validation samples of each fold."""
    samples = load_training_samples(competition, data)
    return [split_samples(samples, read_folds(table, samples), fold)[1] for fold in (0, 1)]


@pytest.mark.slow
def test_labels_are_the_masks_of_the_folds_model(write, data, competition, trained, validation):
    path = write(keep=1.0)
    samples = load_pseudo_samples(path, validation[0], data)
    assert [sample.image.name for sample in samples] == [f"omega_0{view}.jpg" for view in (1, 2, 3)]
    assert {sample.group for sample in samples} == {"omega"}
    model = load_image_model(fold_run(trained, 0).weights)
    for sample in samples:
        probability = model.predict(sample.image.read_bytes(), sample.image, SIZE)
        expected = binarize(probability, model.postprocess).cpu().numpy()
        assert np.array_equal(LabelReader(competition).read_masks(sample), expected)


@pytest.mark.slow
def test_the_surest_are_kept(write, data, validation):
    path = write(keep=0.5)
    facts = json.loads(path.with_suffix(".json").read_text())
    assert (facts["images"], facts["kept"]) == (3, 2)
    assert len(load_pseudo_samples(path, validation[0], data)) == 2


@pytest.mark.slow
def test_labels_of_another_fold_are_refused(write, data, validation):
    with pytest.raises(UserError, match="has not held out the validation images of this fold"):
        load_pseudo_samples(write(fold=1), validation[0], data)


@pytest.mark.slow
def test_images_of_a_validation_group_are_refused(write, data, validation):
    path = write(images=[data / "train"], keep=1.0)
    with pytest.raises(UserError, match=r"has .*, whose group .* is validated in this fold"):
        load_pseudo_samples(path, validation[0], data)


@pytest.mark.slow
def test_copies_of_validation_images_are_refused(write, data, validation, tmp_path):
    folder = tmp_path / "unlabeled"
    folder.mkdir()
    shutil.copy(data / "test" / "omega_01.jpg", folder / "first.jpg")
    assert len(load_pseudo_samples(write(images=[folder], keep=1.0), validation[0], data)) == 1
    shutil.copy(validation[0][0].image, folder / "second.jpg")
    path = write(images=[folder], keep=1.0)
    assert len(pd.read_csv(path)) == 2, "the name tells no group"
    with pytest.raises(
        UserError, match=rf"second\.jpg, which is {validation[0][0].image.name}, validated in this fold"
    ):
        load_pseudo_samples(path, validation[0], data)


@pytest.mark.slow
def test_labels_are_valid_in_another_data_folder(write, data, validation, tmp_path):
    path = write(keep=1.0)
    assert pd.read_csv(path).image[0] == "test/omega_01.jpg"
    moved = shutil.copytree(data, tmp_path / "moved")
    assert load_pseudo_samples(path, validation[0], moved)[0].image == moved / "test" / "omega_01.jpg"


@pytest.mark.slow
def test_images_of_another_size_are_left_out(write, data, validation, tmp_path, competition):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in (("a.jpg", SIZE), ("b.jpg", (SIZE[0] // 2, SIZE[1]))):
        Image.new("RGB", size, "gray").save(folder / name)
    path = write(images=[folder], keep=1.0)
    names = [sample.image.name for sample in load_pseudo_samples(path, validation[0], data)]
    assert names == (["a.jpg"] if competition.images.size else ["a.jpg", "b.jpg"])


def test_slices_of_volumes_are_refused(competition, recipe, tmp_path):
    place = "x/{id}_{slice}.jpg"
    slices = {"field": "slice", "offsets": [0, 1]}
    chosen = changed_competition(competition, images__slices=slices, images__train=place, images__test=place)
    with pytest.raises(UserError, match=r"images\.slices: is not supported by `make pseudo`"):
        write_pseudo_labels(chosen, recipe, tmp_path, tmp_path / "x", tmp_path / "y")


def test_a_table_gives_the_groups_of_images_in_any_folder(competition, data, tmp_path):
    (tmp_path / "table.csv").write_text("name,patient\na,one\nb.jpg,two\n")
    chosen = changed_competition(competition, groups={"csv": "table.csv", "id": "name", "column": "patient"})
    groups = SampleGroups(chosen, tmp_path)
    assert [groups.find_group(Path(name)) for name in ("x/a.png", "b.jpg", "c.jpg")] == ["one", "two", None]


@pytest.mark.slow
def test_fold_trains_on_them_and_again_after_they_change(write, competition, recipe, data, table, tmp_path, caplog):
    path = write(keep=1.0)
    run = fold_run(tmp_path / "taught", 0)
    taught = changed_recipe(recipe, train__epochs=1, train__pseudo="tiny")

    def train() -> str:
        caplog.clear()
        with caplog.at_level("INFO"):
            assert train_fold(competition, taught, data, table, 0, run)
        return caplog.text

    assert "9 training and 6 validation images" in train()
    assert "nothing to do" in train()
    path.write_text(path.read_text().replace(",1 ", ",2 "))
    pd.read_csv(path).head(2).to_csv(path, index=False)
    assert "other training images" in train()


def test_missing_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "fold0.csv"
    with pytest.raises(UserError, match=r"fold0\.csv: cannot be read"):
        load_pseudo_samples(path, [], tmp_path)
    path.with_suffix(".json").write_text('{"held_out": "x"}')
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"fold0\.csv: is damaged"):
        load_pseudo_samples(path, [], tmp_path)
    facts = {"held_out": "x", "weights": "", "images": 1, "kept": 1, "largest_doubt": 0.0}
    path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="has other columns"):
        load_pseudo_samples(path, [], tmp_path)


@pytest.mark.slow
def test_unreadable_images_are_left_out(write, data, validation):
    shutil.copy(data / "sample_submission.csv", data / "test" / "omega_02.jpg")
    assert len(load_pseudo_samples(write(keep=1.0), validation[0], data)) == 2
