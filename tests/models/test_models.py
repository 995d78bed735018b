"""Every architecture keeps the same contract."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.errors import UserError
from pipeline.models.checkpoint import (
    WeightsMetadata,
    fingerprint_weights,
    load_checkpoint,
    load_weights,
    read_weights_metadata,
    save_weights,
)
from pipeline.models.classes import SINGLE_CLASS, Classes
from pipeline.models.ema import update_ema
from pipeline.models.fuse import fuse_batch_norms
from pipeline.models.zoo import MEAN, STD, build_model
from pipeline.recipe import Recipe, SMPConfig, UNetConfig
from tests.helpers import changed_recipe

NETWORKS = {
    "unet": UNetConfig(name="unet", width=4, depth=3),
    "unet-transpose": UNetConfig(name="unet", width=4, depth=2, up="transpose", norm="none"),
    "unet-group": UNetConfig(name="unet", width=6, depth=2, norm="group", max_width=8),
    "unet-stem-2": UNetConfig(name="unet", width=4, depth=2, stem=2),
    "unet-stem-4": UNetConfig(name="unet", width=4, depth=1, stem=4),
    "smp-fpn": SMPConfig(name="FPN", encoder="resnet18"),
    "smp-unet": SMPConfig(name="Unet", encoder="resnet18", options={"decoder_channels": [32, 16, 8, 8, 4]}),
}
CLASSES = Classes(("a", "b", "c"), exclusive=True)


def metadata(**changes) -> WeightsMetadata:
    values = {
        "competition": "tiny",
        "fold": "0",
        "held_out": "abc",
        "epochs": "1",
        "score": "0.9",
        "commit": "",
        "torch": "",
    }
    return WeightsMetadata(**(values | changes))


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
class TestContract:
    """Properties of every architecture."""

    @pytest.fixture
    def model(self, name):
        torch.manual_seed(0)
        return build_model(NETWORKS[name]).eval()

    @pytest.mark.parametrize("size", [(64, 96), (67, 95), (33, 31)])
    def test_logits_have_the_size_of_the_image(self, model, size):
        logits = model(images(2, 3, *size))
        assert logits.shape == (2, 1, *size)
        assert logits.isfinite().all()

    @pytest.mark.slow
    def test_logits_have_a_channel_per_class(self, name):
        model = build_model(NETWORKS[name], CLASSES).eval()
        logits = model(images(1, 3, 32, 64))
        assert logits.shape == (1, 4, 32, 64)
        probabilities = CLASSES.probabilities(logits)
        assert probabilities.shape == (1, 3, 32, 64)
        assert (probabilities.sum(dim=1) <= 1 + 1e-5).all()

    def test_every_parameter_gets_a_gradient(self, model, name):
        model(images(2, 3, 64, 64)).square().mean().backward()
        without = [key for key, value in model.named_parameters() if value.grad is None]
        # Some architectures of the library leave parts of an encoder unused.
        assert not without or name.startswith("smp")

    def test_saved_weights_load_to_the_same_model(self, model, name, tmp_path, recipe):
        other = Recipe.model_validate(recipe.model_dump() | {"network": NETWORKS[name].model_dump()})
        save_weights(tmp_path / "w.safetensors", model, other, metadata())
        loaded, loaded_recipe, loaded_metadata = load_weights(tmp_path / "w.safetensors")
        assert torch.equal(loaded(images(1, 3, 40, 50)), model(images(1, 3, 40, 50)))
        assert (loaded_recipe, loaded_metadata) == (other, metadata())
        assert not loaded.training

    def test_fused_batch_norms_change_only_the_rounding(self, model, name):
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.running_mean, -1, 1)
                nn.init.uniform_(layer.running_var, 0.5, 2)
        with torch.no_grad():
            expected = model(images(1, 3, 64, 96))
            fuse_batch_norms(model)
            torch.testing.assert_close(model(images(1, 3, 64, 96)), expected, rtol=1e-3, atol=1e-4)
        left = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        assert not left or name.startswith("smp"), "encoders of the library are no sequences of layers"

    def test_channels_last_and_bf16_agree_with_float32(self, model):
        image = images(1, 3, 64, 64)
        expected = model(image)
        with torch.autocast("cpu", torch.bfloat16):
            other = model.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
        assert (other.float() - expected).abs().mean() < 0.1 * expected.abs().mean() + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_learns_one_image(name):
    torch.manual_seed(1)
    model = build_model(NETWORKS[name]).train()
    image, target = torch.randint(0, 100, (2, 3, 64, 64), dtype=torch.uint8), torch.zeros(2, 1, 64, 64)
    target[:, :, 16:48, 20:44] = 1
    image[:, :, 16:48, 20:44] += 100
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.01), []
    for _ in range(20 if name.startswith("smp") else 60):
        value = F.binary_cross_entropy_with_logits(model(image), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.5 * losses[0]


def test_input_is_normalized_by_the_constants():
    model = build_model(NETWORKS["unet"])
    model.network = nn.Identity()
    pixel = torch.tensor([10, 200, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [(value - mean) / std for value, mean, std in zip((10, 200, 255), MEAN, STD, strict=True)]
    assert model(pixel).flatten().tolist() == pytest.approx(expected, rel=1e-5)
    assert not any("mean" in key or "std" in key for key in model.state_dict())


def test_unknown_architecture_and_encoder_are_named():
    with pytest.raises(UserError, match=r"network.name: there is no architecture 'Unit'; choose one of unet, .*Unet"):
        build_model(SMPConfig(name="Unit"))
    with pytest.raises(UserError, match="cannot be built with encoder 'resnet9000'"):
        build_model(SMPConfig(name="Unet", encoder="resnet9000"))


@pytest.mark.slow
def test_encoder_weights_are_loaded_from_a_file(tmp_path):
    from safetensors.torch import save_file

    donor = build_model(SMPConfig(name="Unet", encoder="resnet18"))
    save_file(donor.network.network.encoder.state_dict(), tmp_path / "encoder.safetensors")
    receiver = build_model(SMPConfig(name="FPN", encoder="resnet18", encoder_weights=tmp_path / "encoder.safetensors"))
    assert torch.equal(donor.network.network.encoder.conv1.weight, receiver.network.network.encoder.conv1.weight)
    with pytest.raises(UserError, match=r"encoder\.safetensors: does not hold weights of this encoder"):
        build_model(SMPConfig(name="FPN", encoder="resnet34", encoder_weights=tmp_path / "encoder.safetensors"))


class TestClasses:
    def test_single_class_is_a_sigmoid(self):
        logits = torch.randn(2, 1, 3, 3, dtype=torch.bfloat16)
        assert torch.equal(SINGLE_CLASS.probabilities(logits), logits.float().sigmoid())
        assert (SINGLE_CLASS.count, SINGLE_CLASS.channels) == (1, 1)

    def test_exclusive_classes_leave_out_the_background(self):
        logits = torch.randn(2, 4, 3, 3)
        assert torch.equal(CLASSES.probabilities(logits), logits.softmax(dim=1)[:, 1:])
        assert (CLASSES.count, CLASSES.channels) == (3, 4)

    def test_classes_are_saved_with_the_weights(self, tmp_path, recipe):
        model = build_model(recipe.network, CLASSES)
        saved = metadata(classes='["a", "b", "c"]', exclusive="yes")
        save_weights(tmp_path / "w.safetensors", model, recipe, saved)
        loaded, _, read = load_weights(tmp_path / "w.safetensors")
        assert read.model_classes() == CLASSES
        assert loaded(images(1, 3, 16, 16)).shape[1] == 4


class TestWeightsFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(UserError, match="no such file; train it with `make train`"):
            load_weights(tmp_path / "w.safetensors")

    def test_truncated(self, tmp_path, recipe):
        path = tmp_path / "w.safetensors"
        save_weights(path, build_model(recipe.network), recipe, metadata())
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(UserError, match="is not a complete safetensors file"):
            load_weights(path)

    def test_from_elsewhere(self, tmp_path):
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
        with pytest.raises(UserError, match=r"has no commit, .*, recipe, score, torch in its metadata"):
            load_weights(tmp_path / "w.safetensors")

    def test_of_another_network(self, tmp_path, recipe):
        other = recipe.model_copy(update={"network": UNetConfig(name="unet", width=16, depth=2)})
        save_weights(tmp_path / "w.safetensors", build_model(recipe.network), other, metadata())
        with pytest.raises(UserError, match="do not fit its recipe"):
            load_weights(tmp_path / "w.safetensors")

    def test_metadata_is_read_without_the_weights(self, tmp_path, recipe):
        path = tmp_path / "w.safetensors"
        save_weights(path, build_model(recipe.network), recipe, metadata(fold="all"))
        assert read_weights_metadata(path) == (recipe, metadata(fold="all"))

    def test_two_saves_are_equal_in_every_byte(self, tmp_path, recipe):
        model = build_model(recipe.network)
        contents = set()
        for number in range(5):
            save_weights(tmp_path / f"{number}.safetensors", model, recipe, metadata())
            contents.add((tmp_path / f"{number}.safetensors").read_bytes())
        assert len(contents) == 1
        assert int.from_bytes(contents.pop()[:8], "little") % 8 == 0, "the tensors are aligned"

    @pytest.mark.slow
    def test_saves_of_two_processes_are_equal_in_every_byte(self, tmp_path, recipe):
        save_weights(tmp_path / "w.safetensors", build_model(recipe.network), recipe, metadata())
        code = (
            "import sys; from pathlib import Path; from pipeline.models.checkpoint import load_weights, save_weights;"
            "save_weights(Path(sys.argv[2]), *load_weights(Path(sys.argv[1])))"
        )
        files = (str(tmp_path / "w.safetensors"), str(tmp_path / "again.safetensors"))
        environment = {**os.environ, "PYTHONHASHSEED": "1"}  # this process has another one
        subprocess.run([sys.executable, "-c", code, *files], env=environment, check=True)
        assert Path(files[1]).read_bytes() == Path(files[0]).read_bytes()

    def test_fingerprint_is_that_of_the_model_not_of_its_training(self, tmp_path, recipe):
        path, model = tmp_path / "w.safetensors", build_model(recipe.network)

        def fingerprint(model, recipe, metadata):
            save_weights(path, model, recipe, metadata)
            return fingerprint_weights(path)

        first = fingerprint(model, recipe, metadata())
        assert fingerprint(model, recipe, metadata(commit="later", torch="9", epochs="2", score="0.8")) == first
        assert fingerprint(model, changed_recipe(recipe, train__epochs=99), metadata()) == first
        others = [
            fingerprint(model, changed_recipe(recipe, input__size=(96, 48)), metadata()),
            fingerprint(model, recipe, metadata(classes='["a", "b"]')),
            fingerprint(build_model(recipe.network), recipe, metadata()),
        ]
        assert len({first, *others}) == 4

    def test_checkpoints_cannot_run_code(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (print, ("ran",))

        torch.save({"a": Evil()}, tmp_path / "checkpoint.pt")
        with pytest.raises(UserError, match="cannot be read"):
            load_checkpoint(tmp_path / "checkpoint.pt")


class TestEma:
    def averaged(self, steps: int, decay: float) -> list[float]:
        """The average after each step of a weight that is 1, 2, 3, ..."""
        model, ema_model = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        values = []
        for step in range(steps):
            model.weight.data.fill_(step + 1.0)
            update_ema(ema_model, model, step, decay)
            values.append(ema_model.weight.item())
        return values

    def test_first_step_copies_and_the_decay_rises_to_its_value(self):
        decays = [0.0, *(min(0.5, (1 + step) / (10 + step)) for step in range(1, 30))]
        expected, average = [], 0.0
        for step, decay in enumerate(decays):
            average = decay * average + (1 - decay) * (step + 1)
            expected.append(average)
        assert self.averaged(30, 0.5) == pytest.approx(expected, rel=1e-5)
        assert decays[-1] == 0.5

    def test_statistics_are_averaged_and_counters_copied(self):
        model, ema_model = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
        for step in range(3):
            model.train()(torch.randn(8, 2) + 3)
            update_ema(ema_model, model, step, 0.9)
        assert ema_model.num_batches_tracked == model.num_batches_tracked == 3
        assert 0 < ema_model.running_mean[0] < model.running_mean[0]
