"""Every network keeps the same contract; losses, metrics and device choices are what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pipeline.training.muon import Muon, orthogonalize

from pipeline.errors import UserError
from pipeline.inference.postprocess import upsample
from pipeline.metrics import (
    NUM_BINS,
    accuracy_by_threshold,
    dice_by_threshold,
    dice_score,
    pixel_accuracy,
    probability_histogram,
)
from pipeline.models.checkpoint import WeightsMetadata, load_checkpoint, load_weights, save_weights
from pipeline.models.device import choose_device
from pipeline.models.unet import UNet
from pipeline.models.zoo import build_model, count_parameters
from pipeline.recipe import LossConfig, Recipe, SMPConfig, UNetConfig
from pipeline.training.losses import SegmentationLoss, edge_weight

NETWORKS = {
    "unet": UNetConfig(name="unet", width=4, depth=3),
    "unet-transpose": UNetConfig(name="unet", width=4, depth=2, up="transpose", norm="none"),
    "unet-group": UNetConfig(name="unet", width=6, depth=2, norm="group", max_width=8),
    "unet-stem-2": UNetConfig(name="unet", width=4, depth=2, stem=2),
    "unet-stem-4": UNetConfig(name="unet", width=4, depth=1, stem=4),
    "zoo-fpn": SMPConfig(name="FPN", encoder="resnet18"),
    "zoo-unet": SMPConfig(name="Unet", encoder="resnet18", options={"decoder_channels": [32, 16, 8, 8, 4]}),
}


@pytest.mark.parametrize("name", NETWORKS)
class TestContract:
    """What holds for every architecture."""

    @pytest.fixture
    def network(self, name):
        torch.manual_seed(0)
        return build_model(NETWORKS[name]).eval()

    @pytest.mark.parametrize("size", [(64, 96), (67, 95), (33, 31)])
    def test_any_size(self, network, size):
        image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
        logits = network(image)
        assert logits.shape == (2, 1, *size)
        assert logits.isfinite().all()

    def test_learns_one_picture(self, network, name):
        torch.manual_seed(1)
        image = torch.randint(0, 100, (2, 3, 64, 64), dtype=torch.uint8)
        target = torch.zeros(2, 1, 64, 64)
        target[:, :, 16:48, 20:44] = 1
        image[:, :, 16:48, 20:44] += 100
        optimizer, loss = torch.optim.Adam(network.train().parameters(), 0.01), SegmentationLoss(LossConfig())
        losses = []
        for _ in range(60):
            value = loss(network(image), target)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        assert losses[-1] < 0.65 * losses[0]

    def test_every_parameter_gets_a_gradient(self, network, name):
        network(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).square().mean().backward()
        without = [key for key, value in network.named_parameters() if value.grad is None]
        # FPN and others of the zoo may leave parts of an encoder unused; ours has no such parts.
        assert not without or name.startswith("zoo")

    def test_weights_survive_the_disk(self, network, name, tmp_path, recipe):
        kind = Recipe.model_validate(recipe.model_dump() | {"network": NETWORKS[name].model_dump()})
        origin = WeightsMetadata("tiny", "0", "abc", "1", "0.9", "", torch.__version__)
        save_weights(tmp_path / "w.safetensors", network, kind, origin)
        loaded, read_recipe, read_origin = load_weights(tmp_path / "w.safetensors")
        image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
        assert torch.equal(loaded(image), network(image))
        assert (read_recipe, read_origin) == (kind, origin)

    def test_channels_last_and_bf16_agree_with_float32(self, network):
        image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
        expected = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            other = network.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
        assert (other.float() - expected).abs().mean() < 0.1 * expected.abs().mean() + 0.02


def test_seed_unet_has_the_known_number_of_parameters():
    """64-1024 with transposed convolutions; convolutions before a normalisation have no bias."""
    network = UNet(UNetConfig(name="unet", width=64, depth=4, up="transpose"))
    assert count_parameters(network) == 31_037_633


def test_unknown_architecture_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'Unit' is not one of unet, .*Unet"):
        build_model(SMPConfig(name="Unit"))
    with pytest.raises(UserError, match="cannot be built with encoder 'resnet9000'"):
        build_model(SMPConfig(name="Unet", encoder="resnet9000"))


def test_encoder_weights_come_from_a_file(tmp_path):
    from safetensors.torch import save_file

    donor = build_model(SMPConfig(name="Unet", encoder="resnet18"))
    save_file(donor.network.network.encoder.state_dict(), tmp_path / "encoder.safetensors")
    taker = build_model(SMPConfig(name="FPN", encoder="resnet18", encoder_weights=tmp_path / "encoder.safetensors"))
    assert torch.equal(donor.network.network.encoder.conv1.weight, taker.network.network.encoder.conv1.weight)
    with pytest.raises(UserError, match=r"encoder\.safetensors: does not hold weights of this encoder"):
        build_model(SMPConfig(name="FPN", encoder="resnet34", encoder_weights=tmp_path / "encoder.safetensors"))


class TestMuon:
    """The iteration does what the exact decomposition says, and only matrices go through it."""

    @pytest.mark.parametrize("shape", [(8, 8), (4, 36), (64, 9)])
    def test_singular_values_become_alike(self, shape):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
        left, values, right = torch.linalg.svd(orthogonalize(matrix), full_matrices=False)
        assert 0.4 < values.min() <= values.max() < 1.3
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert ((left @ right) - (u @ v)).abs().max() < 0.05, "the nearest orthogonal matrix"

    def test_zeros_stay_zeros(self):
        assert not orthogonalize(torch.zeros(3, 5)).any()

    def test_steps_are_as_large_as_adams(self):
        """One learning rate serves both kinds: the root-mean-square of a step is 0.2 of it, whatever the size."""
        network = torch.nn.Sequential(torch.nn.Conv2d(16, 32, 3), torch.nn.Conv2d(32, 64, 1), torch.nn.Conv2d(64, 1, 1))
        before = [layer.weight.detach().clone() for layer in network]
        optimizer = Muon(network, lr=0.01, weight_decay=0.0)
        for weight in network.parameters():
            weight.grad = torch.randn_like(weight)
        optimizer.step()
        for layer, old in list(zip(network, before, strict=True))[:2]:
            assert 0.0014 < (layer.weight - old).square().mean().sqrt() < 0.0026
        assert (network[2].weight - before[2]).abs().mean().item() == pytest.approx(0.01, rel=0.01), (
            "the last layer: Adam"
        )

    def test_a_unet_learns_faster_than_with_adam(self):
        """The reason to have it, in small: squares to be found among stripes, thirty steps."""

        def loss_after(make) -> float:
            torch.manual_seed(0)
            image, target = torch.randint(0, 120, (4, 3, 64, 64)).float(), torch.zeros(4, 1, 64, 64)
            image[:, :, ::8] += 60
            for number in range(4):
                target[number, :, 8 * number : 8 * number + 30, 16:48] = 1
            image += 40 * target
            network, loss = UNet(UNetConfig(name="unet", width=8, depth=2)).train(), SegmentationLoss(LossConfig())
            optimizer = make(network)
            for _ in range(30):
                value = loss(network(image / 128 - 1), target)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
            return value.item()

        rates = (0.003, 0.01, 0.03)
        adam = min(loss_after(lambda net, lr=lr: torch.optim.Adam(net.parameters(), lr)) for lr in rates)
        ours = min(loss_after(lambda net, lr=lr: Muon(net, lr, 0.0)) for lr in rates)
        assert ours < 0.9 * adam


class TestEdges:
    TARGET = torch.zeros(2, 1, 32, 48)
    TARGET[:, :, 8:24, 12:36] = 1

    def test_edges_count_more_and_the_mean_stays(self):
        weight = edge_weight(self.TARGET, 3.0)
        assert weight.mean() == pytest.approx(1, abs=1e-5)
        assert weight[0, 0, 16, 12] / weight[0, 0, 16, 24] == pytest.approx(4, rel=0.1)
        assert weight[0, 0, 0, 0] == weight[0, 0, 16, 24] == weight.min()

    def test_an_error_on_the_edge_costs_more(self):
        plain, edges = SegmentationLoss(LossConfig(dice=0)), SegmentationLoss(LossConfig(dice=0, boundary=5))
        logits = (self.TARGET * 2 - 1) * 8
        on_edge, inside = logits.clone(), logits.clone()
        on_edge[:, :, 16, 12] *= -1
        inside[:, :, 16, 24] *= -1
        assert plain(on_edge, self.TARGET) == pytest.approx(plain(inside, self.TARGET).item(), rel=1e-4)
        assert edges(on_edge, self.TARGET) > 3 * edges(inside, self.TARGET)


class TestCheckpoint:
    """What is read is proved."""

    def test_missing(self, tmp_path):
        with pytest.raises(UserError, match="no such file; train it"):
            load_weights(tmp_path / "w.safetensors")

    def test_cut_off(self, tmp_path, recipe):
        path = tmp_path / "w.safetensors"
        origin = WeightsMetadata("tiny", "0", "abc", "1", "0.9", "", "")
        save_weights(path, build_model(recipe.network), recipe, origin)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(UserError, match="not a whole safetensors file"):
            load_weights(path)

    def test_of_others(self, tmp_path):
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
        with pytest.raises(UserError, match="says nothing of its"):
            load_weights(tmp_path / "w.safetensors")

    def test_of_another_network(self, tmp_path, recipe):
        other = recipe.model_copy(update={"network": UNetConfig(name="unet", width=16, depth=2)})
        origin = WeightsMetadata("tiny", "0", "abc", "1", "0.9", "", "")
        save_weights(tmp_path / "w.safetensors", build_model(recipe.network), other, origin)
        with pytest.raises(UserError, match="do not fit its recipe"):
            load_weights(tmp_path / "w.safetensors")

    def test_state_cannot_run_code(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (print, ("ran",))

        torch.save({"a": Evil()}, tmp_path / "checkpoint.pt")
        with pytest.raises(UserError, match="cannot be read"):
            load_checkpoint(tmp_path / "checkpoint.pt")


class TestLoss:
    def test_agrees_with_the_formula(self):
        logits, target = torch.randn(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) > 0.5).float()
        p = logits.sigmoid()
        bce = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
        dice = 1 - 2 * (p * target).sum() / (p.sum() + target.sum())
        assert SegmentationLoss(LossConfig(bce=1, dice=0))(logits, target) == pytest.approx(bce.item(), abs=1e-5)
        assert SegmentationLoss(LossConfig(bce=0, dice=2))(logits, target) == pytest.approx(2 * dice.item(), abs=1e-5)

    def test_half_precision_does_not_overflow(self):
        """Sums over a 1280×1918 picture pass the largest fp16 number by far."""
        logits = torch.full((1, 1, 1280, 1918), 9.0, dtype=torch.float16)
        assert SegmentationLoss(LossConfig())(logits, torch.ones_like(logits)).item() < 0.01


class TestMetrics:
    @given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
    def test_dice_by_definition(self, pixels):
        mask, truth = (torch.tensor(column) for column in zip(*pixels, strict=True))
        both, total = sum(a and b for a, b in pixels), sum(a + b for a, b in pixels)
        assert dice_score(mask, truth) == pytest.approx(2 * both / total if total else 1)

    def test_empty_masks(self):
        empty, full = torch.zeros(4, 4, dtype=bool), torch.ones(4, 4, dtype=bool)
        assert dice_score(empty, empty) == 1
        assert dice_score(empty, full) == 0
        assert dice_score(full, full) == 1

    @pytest.mark.parametrize("fill", [None, True, False])
    def test_every_threshold_at_once(self, fill):
        """The histogram gives what cutting at each threshold would."""
        torch.manual_seed(0)
        probability = torch.rand(37, 41)
        probability[0, :3] = torch.tensor([0.0, 0.5, 1.0])
        truth = torch.rand(37, 41) > 0.4 if fill is None else torch.full((37, 41), fill)
        counts = probability_histogram(probability, truth)
        assert counts.sum() == truth.numel()
        dice, accuracy = dice_by_threshold(counts), accuracy_by_threshold(counts)
        for level in (1, 64, 128, 255):
            mask = probability >= level / NUM_BINS
            assert dice[level] == pytest.approx(dice_score(mask, truth))
            assert accuracy[level] == pytest.approx(pixel_accuracy(mask, truth))

    def test_enlarging_keeps_constants_and_size(self):
        assert upsample(torch.full((1, 1, 7, 9), 0.3), (20, 31)).shape == (1, 1, 20, 31)
        assert upsample(torch.full((1, 1, 7, 9), 0.3), (20, 31)).unique() == pytest.approx(0.3)

    def test_soft_enlarging_beats_hard(self):
        """The reason for the order of enlarging and cutting, on a disc."""
        y, x = np.mgrid[:256, :256]
        truth = torch.from_numpy((x - 130) ** 2 + (y - 120) ** 2 < 80**2)
        soft = torch.nn.functional.avg_pool2d(truth.float()[None, None], 4)
        late = upsample(soft, (256, 256))[0, 0] >= 0.5
        early = upsample((soft >= 0.5).float(), (256, 256))[0, 0] >= 0.5
        assert dice_score(late, truth) > dice_score(early, truth)


class TestDevice:
    def test_old_gpus_get_scaled_fp16(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
        chosen = choose_device()
        assert (chosen.precision, chosen.needs_grad_scaler) == ("fp16", True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
        assert choose_device().precision == "bf16"
        assert choose_device("float32").precision == "float32"

    def test_reason_is_logged(self, caplog):
        with caplog.at_level("INFO"):
            choose_device("float32")
        assert "the recipe asks for it" in caplog.text or "no bf16" in caplog.text

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
    def test_fp16_needs_a_gpu(self):
        with pytest.raises(UserError, match="fp16 needs a CUDA device"):
            choose_device("fp16")
