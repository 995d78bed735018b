"""The network that comes along: small, of the recipe it claims, trained on nothing it is tested on, and good."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.competition import load_competition
from pipeline.data.folds import fingerprint_ids
from pipeline.inference.overlay import write_overlays
from pipeline.models.checkpoint import read_weights_metadata
from pipeline.recipe import load_recipe

IN_THE_BOX = sorted(Path("weights").glob("*.safetensors"))


@pytest.mark.parametrize("path", IN_THE_BOX, ids=lambda path: path.stem)
def test_is_what_its_card_says(path):
    assert path.stat().st_size <= 8_000_000
    recipe, origin = read_weights_metadata(path)
    assert path.stem == f"{origin.competition}-{recipe.name}"
    assert not recipe.training_differences(load_recipe(recipe.name)), (
        "the recipe in the repository is the one it was made by"
    )
    assert (origin.fold, origin.held_out) == ("all", fingerprint_ids([]))
    assert origin.commit, "it says what it was made from"
    assert not origin.commit.endswith("+"), "and that is in the repository"
    assert origin.commit in Path("weights/README.md").read_text()


def test_overlay_takes_it_before_any_training():
    command = ["make", "-n", "overlay", "IMG=photo.jpg", "RECIPE=never-trained"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"--weights {IN_THE_BOX[0]}" in printed


def test_cuts_out_real_cars_it_has_not_seen(shared_carvana, tmp_path):
    """A view of each of four test cars; the card promises more on all of them."""
    from PIL import Image

    from pipeline.data.mask_csv import read_mask_csv
    from pipeline.data.rle import rle_to_mask

    carvana = load_competition("carvana")
    truth = {row.id: row.rle for row in read_mask_csv(shared_carvana / str(carvana.csv.solution), carvana.csv.columns)}
    names = sorted(truth)[3::67]
    assert len(names) == 4
    list(write_overlays(IN_THE_BOX[0], [shared_carvana / "test" / name for name in names], tmp_path))
    for name in names:
        mask = np.asarray(Image.open(tmp_path / f"{Path(name).stem}_mask.png")) > 0
        true = rle_to_mask(truth[name], mask.shape)
        dice = 2 * (mask & true).sum() / (mask.sum() + true.sum())
        assert dice > 0.98, name
