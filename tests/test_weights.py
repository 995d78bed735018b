"""The shipped weights: small, made by the recipe of their name, and good on cars they were not trained on."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from pipeline.competition import load_competition
from pipeline.data.folds import fingerprint_ids
from pipeline.data.mask_csv import read_mask_csv
from pipeline.data.rle import rle_to_mask
from pipeline.data.row_format import submission_format
from pipeline.errors import UserError
from pipeline.inference.overlay import write_overlays
from pipeline.models.checkpoint import WeightsMetadata, load_weights, read_weights_metadata
from pipeline.paths import fold_run, recipe_toml, runs_folder
from pipeline.recipe import load_recipe
from pipeline.weights import default_weights
from tests.helpers import SIZE, draw_ellipse

SHIPPED = sorted(Path("weights").resolve().glob("*.safetensors"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_file_is_what_its_card_says(path):
    assert path.stat().st_size <= 10_000_000
    recipe, metadata = read_weights_metadata(path)
    assert path.stem == f"{metadata.competition}-{recipe.name}"
    assert not recipe.training_differences(load_recipe(recipe.name)), "made by the recipe of the repository"
    assert (metadata.fold, metadata.held_out, metadata.score) == ("all", fingerprint_ids([]), "")
    assert re.fullmatch("[0-9a-f]{10}", metadata.commit), "a commit without changes, which would be marked by +"
    card = Path("weights/README.md").read_text()
    assert metadata.commit in card
    assert f"{path.name}`, {path.stat().st_size / 1e6:.1f} MB" in card
    assert f"{int(metadata.epochs) * 1536:,} images seen" in card
    with safe_open(path, framework="pt") as file:
        known = {"recipe", *(field.name for field in fields(WeightsMetadata))}
        assert known - {"image_channels", "split"} <= file.metadata().keys() <= known, "both were added later"
    model, loaded, _ = load_weights(path)
    assert loaded == recipe
    assert not model.training
    assert f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f} M parameters" in card
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_weights_are_shipped_for_carvana():
    assert [path.name for path in SHIPPED] == ["carvana-cpu.safetensors"]


def test_overlay_of_an_image_needs_no_training(tmp_path):
    """In the repository, by a recipe without runs."""
    image, _ = draw_ellipse(np.random.default_rng(0))
    Image.fromarray(image).save(tmp_path / "image.jpg")
    weights = default_weights("carvana", "never-trained")
    assert weights.resolve() in SHIPPED
    list(write_overlays(weights, [tmp_path / "image.jpg"], tmp_path))
    mask = Image.open(tmp_path / "image_mask.png")
    assert (mask.size, set(np.unique(np.asarray(mask))) <= {0, 255}) == (SIZE, True)
    assert Image.open(tmp_path / "image_overlay.jpg").size == SIZE


def test_overlay_uses_own_runs_then_shipped_weights(tmp_path, monkeypatch):
    root = Path().resolve()
    monkeypatch.chdir(tmp_path)
    for name in ("competitions", "weights", "recipes"):
        (tmp_path / name).symlink_to(root / name)
    shipped = Path("weights/carvana-cpu.safetensors")
    for name in ("carvana", "carvana_hq", "demo"):
        assert default_weights(name, "baseline") == shipped, "also where another competition is the base"
    run = fold_run(runs_folder("carvana", "baseline"), 0)
    run.folder.mkdir(parents=True)
    assert default_weights("carvana", "baseline") == shipped, "an unfinished run has no weights"
    run.weights.touch()
    assert default_weights("carvana", "baseline") == runs_folder("carvana", "baseline")
    run.set_aside()
    assert default_weights("carvana", "baseline") == shipped, "a run of another recipe"


def test_trained_recipes_are_named_where_the_asked_one_is_not_trained(tmp_path, monkeypatch):
    root = Path().resolve()
    monkeypatch.chdir(tmp_path)
    for name in ("competitions", "recipes"):
        (tmp_path / name).symlink_to(root / name)
    with pytest.raises(UserError, match=r"runs/nuclei-best: has no weights.* train with `make train`"):
        default_weights("nuclei", "best")
    run = fold_run(runs_folder("nuclei", "cpu"), 1)
    run.folder.mkdir(parents=True)
    run.weights.touch()
    assert recipe_toml("cpu").exists()
    with pytest.raises(UserError, match="set RECIPE to one of the trained recipes: cpu"):
        default_weights("nuclei", "best")


@pytest.mark.slow
def test_real_cars_are_segmented(shared_carvana, tmp_path):
    """One view of each of four test cars; the card promises more on all of them."""
    carvana = load_competition("carvana")
    rows = read_mask_csv(shared_carvana / str(carvana.csv.solution), submission_format(carvana))
    truth = {row.id: row.rle for row in rows}
    names = sorted(truth)[3::67]
    assert len(names) == 4
    for _ in write_overlays(SHIPPED[0], [shared_carvana / "test" / name for name in names], tmp_path):
        pass
    for name in names:
        mask = np.asarray(Image.open(tmp_path / f"{Path(name).stem}_mask.png")) > 0
        true = rle_to_mask(truth[name], mask.shape)
        assert 2 * (mask & true).sum() / (mask.sum() + true.sum()) > 0.98, name
