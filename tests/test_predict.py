"""Prediction and evaluation: means are means, rows are exact, interrupted work goes on, nothing seen is judged."""

import csv
import gzip
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline import evaluate as evaluation
from pipeline import runs
from pipeline.competition import test_samples as list_test
from pipeline.competition import training_samples
from pipeline.data import rle
from pipeline.data.images import read_image
from pipeline.errors import UserError
from pipeline.model import metrics
from pipeline.model.checkpoint import Origin, load_weights, save_weights
from pipeline.model.device import Device
from pipeline.model.zoo import build
from pipeline.predict import stream
from pipeline.predict.ensemble import Ensemble, load_members
from pipeline.predict.submit import Spool, wanted_samples, write_submission
from pipeline.predict.tta import flip
from pipeline.recipe import Predict
from pipeline.report import overlay

CPU = Device(torch.device("cpu"), "float32", "test")


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

    def test_weights(self):
        mean = Ensemble([Constant(-20.0), Constant(20.0)], ["none", "vertical"], CPU, weights=[1, 3])(IMAGES)
        assert mean.unique().item() == pytest.approx(0.75)
        with pytest.raises(ValueError, match="2 networks need as many positive weights"):
            Ensemble([Redness(), Redness()], ["none"], CPU, weights=[1])


class TestStream:
    def test_order_and_native_size(self, competition, data, recipe):
        samples = list_test(competition, data) + training_samples(competition, data)
        results = list(stream.probabilities(Ensemble([Redness()], ["none"], CPU), samples, recipe, truth=competition))
        assert [item.sample for item in results] == samples
        assert {item.probability.shape for item in results} == {(62, 94)}
        scored = [item for item in results if item.truth is not None]
        assert len(scored) == 12
        for item in scored:
            assert metrics.dice(item.probability >= 0.5, torch.from_numpy(item.truth)) > 0.95

    def test_rows_are_the_masks(self, competition, data, recipe):
        samples = list_test(competition, data)
        ensemble = Ensemble([Redness()], ["none", "horizontal"], CPU)
        for order in ("row", "column"):
            other = competition.model_copy(update={"csv": competition.csv.model_copy(update={"order": order})})
            rows = list(stream.rows(ensemble, samples, other, recipe, threshold=0.4))
            predicted = stream.probabilities(ensemble, samples, recipe)
            for (name, text), item in zip(rows, predicted, strict=True):
                assert name == item.sample.id
                assert np.array_equal(rle.decode(text, (62, 94), order), (item.probability >= 0.4).numpy())

    def test_a_mask_that_may_not_be_empty_is_not(self, competition, data, recipe):
        samples, nothing = list_test(competition, data), Ensemble([Slope()], ["none"], CPU)
        rows = list(stream.rows(nothing, samples, competition, recipe, threshold=0.9999))
        assert all(text for _, text in rows)
        masks = competition.masks.model_copy(update={"may_be_empty": True})
        relaxed = competition.model_copy(update={"masks": masks})
        assert not any(text for _, text in stream.rows(nothing, samples, relaxed, recipe, threshold=0.9999))

    def test_ahead_is_bounded_and_in_order(self):
        from concurrent.futures import ThreadPoolExecutor

        taken = []
        with ThreadPoolExecutor(3) as pool:
            results = stream.ahead(pool, lambda number: number * 2, (taken.append(n) or n for n in range(100)), 5)
            assert next(results) == 0
            assert len(taken) == 5
            assert list(results) == [number * 2 for number in range(1, 100)]

    def test_a_broken_image_is_named(self, competition, data, recipe):
        (data / "test" / "omega_02.jpg").write_bytes(b"\xff\xd8 nothing")
        with pytest.raises(UserError, match=r"omega_02\.jpg: cannot be decoded"):
            list(
                stream.rows(
                    Ensemble([Redness()], ["none"], CPU), list_test(competition, data), competition, recipe, 0.5
                )
            )


class TestSubmission:
    def weights(self, folder):
        return [runs.of_fold(folder, fold).weights for fold in (0, 1)]

    def test_from_runs_to_a_checked_file_that_goes_on(self, competition, recipe, data, trained, tmp_path):
        """Also: what made it is written beside it, and an interrupted file equals an uninterrupted one."""
        out = tmp_path / "submissions" / "tiny.csv.gz"
        arguments = (competition, recipe, data, self.weights(trained))
        assert write_submission(*arguments, out, facts={"folds": [0, 1]})
        with gzip.open(out, "rt", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["img", "rle_mask"]
        assert [row[0] for row in rows[1:]] == ["omega_03.jpg", "omega_02.jpg", "omega_01.jpg"], "the sample's order"
        solution = dict(csv.reader((data / "solution.csv").open(newline="")))
        for name, text in rows[1:]:
            mask, truth = (torch.from_numpy(rle.decode(t, (62, 94))) for t in (text, solution[name]))
            assert metrics.dice(mask, truth) > 0.8
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

    def test_rows_of_other_weights_are_thrown_away(self, tmp_path):
        for made_by, done in (({"a": 1}, set()), ({"a": 1}, {"x", "y"}), ({"a": 2}, set())):
            spool = Spool(tmp_path / "s.csv.gz", made_by)
            assert spool.done == done
            with spool:
                spool.add(("x", "1 2"))
                spool.add(("y", ""))

    def test_a_row_cut_in_the_middle_is_done_again(self, tmp_path):
        with Spool(tmp_path / "s.csv.gz", {}) as spool:
            spool.add(("x", "1 2"))
            spool.add(("y", "3 4 5 6"))
        spool.path.write_bytes(spool.path.read_bytes()[:-3])
        spool = Spool(tmp_path / "s.csv.gz", {})
        assert spool.done == {"x"}
        assert list(spool.rows()) == [("x", "1 2")]

    def test_sample_with_unknown_names(self, competition, data):
        with (data / "sample_submission.csv").open("a") as file:
            file.write("psi_01.jpg,1 1\n")
        with pytest.raises(UserError, match=r"names 1 images that are not in .*test, such as psi_01\.jpg"):
            wanted_samples(competition, data)
        (data / "sample_submission.csv").write_text("a,b\n1,2\n")
        with pytest.raises(UserError, match="is not a sample submission"):
            wanted_samples(competition, data)

    def test_members_of_two_recipes(self, recipe, tmp_path):
        other = recipe.model_copy(update={"seed": 1})
        for name, each in (("a", recipe), ("b", other)):
            origin = Origin("tiny", "0", "", "1", "0", "", "")
            save_weights(tmp_path / f"{name}.safetensors", build(each.network), each, origin)
        with pytest.raises(UserError, match=r"b\.safetensors: was trained by another recipe .*seed: 0 / 1"):
            load_members([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], CPU)


class TestEvaluate:
    def test_every_image_is_judged_by_the_fold_that_has_not_seen_it(self, competition, recipe, data, table, trained):
        result, scores = evaluation.evaluate(competition, recipe, data, table, trained, [0, 1])
        assert len(scores) == 12
        assert result.dice == pytest.approx(scores.dice.mean(), abs=1e-9)
        assert result.interval[0] <= result.dice <= result.interval[1]
        assert result == evaluation.read(trained)
        # By hand, for one image of each fold.
        samples = {sample.id: sample for sample in training_samples(competition, data)}
        for fold in (0, 1):
            row = scores[scores.fold == fold].iloc[0]
            network, _, _ = load_weights(runs.of_fold(trained, fold).weights)
            image = torch.from_numpy(read_image(samples[row.id].image, (64, 48)).transpose(2, 0, 1).copy())[None]
            with torch.inference_mode():
                probability = Ensemble([network], ["none", "horizontal"], CPU)(image)
            truth = torch.from_numpy(np.asarray(Image.open(samples[row.id].mask)) == 1)
            mask = metrics.enlarge(probability, truth.shape)[0, 0] >= result.threshold
            assert metrics.dice(mask, truth) == pytest.approx(row.dice, abs=2e-3)
            assert float(mask.double().mean()) == pytest.approx(row.predicted_area, abs=2e-3)

    def test_a_network_that_has_seen_the_images_is_refused(self, competition, recipe, data, table, trained):
        again = pd.read_csv(table)
        again["fold"] = 1 - again["fold"]
        again.to_csv(table, index=False)
        with pytest.raises(UserError, match="was trained on another split"):
            evaluation.evaluate(competition, recipe, data, table, trained, [0])

    def test_untrained_unfinished_and_other_recipes(self, recipe, trained):
        with pytest.raises(UserError, match="fold7: it is not trained; run `make train FOLD=7`"):
            evaluation.require_trained(runs.of_fold(trained, 7), recipe)
        other = recipe.model_copy(update={"seed": 9})
        with pytest.raises(UserError, match=r"was trained by another recipe \(seed: 0 / 9\)"):
            evaluation.require_trained(runs.of_fold(trained, 0), other)
        runs.of_fold(trained, 1).weights.rename(runs.of_fold(trained, 1).state)
        with pytest.raises(UserError, match="training is not finished"):
            evaluation.require_trained(runs.of_fold(trained, 1), recipe)

    def test_damaged_evaluation(self, tmp_path):
        assert evaluation.read(tmp_path) is None
        (tmp_path / "evaluation.json").write_text('{"dice": 1}')
        with pytest.raises(UserError, match="run `make evaluate` again"):
            evaluation.read(tmp_path)

    def make_scores(self, best, noise, cars=40):
        """Dice by threshold that peaks at level `best`, for cars of 4 views."""
        rng = np.random.default_rng(0)
        levels = np.arange(metrics.LEVELS)
        peaks = best + rng.normal(0, noise, (cars, 1))
        by_threshold = 0.99 - ((levels - peaks) / 2000) ** 2
        return np.repeat(by_threshold, 4, axis=0), np.repeat([f"car{n}" for n in range(cars)], 4)

    def test_a_real_gain_is_found_and_its_size_is_honest(self):
        by_threshold, groups = self.make_scores(best=90, noise=5)
        assert abs(evaluation.best_level(by_threshold, 128) - 90) <= 2
        gain = evaluation.nested_dice(by_threshold, groups, 128) - by_threshold[:, 128]
        assert evaluation.bootstrap(gain, groups)[0] > 0

    def test_noise_is_no_gain(self):
        by_threshold, groups = self.make_scores(best=128, noise=60)
        gain = evaluation.nested_dice(by_threshold, groups, 128) - by_threshold[:, 128]
        assert evaluation.bootstrap(gain, groups)[0] <= 0

    def test_bootstrap_draws_groups(self):
        """Sixteen equal views of a car are one observation, not sixteen."""
        values = np.random.default_rng(0).normal(size=30)
        few = evaluation.bootstrap(values, np.arange(30))
        many = evaluation.bootstrap(values.repeat(16), np.arange(30).repeat(16))
        assert np.allclose(few, many)
        standard_error = values.std() / np.sqrt(30)
        assert few[1] - few[0] == pytest.approx(2 * 1.96 * standard_error, rel=0.15)


class TestOverlay:
    def test_any_size_several_and_a_folder(self, trained, data, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        for name, size in (("small.png", (40, 30)), ("wide.jpg", (301, 77)), ("grey.bmp", (64, 200))):
            Image.new("L" if name == "grey.bmp" else "RGB", size, 128).save(folder / name)
        pictures = [data / "test" / "omega_01.jpg", folder, folder / "wide.jpg"]
        paths = list(overlay.write_overlays(trained, pictures, tmp_path / "out"))
        assert [path.name for path in paths] == [
            "omega_01_overlay.jpg", "grey_overlay.jpg", "small_overlay.jpg", "wide_overlay.jpg", "wide-2_overlay.jpg",
        ]  # fmt: skip
        assert Image.open(tmp_path / "out" / "wide_overlay.jpg").size == (301, 77)
        mask = np.asarray(Image.open(tmp_path / "out" / "omega_01_mask.png"))
        assert set(np.unique(mask)) == {0, 255}
        assert 0.05 < (mask > 0).mean() < 0.5

    def test_sources(self, trained, tmp_path):
        assert len(overlay.find_weights(trained)) == 2
        one = runs.of_fold(trained, 0)
        assert overlay.find_weights(one.folder) == overlay.find_weights(one.weights) == [one.weights]
        (trained / "fold0").rename(trained / "fold0~1")
        assert len(overlay.find_weights(trained)) == 1
        with pytest.raises(UserError, match=r"holds no weights\.safetensors"):
            overlay.find_weights(tmp_path / "nothing")

    def test_missing_pictures(self, trained, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match="holds no picture"):
            overlay.expand([tmp_path / "empty"])
        with pytest.raises(UserError, match=r"none\.jpg: no such file"):
            overlay.expand([tmp_path / "none.jpg"])


def test_recipe_flips_can_change_after_training(competition, recipe, data, table, trained):
    other = recipe.model_copy(update={"predict": Predict(flips=("none",))})
    result, _ = evaluation.evaluate(competition, other, data, table, trained, [0])
    assert result.flips == ["none"]
