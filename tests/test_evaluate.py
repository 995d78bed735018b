"""Evaluation: nothing seen is judged, and what is fitted is used only where it is worth something."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.data.images import read_image
from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError
from pipeline.evaluation.oof import evaluate_oof, require_trained, summarize
from pipeline.evaluation.result import read_evaluation
from pipeline.evaluation.selection import best_choice, ensemble_weight_grid, nested_scores, select
from pipeline.evaluation.statistics import bootstrap_interval, prediction_interval
from pipeline.inference.ensemble import Ensemble, load_ensemble_member
from pipeline.inference.postprocess import upsample
from pipeline.inference.stream import predict_probabilities
from pipeline.metrics import NUM_BINS, dice_score
from pipeline.models.checkpoint import load_weights, save_weights
from pipeline.models.device import ComputeDevice
from pipeline.paths import fold_run
from pipeline.recipe import PredictConfig

CPU = ComputeDevice(torch.device("cpu"), "float32", "test")


class TestEvaluate:
    def test_every_image_is_judged_by_the_fold_that_has_not_seen_it(self, competition, recipe, data, table, trained):
        result, scores = evaluate_oof(competition, [recipe], data, table, [trained], [0, 1], trained)
        assert len(scores) == 12
        assert result.dice == pytest.approx(scores.dice.mean(), abs=1e-9)
        assert result.interval[0] <= result.dice <= result.interval[1]
        result.save(trained)
        assert result == read_evaluation(trained)
        # By hand, for one image of each fold.
        samples = {sample.id: sample for sample in load_training_samples(competition, data)}
        for fold in (0, 1):
            row = scores[scores.fold == fold].iloc[0]
            network, _, _ = load_weights(fold_run(trained, fold).weights)
            image = torch.from_numpy(read_image(samples[row.id].image, (64, 48)).transpose(2, 0, 1).copy())[None]
            with torch.inference_mode():
                probability = Ensemble([network], ["none", "horizontal"], CPU)(image)
            truth = torch.from_numpy(np.asarray(Image.open(samples[row.id].mask)) == 1)
            mask = upsample(probability, truth.shape)[0, 0] >= result.threshold
            assert dice_score(mask, truth) == pytest.approx(row.dice, abs=2e-3)
            assert float(mask.double().mean()) == pytest.approx(row.predicted_area, abs=2e-3)

    def test_a_network_that_has_seen_the_images_is_refused(self, competition, recipe, data, table, trained):
        again = pd.read_csv(table)
        again["fold"] = 1 - again["fold"]
        again.to_csv(table, index=False)
        with pytest.raises(UserError, match="was trained on another split"):
            evaluate_oof(competition, [recipe], data, table, [trained], [0], trained)

    def test_untrained_unfinished_and_other_recipes(self, recipe, trained):
        with pytest.raises(UserError, match="fold7: it is not trained; run `make train FOLD=7 RECIPE=tiny`"):
            require_trained(fold_run(trained, 7), recipe)
        other = recipe.model_copy(update={"seed": 9})
        with pytest.raises(UserError, match=r"was trained by another recipe \(seed: 0 / 9\)"):
            require_trained(fold_run(trained, 0), other)
        fold_run(trained, 1).weights.rename(fold_run(trained, 1).state)
        with pytest.raises(UserError, match="training is not finished"):
            require_trained(fold_run(trained, 1), recipe)

    def test_damaged_evaluation(self, tmp_path):
        assert read_evaluation(tmp_path) is None
        (tmp_path / "evaluation.json").write_text('{"dice": 1}')
        with pytest.raises(UserError, match="run `make evaluate` again"):
            read_evaluation(tmp_path)

    def test_two_recipes(self, competition, recipe, small, data, table, trained, trained_small, tmp_path):
        recipes, folders = [recipe, small], [trained, trained_small]
        result, scores = evaluate_oof(competition, recipes, data, table, folders, [0, 1], tmp_path / "both")
        result.save(tmp_path / "both")
        assert result == read_evaluation(tmp_path / "both")
        assert (result.recipe, result.flips) == ("tiny+small", [["none", "horizontal"], ["none"]])
        assert result.default_threshold == 0.5, "the first recipe's"
        assert result.describes([1, 0], recipes)
        for other in ([small, recipe], [recipe], [recipe, small.model_copy(update={"predict": recipe.predict})]):
            assert not result.describes([0, 1], other)
        # By hand: every image by each recipe alone, and by their mean as it was chosen.
        alone, samples = [], {sample.id: sample for sample in load_training_samples(competition, data)}
        for fold in (0, 1):
            mine = scores[scores.fold == fold].set_index("id")
            members = [
                load_ensemble_member([fold_run(folder, fold).weights], CPU, each)[0]
                for each, folder in zip(recipes, folders, strict=True)
            ]
            for item in predict_probabilities(members, [samples[id] for id in mine.index], competition):
                truth = torch.from_numpy(item.truth)
                alone.append([dice_score(probability >= 0.5, truth) for probability in item.by_member])
                mask = item.mean(result.weights) >= result.threshold
                assert dice_score(mask, truth) == pytest.approx(mine.dice[item.sample.id], abs=1e-6)
        assert result.best_recipe == ("tiny", "small")[int(np.mean(alone, axis=0).argmax())]

    def test_a_member_that_has_seen_the_images_is_refused(
        self, competition, recipe, small, data, table, trained, trained_small, tmp_path
    ):
        network, _, origin = load_weights(fold_run(trained, 1).weights)
        save_weights(fold_run(trained_small, 0).weights, network, small, origin)
        with pytest.raises(UserError, match=r"small/fold0/.* was trained on another split"):
            evaluate_oof(competition, [recipe, small], data, table, [trained, trained_small], [0], tmp_path / "both")

    def judge(self, recipe, small, competition, dice):
        """The verdict on made-up histograms.

        Args:
            dice: (images, weightings), what each image scores with each weights, at every threshold alike.
        """
        table = pd.DataFrame({"group": np.repeat([f"car{n}" for n in range(len(dice) // 4)], 4), "fold": 0})
        histograms = np.zeros((*dice.shape, 2, NUM_BINS), np.int32)
        hit = (dice * 10_000).round().astype(np.int32)
        histograms[..., 1, -1] = hit
        histograms[..., 1, 0] = histograms[..., 0, -1] = 10_000 - hit
        return summarize(competition, [recipe, small], table, histograms, 0)

    @pytest.mark.parametrize("good", [0, 1])
    def test_weights_leave_out_noise(self, recipe, small, competition, good):
        """One recipe is good and the other is noise: the more of it, the worse."""
        weightings, rng = ensemble_weight_grid(2), np.random.default_rng(0)
        noise = np.array([1 - weights[good] for weights in weightings])
        dice = 0.99 - 0.1 * noise * rng.uniform(0.5, 1, (40, 1)).repeat(4, axis=0)
        result = self.judge(recipe, small, competition, dice)
        assert result.weights == result.best_weights == [1.0 - good, float(good)]
        assert result.weights_gain_interval[0] > 0
        assert result.weights_gain == pytest.approx(
            (dice[:, weightings.index(tuple(result.weights))] - dice[:, 0]).mean(), abs=1e-3
        )
        assert result.best_recipe == ("tiny", "small")[good]
        assert result.ensemble_gain == pytest.approx(0), "all the weight is on it"
        assert result.dice == pytest.approx(0.99, abs=1e-3)

    def test_weights_stay_equal_by_chance(self, recipe, small, competition):
        """No weights are better than others, but some always seem to be."""
        rng = np.random.default_rng(1)
        dice = 0.97 + rng.normal(0, 0.005, (40, 5)).repeat(4, axis=0)
        dice[:, 0] -= dice[:, 0].mean() - dice.mean()
        result = self.judge(recipe, small, competition, dice)
        assert result.best_weights != [0.5, 0.5]
        assert result.weights_gain_interval[0] <= 0
        assert result.weights == [0.5, 0.5]
        assert result.dice == pytest.approx(dice[:, 0].mean(), abs=1e-3)

    def test_what_the_second_recipe_adds(self, recipe, small, competition):
        """Two recipes err on different cars: equal weights beat either, by as much as is put in."""
        weightings, errs = (
            ensemble_weight_grid(2),
            np.random.default_rng(0).uniform(0.02, 0.04, (40, 2)).repeat(4, axis=0),
        )
        mixed = np.array([min(weights) for weights in weightings])
        dice = 0.98 - errs @ np.array(weightings).T + 0.02 * mixed
        result = self.judge(recipe, small, competition, dice)
        alone = dice[:, [weightings.index((1.0, 0.0)), weightings.index((0.0, 1.0))]].mean(axis=0)
        assert result.weights == [0.5, 0.5]
        assert result.best_recipe == ("tiny", "small")[int(alone.argmax())]
        assert result.ensemble_gain == pytest.approx(dice[:, 0].mean() - alone.max(), abs=1e-4)
        assert result.ensemble_gain_interval[0] > 0
        assert any("over " + result.best_recipe in sentence for sentence in result.fitted())


class TestFit:
    @pytest.mark.parametrize(("count", "tried"), [(1, 1), (2, 5), (3, 16), (4, 35)])
    def test_weightings(self, count, tried):
        weightings = ensemble_weight_grid(count)
        assert len(weightings) == len(set(weightings)) == tried
        assert weightings[0] == (1 / count,) * count
        assert all(sum(weights) == pytest.approx(1) and min(weights) >= 0 for weights in weightings)
        assert {tuple(row) for row in np.eye(count)} <= set(weightings), "each one alone"

    def make_scores(self, best, noise, cars=40):
        """Dice by threshold that peaks at level `best`, for cars of 4 views."""
        rng = np.random.default_rng(0)
        levels = np.arange(NUM_BINS)
        peaks = best + rng.normal(0, noise, (cars, 1))
        by_threshold = 0.99 - ((levels - peaks) / 2000) ** 2
        return np.repeat(by_threshold, 4, axis=0), np.repeat([f"car{n}" for n in range(cars)], 4)

    def test_a_real_gain_is_found_and_its_size_is_honest(self):
        by_threshold, groups = self.make_scores(best=90, noise=5)
        assert abs(best_choice(by_threshold, 128) - 90) <= 2
        gain = nested_scores(by_threshold, groups, 128) - by_threshold[:, 128]
        assert bootstrap_interval(gain, groups)[0] > 0

    def test_noise_is_no_gain(self):
        by_threshold, groups = self.make_scores(best=128, noise=60)
        gain = nested_scores(by_threshold, groups, 128) - by_threshold[:, 128]
        assert bootstrap_interval(gain, groups)[0] <= 0

    def test_the_best_of_many_is_tried_where_it_was_not_fitted(self):
        """Among hundreds of equal choices one always seems better on the images it was picked by."""
        groups = np.repeat([f"car{n}" for n in range(40)], 4)
        scores = np.random.default_rng(0).normal(size=(40, 300)).repeat(4, axis=0)
        scores[:, 0] -= scores[:, 0].mean()
        found = select(scores, groups, 0)
        picked = scores[:, found.best] - scores[:, 0]
        assert picked.mean() > 0.3
        assert found.gain < 0.1
        assert found.used == 0

    def test_expected_interval_holds_for_new_groups(self):
        """Of many made-up competitions, 95 % of the test sets fall inside; the mean's own interval holds far fewer."""
        rng = np.random.default_rng(1)
        inside = alone = 0
        for _ in range(300):
            cars = rng.normal(0.99, 0.002, 56)
            values, groups, test = cars[:40].repeat(4), np.arange(40).repeat(4), cars[40:].mean()
            low, high = prediction_interval(values, groups, 16, draws=400)
            inside += low <= test <= high
            low, high = bootstrap_interval(values, groups, draws=400)
            alone += low <= test <= high
        assert 0.89 < inside / 300 < 0.985
        assert alone / 300 < 0.8

    def test_bootstrap_draws_groups(self):
        """Sixteen equal views of a car are one observation, not sixteen."""
        values = np.random.default_rng(0).normal(size=30)
        few = bootstrap_interval(values, np.arange(30))
        many = bootstrap_interval(values.repeat(16), np.arange(30).repeat(16))
        assert np.allclose(few, many)
        standard_error = values.std() / np.sqrt(30)
        assert few[1] - few[0] == pytest.approx(2 * 1.96 * standard_error, rel=0.15)


def test_recipe_flips_can_change_after_training(competition, recipe, data, table, trained):
    other = recipe.model_copy(update={"predict": PredictConfig(flips=("none",))})
    result, scores = evaluate_oof(competition, [other], data, table, [trained], [0], trained)
    assert result.flips == [["none"]]
    _, with_flips = evaluate_oof(competition, [recipe], data, table, [trained], [0], trained)
    assert (scores.dice != with_flips.dice).any(), "it is the new flips that were predicted with"
