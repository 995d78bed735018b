"""Corrections exclude and repair masks of the training only, and a faulty list is refused."""

import numpy as np
import pytest

from pipeline.data import corrections
from pipeline.data.corrections import correct_samples, fingerprint_repairs
from pipeline.data.labels import LabelReader
from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError
from pipeline.models.checkpoint import read_weights_metadata
from pipeline.paths import Run
from pipeline.training.fold import train_fold
from tests.helpers import SIZE, changed_competition, changed_recipe, save_mask


@pytest.fixture
def listed(competition, tmp_path, monkeypatch):
    """The tiny competition with a list of these lines."""
    monkeypatch.setattr(corrections, "competition_toml", lambda name: tmp_path / f"{name}.toml")

    def write(*lines: str):
        (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
        return changed_competition(competition, masks__corrections="list.csv")

    return write


@pytest.fixture
def half(tmp_path):
    """A repaired mask: the left half of the image."""
    mask = np.zeros(SIZE[::-1], dtype=bool)
    mask[:, : SIZE[0] // 2] = True
    save_mask(mask, tmp_path / "half.gif")
    return mask


def test_excludes_repairs_and_keeps_the_order(listed, half, data):
    chosen = listed("id,mask", "beta_01.jpg,", "alpha_02.jpg,half.gif", "gamma_03.jpg,")
    samples = load_training_samples(chosen, data)
    corrected = correct_samples(chosen, samples, samples[:6])
    assert [sample.id for sample in corrected] == [s.id for s in samples[:6] if s.id != "beta_01.jpg"]
    repaired = next(sample for sample in corrected if sample.id == "alpha_02.jpg")
    assert np.array_equal(LabelReader(chosen).read_masks(repaired)[0], half)
    assert all(sample in samples for sample in corrected if sample is not repaired)


def test_without_a_list_nothing_changes(competition, data):
    samples = load_training_samples(competition, data)
    assert correct_samples(competition, samples, samples) == samples
    assert fingerprint_repairs(samples, samples) == ""


def test_fingerprint_knows_the_contents_of_repaired_masks(listed, half, data, tmp_path):
    chosen = listed("mask,id", "half.gif,alpha_02.jpg")
    samples = load_training_samples(chosen, data)
    prints = [fingerprint_repairs(samples, correct_samples(chosen, samples, samples)) for _ in range(2)]
    save_mask(~half, tmp_path / "half.gif")
    prints.append(fingerprint_repairs(samples, correct_samples(chosen, samples, samples)))
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("id", "alpha_01.jpg"), "has the columns id instead of id, mask"),
        (("id,mask,class", "alpha_01.jpg,,"), "has the columns id, mask, class instead of id, mask"),
        (("id,mask", "nowhere.jpg,"), "names nowhere.jpg, which is no training image"),
        (("id,mask", "alpha_01.jpg,none.gif"), "line 2 names .*none.gif, which is no file"),
        (("id,mask", "alpha_01.jpg,half.gif", "alpha_01.jpg,"), "excludes and repairs alpha_01.jpg"),
        (("id,mask", "alpha_01.jpg,small.gif"), "names .*small.gif, which is 8×4, but its image is 94×62"),
    ],
)
def test_faulty_lists_are_refused(listed, half, data, tmp_path, lines, message):
    save_mask(np.ones((4, 8), dtype=bool), tmp_path / "small.gif")
    chosen = listed(*lines)
    samples = load_training_samples(chosen, data)
    with pytest.raises(UserError, match=rf"list\.csv: {message}"):
        correct_samples(chosen, samples, samples)


def test_missing_list_is_named(competition, data):
    chosen = changed_competition(competition, masks__corrections="nowhere.csv")
    with pytest.raises(UserError, match=r"nowhere\.csv: cannot be read"):
        correct_samples(chosen, [], [])


@pytest.mark.slow
def test_changed_list_trains_again_and_validation_is_the_same(listed, half, recipe, data, table, tmp_path, caplog):
    run, short = Run(tmp_path / "run"), changed_recipe(recipe, train__epochs=1)
    held_out = []
    for mask in ("", "", "half.gif"):
        chosen = listed("id,mask", f"alpha_02.jpg,{mask}", f"beta_02.jpg,{mask}")
        caplog.clear()
        with caplog.at_level("INFO"):
            assert train_fold(chosen, short, data, table, 0, run)
        held_out.append((read_weights_metadata(run.weights)[1].held_out, "other training images" in caplog.text))
    fingerprint = held_out[0][0]
    assert held_out == [(fingerprint, False), (fingerprint, False), (fingerprint, True)]
