"""An export predicts the masks of the model, whatever the network, batch and size; other files are refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import UserError
from pipeline.inference import export
from pipeline.inference.export import export_model
from pipeline.inference.exported import ExportedEnsemble
from pipeline.inference.overlay import write_overlays
from pipeline.models.checkpoint import WeightsMetadata, save_weights
from pipeline.models.classes import Classes
from pipeline.models.refined import build_recipe_model
from pipeline.models.zoo import build_model
from pipeline.options import parse_flips
from tests.helpers import SIZE, changed_recipe

onnxruntime = pytest.importorskip("onnxruntime", reason="the packages of requirements-export.txt are not installed")
pytest.importorskip("onnxscript", reason="the packages of requirements-export.txt are not installed")
pytestmark = pytest.mark.slow

NETWORKS = {
    "unet": ({"name": "unet", "width": 4, "depth": 2}, Classes()),
    "stem, bilinear, group": (
        {"name": "unet", "width": 8, "depth": 2, "stem": 2, "up": "bilinear", "norm": "group"},
        Classes(("a", "b")),
    ),
    "smp": ({"name": "Unet", "encoder": "resnet18"}, Classes(("a", "b", "c"), exclusive=True)),
}


def save_random(path, recipe, network, classes, seed=0):
    """Write weights whose probabilities are far from the threshold, as those of a trained model are."""
    torch.manual_seed(seed)
    changed = changed_recipe(recipe, network=network)
    model = build_model(changed.network, classes)
    names, exclusive = json.dumps(classes.names), "yes" if classes.exclusive else ""
    metadata = WeightsMetadata("tiny", str(seed), "", "1", "0.9", "abc", torch.__version__, names, exclusive)
    save_weights(path, model, changed, metadata)
    return path


@pytest.fixture
def images(data):
    return sorted((data / "test").glob("*.jpg"))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("flips", [("none",), ("none", "horizontal", "both")], ids=len)
def test_any_network_batch_and_size(recipe, images, tmp_path, name, flips):
    source = save_random(tmp_path / "weights.safetensors", recipe, *NETWORKS[name])
    out, program, card = export_model(source, images, tmp_path / "x.onnx", flips)
    session, loaded = onnxruntime.InferenceSession(out), torch.export.load(program).module()
    module = ExportedEnsemble(*module_parts(source, flips)).eval()
    for shape in ((1, 3, 48, 64), (3, 3, 131, 77), (2, 3, 300, 421), (1, 3, 20, 30)):
        batch = torch.randint(0, 256, shape, dtype=torch.uint8)
        with torch.inference_mode():
            expected = module(batch)
            torch.testing.assert_close(loaded(batch), expected, atol=1e-4, rtol=0)
        (probability,) = session.run(None, {"image": batch.numpy()})
        assert probability.dtype == np.float32
        assert probability.shape == (shape[0], NETWORKS[name][1].count, *shape[2:])
        assert 0 <= probability.min() <= probability.max() <= 1
        torch.testing.assert_close(torch.from_numpy(probability), expected, atol=1e-4, rtol=0)
    assert f"| flips | {', '.join(flips)}" in card.read_text()


def test_second_stage_is_exported(recipe, images, tmp_path):
    """`export_model` compares with the model, which on a CPU corrects a window only."""
    network = {"name": "unet", "width": 4, "depth": 1, "stem": 2}
    refine = {"size": SIZE, "network": network, "tile": 32, "epochs": 1, "batch_size": 1, "learning_rate": 1.0}
    changed = changed_recipe(recipe, refine=refine)
    torch.manual_seed(0)
    model = build_recipe_model(changed)
    torch.nn.init.normal_(model.refiner.network.head.weight, std=0.3)
    metadata = WeightsMetadata("tiny", "0", "", "1", "0.9", "abc", torch.__version__)
    save_weights(tmp_path / "weights.safetensors", model, changed, metadata)
    out, *_ = export_model(tmp_path / "weights.safetensors", images, tmp_path / "x.onnx", ["none"])
    list(write_overlays(out, images, tmp_path / "onnx"))
    list(write_overlays(tmp_path / "weights.safetensors", images, tmp_path / "weights"))
    for image in images:
        pair = [np.asarray(Image.open(tmp_path / name / f"{image.stem}_mask.png")) for name in ("onnx", "weights")]
        assert (pair[0] != pair[1]).mean() <= 1e-4


def module_parts(source, flips):
    from pipeline.models.checkpoint import load_weights

    model, recipe, metadata = load_weights(source)
    return [model], flips, metadata.model_classes(), recipe.input.size


def test_overlay_with_the_folds_in_an_onnx_file_equals_that_with_weights(trained, images, data, tmp_path):
    out, *_ = export_model(trained, images, tmp_path / "tiny.onnx")
    strings = onnxruntime.InferenceSession(out).get_modelmeta().custom_metadata_map
    assert json.loads(strings["folds"]) == ["0", "1"]
    assert json.loads(strings["flips"]) == ["none", "horizontal"]
    for source, name in ((out, "onnx"), (trained, "weights")):
        list(write_overlays(source, [data / "test"], tmp_path / name))
    for image in images:
        pair = [np.asarray(Image.open(tmp_path / name / f"{image.stem}_mask.png")) for name in ("onnx", "weights")]
        assert (pair[0] != pair[1]).mean() <= 1e-4
        assert pair[0].any()
        assert (tmp_path / "onnx" / f"{image.stem}_overlay.jpg").exists()


def test_export_that_predicts_other_masks_leaves_no_file(trained, images, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="its masks differ from the model's in"):
        export_model(trained, images, tmp_path / "out" / "x.onnx")
    assert not list((tmp_path / "out").iterdir())


def test_other_onnx_files_are_refused(trained, images, data, tmp_path):
    import onnx

    out, *_ = export_model(trained, images, tmp_path / "x.onnx", ("none",))
    foreign = onnx.load(out)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    (tmp_path / "damaged.onnx").write_bytes(out.read_bytes()[:-1000])
    for name, what in (
        ("foreign", "was not exported by this pipeline; write it with `make export`"),
        ("damaged", "cannot be read"),
        ("missing", "no such file"),
    ):
        with pytest.raises(UserError, match=what):
            list(write_overlays(tmp_path / f"{name}.onnx", [data / "test"], tmp_path / "overlays"))


def test_missing_package_is_named_with_its_requirements(trained, images, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r"onnx: is not installed; install the packages of requirements-export\.txt"):
        export_model(trained, images, tmp_path / "x.onnx")


def test_flips_are_parsed():
    assert parse_flips("") is None
    assert parse_flips("none horizontal") == ("none", "horizontal")
    for text in ("left", "none none"):
        with pytest.raises(UserError, match="is not a list of flips"):
            parse_flips(text)
