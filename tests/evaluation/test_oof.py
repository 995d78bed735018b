"""Every image is scored by the model that has not seen it, and what was fitted is reported."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.data.dataset import ValidationDataset, validation_loader
from pipeline.data.images import read_image
from pipeline.data.labels import LabelReader, Truth
from pipeline.data.mask_csv import read_mask_csv
from pipeline.data.rle import rle_to_mask
from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError
from pipeline.evaluation.analysis import read_analysis
from pipeline.evaluation.observe import LOST_COLUMNS
from pipeline.evaluation.oof import evaluate_oof, require_trained
from pipeline.evaluation.predict import predict_as_evaluated
from pipeline.evaluation.result import matching_evaluation, read_evaluation
from pipeline.evaluation.selection import ensemble_weight_grid
from pipeline.evaluation.summary import summarize
from pipeline.inference.ensemble import Ensemble, load_ensemble_member
from pipeline.inference.overlay import write_overlays
from pipeline.inference.postprocess import binarize, default_postprocess, upsample
from pipeline.inference.stream import predict_probabilities
from pipeline.metrics import load_metric
from pipeline.metrics.counts import NUM_BINS
from pipeline.models.checkpoint import load_weights, save_weights
from pipeline.paths import fold_run, oof_masks_csv
from pipeline.training.validation import validate_model
from tests.helpers import TINY_FORMAT, changed_competition, changed_recipe
from tests.inference.models import CPU


@pytest.mark.slow
class TestEvaluate:
    def test_every_image_is_scored_by_the_fold_that_has_not_seen_it(self, competition, recipe, data, table, trained):
        result, scores = evaluate_oof(competition, [recipe], data, table, [trained], [0, 1], trained)
        assert len(scores) == 12
        assert result.score.value == pytest.approx(scores.score.mean(), abs=1e-9)
        assert result.score.low <= result.score.value <= result.score.high
        assert (result.images, result.groups, result.metric) == (12, 4, "Dice")
        result.save(trained)
        assert result == read_evaluation(trained)
        assert "out-of-fold Dice: " in result.describe()
        # One image of each fold, step by step.
        samples = {sample.id: sample for sample in load_training_samples(competition, data)}
        postprocess = result.postprocess(competition)
        for fold in (0, 1):
            row = scores[scores.fold == fold].iloc[0]
            model, _, _ = load_weights(fold_run(trained, fold).weights)
            image = torch.from_numpy(read_image(samples[row.id].image, (64, 48)).transpose(2, 0, 1).copy())[None]
            with torch.inference_mode():
                probability = Ensemble([model], ["none", "horizontal"], CPU)(image)
            truth = Truth(np.asarray(Image.open(samples[row.id].masks[0][1]))[None] == 1)
            masks = binarize(upsample(probability, truth.masks.shape[1:])[0], postprocess)
            assert load_metric(competition).score(masks, truth)[0] == pytest.approx(row.score, abs=2e-3)
            assert truth.masks.mean() == pytest.approx(row.area, abs=1e-9)

    def test_masks_and_curves_belong_to_the_scores(self, competition, recipe, data, table, trained):
        """The masks in the file have the Dice of the table at the default threshold, and so have the curves."""
        assert read_analysis(trained) is None
        result, scores = evaluate_oof(competition, [recipe], data, table, [trained], [0, 1], trained)
        masks = {row.id: rle_to_mask(row.rle, (62, 94)) for row in read_mask_csv(oof_masks_csv(trained), TINY_FORMAT)}
        assert list(masks) == scores.id.tolist()
        samples = {sample.id: sample for sample in load_training_samples(competition, data)}
        lost = scores.set_index("id")[list(LOST_COLUMNS)].sum(axis=1)
        for id, mask in masks.items():
            truth = np.asarray(Image.open(samples[id].masks[0][1])) == 1
            assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) == pytest.approx(1 - lost[id])
        analysis = read_analysis(trained)
        (curves,) = analysis.classes
        assert analysis.thresholds[127] == 0.5
        assert curves.scores[127] == pytest.approx(1 - lost.mean())
        assert max(curves.scores) >= result.score.value - 1e-12
        assert sum(bin.pixels for bin in curves.calibration) == 12 * 62 * 94
        assert sum(bin.pixels * bin.true for bin in curves.calibration) == pytest.approx(scores.area.sum() * 62 * 94)
        # The gain of the flips is the difference to an evaluation without them.
        plain = changed_recipe(recipe, predict__flips=("none",))
        _, other = evaluate_oof(competition, [plain], data, table, [trained], [0, 1], trained)
        difference = other.set_index("id")[list(LOST_COLUMNS)].sum(axis=1) - lost
        assert analysis.flip_gain.value == pytest.approx(difference.mean(), abs=1e-5)
        assert read_analysis(trained).flip_gain is None

    @pytest.mark.parametrize("flips", [("both",), ("horizontal", "vertical")])
    def test_flips_without_the_unflipped_image_have_no_gain(self, competition, recipe, data, table, trained, flips):
        other = changed_recipe(recipe, predict__flips=flips)
        evaluate_oof(competition, [other], data, table, [trained], [0], trained)
        assert read_analysis(trained).flip_gain is None

    def test_a_damaged_analysis_is_refused(self, tmp_path):
        (tmp_path / "analysis.json").write_text('{"thresholds": []}')
        with pytest.raises(UserError, match=r"analysis\.json: cannot be read .*run `make evaluate` again"):
            read_analysis(tmp_path)

    def test_a_model_that_has_seen_the_images_is_refused(self, competition, recipe, data, table, trained):
        swapped = pd.read_csv(table)
        swapped["fold"] = 1 - swapped["fold"]
        swapped.to_csv(table, index=False)
        with pytest.raises(UserError, match="was trained on another split"):
            evaluate_oof(competition, [recipe], data, table, [trained], [0], trained)

    def test_missing_unfinished_and_other_runs_are_refused(self, recipe, trained):
        with pytest.raises(UserError, match="fold7: it is not trained; run `make train FOLD=7 RECIPE=tiny`"):
            require_trained(fold_run(trained, 7), recipe)
        with pytest.raises(UserError, match=r"was trained with another recipe \(seed: 0 / 9\)"):
            require_trained(fold_run(trained, 0), changed_recipe(recipe, seed=9))
        fold_run(trained, 1).weights.rename(fold_run(trained, 1).checkpoint)
        with pytest.raises(UserError, match="its training is not finished"):
            require_trained(fold_run(trained, 1), recipe)

    def test_a_damaged_evaluation_is_refused(self, tmp_path):
        assert read_evaluation(tmp_path) is None
        for text in ('{"score": 1}', "{", "\xff"):
            (tmp_path / "evaluation.json").write_bytes(text.encode("latin-1"))
            with pytest.raises(UserError, match=r"evaluation\.json: cannot be read .*run `make evaluate` again"):
                read_evaluation(tmp_path)

    def test_flips_can_change_after_the_training(self, competition, recipe, data, table, trained):
        plain = changed_recipe(recipe, predict__flips=("none",))
        result, scores = evaluate_oof(competition, [plain], data, table, [trained], [0], trained)
        assert result.flips == (("none",),)
        _, flipped = evaluate_oof(competition, [recipe], data, table, [trained], [0], trained)
        assert (scores.score != flipped.score).any()


@pytest.mark.slow
class TestEnsembles:
    def test_two_recipes_are_averaged(self, competition, recipe, small, data, table, trained, trained_small, tmp_path):
        recipes, folders = [recipe, small], [trained, trained_small]
        result, scores = evaluate_oof(competition, recipes, data, table, folders, [0, 1], tmp_path / "both")
        result.save(tmp_path / "both")
        assert matching_evaluation(tmp_path / "both", [1, 0], recipes, 128 / NUM_BINS) == result
        assert (result.recipe, result.flips) == ("tiny+small", (("none", "horizontal"), ("none",)))
        assert result.default_threshold == 0.5, "that of the first recipe"
        other_flips = changed_recipe(small, predict__flips=("none", "horizontal"))
        for other in ([small, recipe], [recipe], [recipe, other_flips]):
            assert matching_evaluation(tmp_path / "both", [0, 1], other, 128 / NUM_BINS) is None
        # Every image by each recipe alone and by their mean, step by step.
        alone, samples = [], {sample.id: sample for sample in load_training_samples(competition, data)}
        metric, postprocess = load_metric(competition), result.postprocess(competition)
        read_truth = partial(LabelReader(competition).read_truth, instances=False)
        for fold in (0, 1):
            mine = scores[scores.fold == fold].set_index("id")
            members = [
                load_ensemble_member([fold_run(folder, fold).weights], CPU, each)[0]
                for each, folder in zip(recipes, folders, strict=True)
            ]
            for item in predict_probabilities(members, [samples[id] for id in mine.index], None, read_truth):
                half = default_postprocess(competition, 0.5)
                alone.append([metric.score(binarize(maps, half), item.truth)[0] for maps in item.by_member])
                masks = binarize(item.mean(result.ensemble.used), postprocess)
                assert metric.score(masks, item.truth)[0] == pytest.approx(mine.score[item.sample.id], abs=1e-6)
        assert result.ensemble.best_recipe == ("tiny", "small")[int(np.mean(alone, axis=0).argmax())]

    def test_a_member_that_has_seen_the_images_is_refused(
        self, competition, recipe, small, data, table, trained, trained_small, tmp_path
    ):
        model, _, metadata = load_weights(fold_run(trained, 1).weights)
        save_weights(fold_run(trained_small, 0).weights, model, small, metadata)
        with pytest.raises(UserError, match=r"small/fold0/.* was trained on another split"):
            evaluate_oof(competition, [recipe, small], data, table, [trained, trained_small], [0], tmp_path / "both")


class TestSummary:
    """On made-up observations."""

    def summarize(self, recipe, small, competition, dice):
        """Summarize images whose Dice is `dice` (images, ensemble weights), at every threshold alike."""
        table = pd.DataFrame(
            {"group": np.repeat([f"car{n}" for n in range(len(dice) // 4)], 4), "fold": 0, "accuracy": 1.0}
        )
        histograms = np.zeros((*dice.shape, 1, 2, NUM_BINS), np.int32)
        hits = (dice * 10_000).round().astype(np.int32)
        histograms[..., 0, 1, -1] = hits
        histograms[..., 0, 1, 0] = histograms[..., 0, 0, -1] = 10_000 - hits
        return summarize(competition, load_metric(competition), [recipe, small], table, histograms, 0).evaluation

    @pytest.mark.parametrize("good", [0, 1])
    def test_a_bad_recipe_gets_no_weight(self, recipe, small, competition, good):
        grid, rng = ensemble_weight_grid(2), np.random.default_rng(0)
        noise = np.array([1 - weights[good] for weights in grid])
        dice = 0.99 - 0.1 * noise * rng.uniform(0.5, 1, (40, 1)).repeat(4, axis=0)
        result = self.summarize(recipe, small, competition, dice)
        assert result.ensemble.used == result.ensemble.best == (1.0 - good, float(good))
        assert result.ensemble.gain.is_positive
        gain = (dice[:, grid.index(result.ensemble.used)] - dice[:, 0]).mean()
        assert result.ensemble.gain.value == pytest.approx(gain, abs=1e-3)
        assert result.ensemble.best_recipe == ("tiny", "small")[good]
        assert result.ensemble.gain_over_best_recipe.value == pytest.approx(0), "all weight is on it"
        assert result.score.value == pytest.approx(0.99, abs=1e-3)

    def test_weights_stay_equal_where_none_is_better(self, recipe, small, competition):
        rng = np.random.default_rng(1)
        dice = 0.97 + rng.normal(0, 0.005, (40, 5)).repeat(4, axis=0)
        dice[:, 0] -= dice[:, 0].mean() - dice.mean()
        result = self.summarize(recipe, small, competition, dice)
        assert result.ensemble.best != (0.5, 0.5)
        assert not result.ensemble.gain.is_positive
        assert result.ensemble.used == (0.5, 0.5)
        assert result.score.value == pytest.approx(dice[:, 0].mean(), abs=1e-3)

    def test_gain_of_the_ensemble_over_its_best_recipe(self, recipe, small, competition):
        """Two recipes err on different cars: equal weights beat either by what is put in."""
        grid = ensemble_weight_grid(2)
        errors = np.random.default_rng(0).uniform(0.02, 0.04, (40, 2)).repeat(4, axis=0)
        dice = 0.98 - errors @ np.array(grid).T + 0.02 * np.array([min(weights) for weights in grid])
        result = self.summarize(recipe, small, competition, dice)
        alone = dice[:, [grid.index((1.0, 0.0)), grid.index((0.0, 1.0))]].mean(axis=0)
        assert result.ensemble.used == (0.5, 0.5)
        assert result.ensemble.best_recipe == ("tiny", "small")[int(alone.argmax())]
        gain = result.ensemble.gain_over_best_recipe
        assert gain.value == pytest.approx(dice[:, 0].mean() - alone.max(), abs=1e-4)
        assert gain.is_positive
        assert f"gain of the ensemble over {result.ensemble.best_recipe} alone" in result.describe()

    def test_minimum_area_and_threshold_are_fitted_per_class(self, recipe, competition):
        """Class a is best with a low threshold, class b with every small mask removed."""
        columns = {"id": "{id}", "class": "{class}", "rle": "{rle}"}
        classes = changed_competition(
            competition, classes=("a", "b"), csv__columns=columns, csv__rows="class", masks__may_be_empty=True
        )
        table = pd.DataFrame({"group": [f"g{n}" for n in range(40)], "fold": 0, "accuracy": 1.0})
        histograms = np.zeros((40, 1, 2, 2, NUM_BINS), np.int32)
        histograms[:, 0, 0, 0, 0] = histograms[:, 0, 1, 0, 0] = 10_000
        histograms[:, 0, 0, 1, 60] = 500
        histograms[:20, 0, 1, 0, 200] = 40
        histograms[20:, 0, 1, 1, 200] = 500
        result = summarize(classes, load_metric(classes), [recipe], table, histograms, 0).evaluation
        a, b = result.classes
        assert (a.name, a.threshold < 61 / NUM_BINS, a.score) == ("a", True, 1.0)
        assert (b.name, b.min_area, b.score) == ("b", 0.01, 1.0)
        assert result.score.value == 1.0
        assert result.postprocess(classes).min_areas == (a.min_area, 0.01)
        assert "class b: Dice 1.00000; best threshold" in result.describe()


@pytest.mark.slow
class TestPredictAsEvaluated:
    def test_thresholds_of_the_evaluation_are_used(self, competition, recipe, data, table, trained, tmp_path):
        result, _ = evaluate_oof(competition, [recipe], data, table, [trained], [0, 1], trained)
        classes = (result.classes[0].model_copy(update={"threshold": 0.375}),)
        result.model_copy(update={"classes": classes}).save(trained)
        out = tmp_path / "a.csv"
        arguments = (competition, [recipe], data, [trained], [0, 1], trained)
        assert predict_as_evaluated(*arguments, out)
        assert '"threshold": [\n  0.375\n ]' in (tmp_path / "a.json").read_text()
        assert predict_as_evaluated(*arguments, tmp_path / "b.csv", threshold=0.6)
        assert '"threshold": [\n  0.6\n ]' in (tmp_path / "b.json").read_text()
        plain = changed_recipe(recipe, predict__flips=("both",))
        assert predict_as_evaluated(competition, [plain], *arguments[2:], tmp_path / "c.csv")
        assert '"threshold": [\n  0.5\n ]' in (tmp_path / "c.json").read_text(), "an evaluation of other flips"
        assert "oof_score" not in (tmp_path / "c.json").read_text()

    def test_an_untrained_fold_is_named(self, competition, recipe, data, tmp_path):
        with pytest.raises(UserError, match="fold0: it is not trained"):
            predict_as_evaluated(competition, [recipe], data, [tmp_path], [0], tmp_path, tmp_path / "a.csv")


@pytest.mark.parametrize("bin", [128, NUM_BINS - 1])
def test_validation_evaluation_overlay_and_submission_agree_on_every_mask(
    competition, recipe, data, trained, tmp_path, bin
):
    """Bit for bit, also where the threshold is above every probability and no mask may be empty."""
    # The tiny model predicts the training images as if they were a test set.
    threshold = bin / NUM_BINS
    recipe = changed_recipe(recipe, predict__flips=("none",), predict__threshold=threshold)
    samples = load_training_samples(competition, data)
    as_test = changed_competition(competition, images__test="train", csv__sample=None, masks__area=(0, 1))
    model, trained_recipe, metadata = load_weights(fold_run(trained, 0).weights)
    with torch.no_grad():
        for parameter in list(model.parameters())[-2:]:
            parameter *= 0.3  # of the last convolution: no probability reaches 255/256
    save_weights(fold_run(trained, 0).weights, model, trained_recipe, metadata)
    # "carvana" is a competition whose file is there: overlay takes the rule for empty masks from it.
    weights = tmp_path / "w.safetensors"
    save_weights(weights, model, recipe, replace(metadata, competition="carvana"))

    out = tmp_path / "s.csv"
    assert predict_as_evaluated(as_test, [recipe], data, [trained], [0], tmp_path, out)
    submitted = {row.id: rle_to_mask(row.rle, (62, 94)) for row in read_mask_csv(out, TINY_FORMAT)}

    for _ in write_overlays(weights, [data / "train"], tmp_path / "overlays"):
        pass
    metric, labels = load_metric(competition), LabelReader(competition)
    read_truth = partial(labels.read_truth, instances=False)
    member, _ = load_ensemble_member([weights], CPU)
    by_hand, saturated = [], []
    for item in predict_probabilities([member], samples, None, read_truth):
        mask = submitted[item.sample.id]
        assert mask.any()
        drawn = np.asarray(Image.open(tmp_path / "overlays" / f"{item.sample.image.stem}_mask.png")) > 0
        assert np.array_equal(drawn, mask)
        by_hand.append(metric.score(torch.from_numpy(mask)[None], item.truth)[0])
        evaluated = metric.score_grid(metric.observe(item.mean(), item.truth))[0, bin - 1, 0]
        assert evaluated == pytest.approx(by_hand[-1], abs=1e-12)
        saturated.append(bool((item.mean() < threshold).all()))
    assert any(saturated) == (bin == NUM_BINS - 1), "the higher threshold needs the rule for empty masks"

    loader = validation_loader(ValidationDataset(samples, labels, recipe.input.size), 2, 0, pin_memory=False)
    postprocess = default_postprocess(competition, threshold)
    scores, _ = validate_model(model, loader, len(samples), CPU, metadata.model_classes(), metric, postprocess)
    assert scores["dice"] == pytest.approx(np.mean(by_hand), abs=1e-12)
