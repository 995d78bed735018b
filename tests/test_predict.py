"""Prediction: means are means, rows are exact, interrupted work goes on."""

import csv
import gzip
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.data.rle import rle_to_mask
from pipeline.data.samples import load_test_samples, load_training_samples
from pipeline.errors import UserError
from pipeline.inference import stream
from pipeline.inference.ensemble import Ensemble, EnsembleMember, choose_prediction_device, load_ensemble_member
from pipeline.inference.overlay import list_images, write_overlays
from pipeline.inference.spool import RowSpool
from pipeline.inference.stream import (
    Prediction,
    decode_image,
    predict_probabilities,
    predict_rows,
    prefetch,
    read_bytes,
)
from pipeline.inference.submission import submission_samples, write_submission
from pipeline.inference.tta import flip
from pipeline.metrics import dice_score
from pipeline.models.checkpoint import WeightsMetadata, save_weights
from pipeline.models.device import ComputeDevice, choose_device
from pipeline.models.zoo import build_model
from pipeline.paths import find_weights, fold_run

CPU = ComputeDevice(torch.device("cpu"), "float32", "test")


class Redness(nn.Module):
    """Knows the tiny competition without training: red is object."""

    def forward(self, image):
        return (image[:, :1].float() - image[:, 2:].float()) / 20


class Constant(nn.Module):
    """The same logit everywhere."""

    def __init__(self, logit):
        super().__init__()
        self.logit = logit

    def forward(self, image):
        return torch.full_like(image[:, :1], self.logit, dtype=torch.float32)


class Slope(nn.Module):
    """A network that is not symmetric: more to the right and to the bottom, whatever the picture."""

    def forward(self, image):
        height, width = image.shape[-2:]
        ramp = torch.linspace(-1, 1, width)[None] + 3 * torch.linspace(-1, 1, height)[:, None]
        return ramp.expand(len(image), 1, height, width)


IMAGES = torch.randint(0, 256, (3, 3, 20, 30), dtype=torch.uint8)


class TestEnsemble:
    @pytest.mark.parametrize("how", ["none", "horizontal", "vertical", "both"])
    def test_a_flip_undoes_itself(self, how):
        assert torch.equal(flip(flip(IMAGES, how), how), IMAGES)
        assert (how == "none") == torch.equal(flip(IMAGES, how), IMAGES)

    def test_without_flips_it_is_the_network(self):
        expected = Redness()(IMAGES).sigmoid()
        assert torch.allclose(Ensemble([Redness()], ["none"], CPU)(IMAGES), expected)

    def test_flips_of_a_symmetric_network_change_nothing(self):
        expected = Redness()(IMAGES).sigmoid()
        for flips in (["horizontal"], ["vertical"], ["both"], ["none", "horizontal", "vertical", "both"]):
            assert torch.allclose(Ensemble([Redness()], flips, CPU)(IMAGES), expected)

    def test_predictions_are_turned_back(self):
        once = Ensemble([Slope()], ["none"], CPU)(IMAGES)
        mirrored = Ensemble([Slope()], ["horizontal"], CPU)(IMAGES)
        assert torch.allclose(mirrored, once.flip(-1))
        both = Ensemble([Slope()], ["none", "horizontal"], CPU)(IMAGES)
        assert torch.allclose(both, both.flip(-1), atol=1e-6)

    def test_mean_of_probabilities_not_of_logits(self):
        mean = Ensemble([Constant(0.0), Constant(20.0)], ["none"], CPU)(IMAGES)
        assert mean.unique().item() == pytest.approx(0.75)


class TestStream:
    def test_order_and_native_size(self, competition, data, recipe):
        samples = load_test_samples(competition, data) + load_training_samples(competition, data)
        results = list(
            predict_probabilities([EnsembleMember(Ensemble([Redness()], ["none"], CPU), recipe)], samples, competition)
        )
        assert [item.sample for item in results] == samples
        assert {item.mean().shape for item in results} == {(62, 94)}
        scored = [item for item in results if item.truth is not None]
        assert len(scored) == 12
        for item in scored:
            assert dice_score(item.mean() >= 0.5, torch.from_numpy(item.truth)) > 0.95

    def test_rows_are_the_masks(self, competition, data, recipe):
        samples = load_test_samples(competition, data)
        members = [EnsembleMember(Ensemble([Redness()], ["none", "horizontal"], CPU), recipe)]
        for order in ("row", "column"):
            other = competition.model_copy(update={"csv": competition.csv.model_copy(update={"order": order})})
            rows = list(predict_rows(members, samples, other, threshold=0.4))
            predicted = predict_probabilities(members, samples)
            for (name, text), item in zip(rows, predicted, strict=True):
                assert name == item.sample.id
                assert np.array_equal(rle_to_mask(text, (62, 94), order), (item.mean() >= 0.4).numpy())

    def test_members_of_two_input_sizes(self, competition, data, recipe, small):
        """The weighted mean of two streams at native size, from one pass."""
        samples = load_test_samples(competition, data) + load_training_samples(competition, data)
        one = EnsembleMember(Ensemble([Redness()], ["none", "horizontal"], CPU), recipe)
        other = EnsembleMember(Ensemble([Slope()], ["none"], CPU), small)
        apart = [[item.mean() for item in predict_probabilities([member], samples)] for member in (one, other)]
        together = list(predict_probabilities([one, other], samples))
        assert [item.sample for item in together] == samples
        for item, first, second in zip(together, *apart, strict=True):
            assert torch.allclose(item.mean([0.75, 0.25]), 0.75 * first + 0.25 * second, atol=1e-6)
            assert torch.allclose(item.mean(), (first + second) / 2, atol=1e-6)
            assert torch.equal(item.mean([0.0, 1.0]), second)
        rows = dict(predict_rows([one, other], samples, competition, 0.4, [0.75, 0.25]))
        for item in together:
            mask = rle_to_mask(rows[item.sample.id], (62, 94))
            assert np.array_equal(mask, (item.mean([0.75, 0.25]) >= 0.4).numpy())

    def test_a_mean_of_certainties_is_no_more_than_certain(self):
        sure = Prediction(None, (torch.ones(2, 3),) * 3, None)
        assert sure.mean([0.3, 0.6, 0.1 + 1e-6]).max() <= 1

    def test_an_image_is_opened_once_for_each_pass(self, competition, data, recipe, small, monkeypatch):
        opened, sizes = [], []
        read, decode = read_bytes, decode_image
        monkeypatch.setattr(stream, "read_bytes", lambda path: opened.append(path) or read(path))
        monkeypatch.setattr(stream, "decode_image", lambda *a: sizes.append(a[2]) or decode(*a))
        network, samples = Ensemble([Redness()], ["none"], CPU), load_test_samples(competition, data)
        for members, decoded in (([recipe] * 2, [(64, 48)] * 3), ([recipe, small], [(40, 32), (64, 48)] * 3)):
            opened.clear()
            sizes.clear()
            list(predict_probabilities([EnsembleMember(network, each) for each in members], samples))
            assert sorted(opened) == sorted(sample.image for sample in samples)
            assert sorted(sizes) == sorted(decoded)

    def test_a_mask_that_may_not_be_empty_is_not(self, competition, data, recipe):
        samples, nothing = (
            load_test_samples(competition, data),
            [EnsembleMember(Ensemble([Slope()], ["none"], CPU), recipe)],
        )
        rows = list(predict_rows(nothing, samples, competition, threshold=0.9999))
        assert all(text for _, text in rows)
        masks = competition.masks.model_copy(update={"may_be_empty": True})
        relaxed = competition.model_copy(update={"masks": masks})
        assert not any(text for _, text in predict_rows(nothing, samples, relaxed, threshold=0.9999))

    def test_ahead_is_bounded_and_in_order(self):
        from concurrent.futures import ThreadPoolExecutor

        taken = []
        with ThreadPoolExecutor(3) as pool:
            results = prefetch(pool, lambda number: number * 2, (taken.append(n) or n for n in range(100)), 5)
            assert next(results) == 0
            assert len(taken) == 5
            assert list(results) == [number * 2 for number in range(1, 100)]

    def test_a_broken_image_is_named(self, competition, data, recipe):
        (data / "test" / "omega_02.jpg").write_bytes(b"\xff\xd8 nothing")
        members = [EnsembleMember(Ensemble([Redness()], ["none"], CPU), recipe)]
        with pytest.raises(UserError, match=r"omega_02\.jpg: cannot be decoded"):
            list(predict_rows(members, load_test_samples(competition, data), competition, 0.5))


class TestSubmission:
    def weights(self, folder):
        return [fold_run(folder, fold).weights for fold in (0, 1)]

    def test_from_runs_to_a_checked_file_that_goes_on(self, competition, recipe, data, trained, tmp_path):
        """Also: what made it is written beside it, and an interrupted file equals an uninterrupted one."""
        out = tmp_path / "submissions" / "tiny.csv.gz"
        arguments = (competition, [recipe], data, [self.weights(trained)])
        assert write_submission(*arguments, out, facts={"folds": [0, 1]})
        with gzip.open(out, "rt", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["img", "rle_mask"]
        assert [row[0] for row in rows[1:]] == ["omega_03.jpg", "omega_02.jpg", "omega_01.jpg"], "the sample's order"
        solution = dict(csv.reader((data / "solution.csv").open(newline="")))
        for name, text in rows[1:]:
            mask, truth = (torch.from_numpy(rle_to_mask(t, (62, 94))) for t in (text, solution[name]))
            assert dice_score(mask, truth) > 0.8
        facts = json.loads((out.parent / "tiny.json").read_text())
        assert (facts["recipe"], facts["folds"], facts["threshold"]) == ("tiny", [0, 1], 0.5)
        assert sorted(path.name for path in out.parent.iterdir()) == ["tiny.csv.gz", "tiny.json"], (
            "nothing is left over"
        )

        again = tmp_path / "again" / "tiny.csv.gz"
        calls = 1
        while not write_submission(*arguments, again, minutes=0.0, facts={"folds": [0, 1]}):
            calls += 1
            assert not again.exists()
        assert calls == 3
        assert again.read_bytes() == out.read_bytes()

    def test_the_mean_of_two_recipes(self, competition, recipe, small, data, trained, trained_small, tmp_path):
        """Shares choose; a recipe of share 0 changes nothing; rows of other shares are not gone on from."""
        recipes, weights = [recipe, small], [self.weights(trained), self.weights(trained_small)]

        def predict(name, shares):
            assert write_submission(competition, recipes, data, weights, tmp_path / name, shares=shares)
            return (tmp_path / name).read_text()

        alone = tmp_path / "alone.csv"
        assert write_submission(competition, [small], data, weights[1:], alone, threshold=0.5)
        assert predict("second.csv", [0.0, 1.0]) == alone.read_text()
        assert len({predict("equal.csv", None), predict("first.csv", [1.0, 0.0]), alone.read_text()}) == 3
        assert predict("half.csv", [0.5, 0.5]) == (tmp_path / "equal.csv").read_text()
        facts = json.loads((tmp_path / "second.json").read_text())
        assert (facts["recipe"], facts["shares"], facts["threshold"]) == ("tiny+small", [0.0, 1.0], 0.5)
        assert facts["flips"] == [["none", "horizontal"], ["none"]]

        cut = tmp_path / "second-again.csv"
        arguments = (competition, recipes, data, weights, cut)
        assert not write_submission(*arguments, shares=[1.0, 0.0], minutes=0.0)
        assert write_submission(*arguments, shares=[0.0, 1.0])
        assert cut.read_text() == alone.read_text()
        weights[0][0].write_bytes(b"damaged")
        assert write_submission(*arguments, shares=[0.0, 1.0]), "of a recipe of share 0 nothing is loaded"
        with pytest.raises(UserError, match="is not a whole safetensors file"):
            write_submission(*arguments, shares=[0.5, 0.5])
        with pytest.raises(ValueError, match="zip"):
            write_submission(competition, recipes, data, weights, cut, shares=[1.0])

    def test_rows_of_other_weights_are_thrown_away(self, tmp_path):
        for made_by, done in (({"a": 1}, set()), ({"a": 1}, {"x", "y"}), ({"a": 2}, set())):
            spool = RowSpool(tmp_path / "s.csv.gz", made_by)
            assert spool.done == done
            with spool:
                spool.add(("x", "1 2"))
                spool.add(("y", ""))

    def test_a_row_cut_in_the_middle_is_done_again(self, tmp_path):
        with RowSpool(tmp_path / "s.csv.gz", {}) as spool:
            spool.add(("x", "1 2"))
            spool.add(("y", "3 4 5 6"))
        spool.path.write_bytes(spool.path.read_bytes()[:-3])
        spool = RowSpool(tmp_path / "s.csv.gz", {})
        assert spool.done == {"x"}
        assert list(spool.rows()) == [("x", "1 2")]

    def test_sample_with_unknown_names(self, competition, data):
        with (data / "sample_submission.csv").open("a") as file:
            file.write("psi_01.jpg,1 1\n")
        with pytest.raises(UserError, match=r"names 1 images that are not in .*test, such as psi_01\.jpg"):
            submission_samples(competition, data)
        (data / "sample_submission.csv").write_text("a,b\n1,2\n")
        with pytest.raises(UserError, match="is not a sample submission"):
            submission_samples(competition, data)

    def test_members_of_two_recipes(self, recipe, tmp_path):
        other = recipe.model_copy(update={"seed": 1})
        for name, each in (("a", recipe), ("b", other)):
            origin = WeightsMetadata("tiny", "0", "", "1", "0", "", "")
            save_weights(tmp_path / f"{name}.safetensors", build_model(each.network), each, origin)
        with pytest.raises(UserError, match=r"b\.safetensors: was trained by another recipe .*seed: 0 / 1"):
            load_ensemble_member([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], CPU)

    def test_float32_for_all_if_one_recipe_asks(self, recipe):
        fast = recipe.model_copy(update={"train": recipe.train.model_copy(update={"precision": "bf16"})})
        assert choose_prediction_device([fast, recipe]).precision == "float32"
        assert choose_prediction_device([fast]) == choose_device("auto")


class TestOverlay:
    def test_any_size_several_and_a_folder(self, trained, data, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        for name, size in (("small.png", (40, 30)), ("wide.jpg", (301, 77)), ("grey.bmp", (64, 200))):
            Image.new("L" if name == "grey.bmp" else "RGB", size, 128).save(folder / name)
        pictures = [data / "test" / "omega_01.jpg", folder, folder / "wide.jpg"]
        paths = list(write_overlays(trained, pictures, tmp_path / "out"))
        assert [path.name for path in paths] == [
            "omega_01_overlay.jpg", "grey_overlay.jpg", "small_overlay.jpg", "wide_overlay.jpg", "wide-2_overlay.jpg",
        ]  # fmt: skip
        assert Image.open(tmp_path / "out" / "wide_overlay.jpg").size == (301, 77)
        mask = np.asarray(Image.open(tmp_path / "out" / "omega_01_mask.png"))
        assert set(np.unique(mask)) == {0, 255}
        assert 0.05 < (mask > 0).mean() < 0.5

    def test_sources(self, trained, tmp_path):
        assert len(find_weights(trained)) == 2
        one = fold_run(trained, 0)
        assert find_weights(one.folder) == find_weights(one.weights) == [one.weights]
        (trained / "fold0").rename(trained / "fold0~1")
        assert len(find_weights(trained)) == 1
        (trained / "fold1").rename(trained / "all")
        assert find_weights(trained) == [fold_run(trained, None).weights], "where there are no folds"
        with pytest.raises(UserError, match=r"holds no weights\.safetensors"):
            find_weights(tmp_path / "nothing")

    def test_missing_pictures(self, trained, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match="holds no picture"):
            list_images([tmp_path / "empty"])
        with pytest.raises(UserError, match=r"none\.jpg: no such file"):
            list_images([tmp_path / "none.jpg"])
