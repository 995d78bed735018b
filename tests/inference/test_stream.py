"""Prediction is exact and in order, opens each file once, and resumes to the same submission."""

import csv
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data import readers
from pipeline.data.labels import LabelReader, Truth
from pipeline.data.rle import RleFormat, rle_to_mask
from pipeline.data.samples import load_test_samples, load_training_samples
from pipeline.errors import UserError
from pipeline.inference.ensemble import Ensemble, EnsembleMember
from pipeline.inference.overlay import list_images, write_overlays
from pipeline.inference.postprocess import default_postprocess, make_postprocess
from pipeline.inference.spool import RowSpool
from pipeline.inference.stream import Prediction, predict_probabilities, predict_rows
from pipeline.inference.submission import write_submission
from pipeline.metrics import load_metric
from pipeline.models.classes import Classes
from pipeline.parallel import prefetch
from pipeline.paths import fold_run
from tests.helpers import changed_competition
from tests.inference.models import CPU, Constant, Redness, Slope


def member(model, recipe, flips=("none",)):
    return EnsembleMember(Ensemble([model], flips, CPU), recipe)


class TestStream:
    def test_predictions_are_in_order_and_of_native_size(self, competition, data, recipe):
        samples = load_test_samples(competition, data) + load_training_samples(competition, data)
        read_truth = partial(LabelReader(competition).read_truth, instances=False)
        results = list(predict_probabilities([member(Redness(), recipe)], samples, None, read_truth))
        assert [item.sample for item in results] == samples
        assert {item.mean().shape for item in results} == {(1, 62, 94)}
        scored = [item for item in results if item.truth is not None]
        assert len(scored) == 12
        for item in scored:
            assert load_metric(competition).score(item.mean() >= 0.5, item.truth)[0] > 0.95

    def test_predictions_can_have_another_size(self, competition, data, recipe):
        samples = load_test_samples(competition, data)
        results = predict_probabilities([member(Redness(), recipe)], samples, (30, 20))
        assert {item.mean().shape for item in results} == {(1, 20, 30)}

    @pytest.mark.parametrize("order", ["row", "column"])
    def test_rows_are_the_binarized_probabilities(self, competition, data, recipe, order):
        samples = load_test_samples(competition, data)
        members = [member(Redness(), recipe, ("none", "horizontal"))]
        other = changed_competition(competition, csv__order=order)
        rows = predict_rows(members, samples, other, default_postprocess(other, 0.4))
        for (id, image_rows), item in zip(rows, predict_probabilities(members, samples), strict=True):
            assert id == item.sample.id
            ((_, rle),) = image_rows
            assert np.array_equal(rle_to_mask(rle, (62, 94), RleFormat(order)), (item.mean() >= 0.4)[0].numpy())

    def test_members_of_two_input_sizes_are_averaged_at_native_size(self, competition, data, recipe, small):
        samples = load_test_samples(competition, data) + load_training_samples(competition, data)
        one, other = member(Redness(), recipe, ("none", "horizontal")), member(Slope(), small)
        apart = [[item.mean() for item in predict_probabilities([each], samples)] for each in (one, other)]
        together = list(predict_probabilities([one, other], samples))
        assert [item.sample for item in together] == samples
        for item, first, second in zip(together, *apart, strict=True):
            assert torch.allclose(item.mean([0.75, 0.25]), 0.75 * first + 0.25 * second, atol=1e-6)
            assert torch.allclose(item.mean(), (first + second) / 2, atol=1e-6)
            assert torch.equal(item.mean([0.0, 1.0]), second)

    def test_the_mean_never_exceeds_one(self):
        sure = Prediction(None, (torch.ones(1, 2, 3),) * 3, None)
        assert sure.mean([0.3, 0.6, 0.1 + 1e-6]).max() <= 1

    def test_a_file_is_read_once_and_decoded_once_per_size(self, competition, data, recipe, small, monkeypatch):
        opened, sizes = [], []
        read, decode = readers.read_bytes, readers.decode_image
        monkeypatch.setattr(readers, "read_bytes", lambda path: opened.append(path) or read(path))
        monkeypatch.setattr(readers, "decode_image", lambda *a: sizes.append(a[2]) or decode(*a))
        samples = load_test_samples(competition, data)
        for recipes, decoded in (([recipe] * 2, [(64, 48)] * 3), ([recipe, small], [(40, 32), (64, 48)] * 3)):
            opened.clear()
            sizes.clear()
            list(predict_probabilities([member(Redness(), each) for each in recipes], samples))
            assert sorted(opened) == sorted(sample.image for sample in samples)
            assert sorted(sizes) == sorted(decoded)

    def test_prefetch_is_bounded_and_in_order(self):
        taken = []
        with ThreadPoolExecutor(3) as pool:
            results = prefetch(pool, lambda number: number * 2, (taken.append(n) or n for n in range(100)), 5)
            assert next(results) == 0
            assert len(taken) == 5
            assert list(results) == [number * 2 for number in range(1, 100)]

    def test_a_broken_image_is_named(self, competition, data, recipe):
        (data / "test" / "omega_02.jpg").write_bytes(b"\xff\xd8 nothing")
        rows = predict_rows(
            [member(Redness(), recipe)], load_test_samples(competition, data), competition,
            default_postprocess(competition, 0.5),
        )  # fmt: skip
        with pytest.raises(UserError, match=r"omega_02\.jpg: cannot be decoded"):
            list(rows)

    def test_an_image_of_another_size_is_refused(self, competition, data, recipe):
        Image.new("RGB", (90, 62)).save(data / "test" / "omega_02.jpg")
        samples = load_test_samples(competition, data)
        rows = predict_rows([member(Redness(), recipe)], samples, competition, default_postprocess(competition, 0.5))
        with pytest.raises(
            UserError, match=r"is 90×62, but all images of this competition are 94×62; .* images\.size in"
        ):
            list(rows)

    def test_a_mask_of_another_size_is_refused(self, competition, data, recipe):
        def read_truth(_):
            return Truth(np.zeros((1, 5, 5), bool))

        samples = load_training_samples(competition, data)
        with pytest.raises(UserError, match=r"is \d+×\d+, but its mask is 5×5; give both the same size"):
            list(predict_probabilities([member(Redness(), recipe)], samples, None, read_truth))

    def test_classes_have_rows_of_their_own(self, competition, data, recipe):
        columns = {"id": "{id}", "class": "{class}", "rle": "{rle}"}
        classes = changed_competition(
            competition, classes=("a", "b"), csv__columns=columns, csv__rows="class", masks__may_be_empty=True
        )
        ensemble = Ensemble([Constant(3.0, channels=2)], ["none"], CPU, Classes(("a", "b")))
        postprocess = make_postprocess(classes, [0.5, 0.99], [0.0, 0.0])
        for _, rows in predict_rows(
            [EnsembleMember(ensemble, recipe)], load_test_samples(classes, data), classes, postprocess
        ):
            assert rows == [(0, f"1 {94 * 62}"), (1, "")]


class TestSubmission:
    @staticmethod
    def weights(folder):
        return [fold_run(folder, fold).weights for fold in (0, 1)]

    def test_an_interrupted_submission_equals_an_uninterrupted_one(self, competition, recipe, data, trained, tmp_path):
        out = tmp_path / "submissions" / "tiny.csv.gz"
        arguments = (competition, [recipe], data, [self.weights(trained)])
        assert write_submission(*arguments, out, metadata={"folds": [0, 1]})
        with gzip.open(out, "rt", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["img", "rle_mask"]
        assert [row[0] for row in rows[1:]] == ["omega_03.jpg", "omega_02.jpg", "omega_01.jpg"], "the sample's order"
        solution = dict(csv.reader((data / "solution.csv").open(newline="")))
        for id, rle in rows[1:]:
            mask, truth = (rle_to_mask(text, (62, 94)) for text in (rle, solution[id]))
            assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8
        metadata = json.loads((out.parent / "tiny.json").read_text())
        assert (metadata["recipe"], metadata["folds"], metadata["threshold"]) == ("tiny", [0, 1], [0.5])
        assert sorted(path.name for path in out.parent.iterdir()) == ["tiny.csv.gz", "tiny.doubts.csv", "tiny.json"]

        again = tmp_path / "again" / "tiny.csv.gz"
        calls = 1
        while not write_submission(*arguments, again, minutes=0.0, metadata={"folds": [0, 1]}):
            calls += 1
            assert not again.exists()
        assert calls == 3
        assert again.read_bytes() == out.read_bytes()

    @pytest.mark.slow
    def test_ensemble_weights_are_used(self, competition, recipe, small, data, trained, trained_small, tmp_path):
        recipes, weights = [recipe, small], [self.weights(trained), self.weights(trained_small)]

        def predict(name, ensemble_weights):
            out = tmp_path / name
            assert write_submission(competition, recipes, data, weights, out, ensemble_weights=ensemble_weights)
            return out.read_text()

        alone, half = tmp_path / "alone.csv", default_postprocess(competition, 0.5)
        assert write_submission(competition, [small], data, weights[1:], alone, postprocess=half)
        assert predict("second.csv", [0.0, 1.0]) == alone.read_text()
        assert len({predict("equal.csv", None), predict("first.csv", [1.0, 0.0]), alone.read_text()}) == 3
        assert predict("half.csv", [0.5, 0.5]) == (tmp_path / "equal.csv").read_text()
        metadata = json.loads((tmp_path / "second.json").read_text())
        assert (metadata["recipe"], metadata["ensemble_weights"]) == ("tiny+small", [0.0, 1.0])
        assert metadata["flips"] == [["none", "horizontal"], ["none"]]

        resumed = tmp_path / "second-again.csv"
        arguments = (competition, recipes, data, weights, resumed)
        assert not write_submission(*arguments, ensemble_weights=[1.0, 0.0], minutes=0.0)
        assert write_submission(*arguments, ensemble_weights=[0.0, 1.0]), "rows of other weights are not used"
        assert resumed.read_text() == alone.read_text()
        weights[0][0].write_bytes(b"damaged")
        assert write_submission(*arguments, ensemble_weights=[0.0, 1.0]), "models of weight 0 are not loaded"
        with pytest.raises(UserError, match="is not a complete safetensors file"):
            write_submission(*arguments, ensemble_weights=[0.5, 0.5])


class TestSpool:
    def test_rows_made_by_something_else_are_deleted(self, tmp_path):
        for made_by, done in (({"a": 1}, set()), ({"a": 1}, {"x", "y"}), ({"a": 2}, set())):
            spool = RowSpool(tmp_path / "rows", made_by)
            assert set(spool.done) == done
            with spool:
                spool.add("x", [(0, "1 2"), (1, "")])
                spool.add("y", [(0, "")])

    def test_an_incomplete_line_is_deleted(self, tmp_path):
        with RowSpool(tmp_path / "rows", {}) as spool:
            spool.add("x", [(0, "1 2")])
            spool.add("y", [(0, "3 4 5 6")])
        spool.path.write_bytes(spool.path.read_bytes()[:-3])
        spool = RowSpool(tmp_path / "rows", {})
        assert set(spool.done) == {"x"}
        assert list(spool.rows(["x"])) == [("x", 0, "1 2")]

    def test_a_row_is_on_disk_when_it_is_added(self, tmp_path):
        with RowSpool(tmp_path / "rows", {}) as spool:
            spool.add("x", [(0, "1 2")])
            assert set(RowSpool(tmp_path / "rows", {}).done) == {"x"}

    def test_rows_are_read_in_any_order(self, tmp_path):
        with RowSpool(tmp_path / "rows", {}) as spool:
            spool.add('ä"x', [(0, "1 2"), (1, "3 4")])
            spool.add("y", [(0, ""), (1, "5 6")])
        keys = [("y", 1), ('ä"x', 0), ('ä"x', 1), ("y", 0)]
        for each in (spool, RowSpool(tmp_path / "rows", {})):
            assert list(each.rows(["y", 'ä"x'])) == [
                ("y", 0, ""), ("y", 1, "5 6"), ('ä"x', 0, "1 2"), ('ä"x', 1, "3 4"),
            ]  # fmt: skip
            assert [row[:2] for row in each.rows([], keys)] == keys


class TestOverlay:
    def test_images_of_any_size_and_folders(self, trained, data, tmp_path):
        folder = tmp_path / "images"
        folder.mkdir()
        for name, size in (("small.png", (40, 30)), ("wide.jpg", (301, 77)), ("gray.bmp", (64, 200))):
            Image.new("L" if name == "gray.bmp" else "RGB", size, 128).save(folder / name)
        images = [data / "test" / "omega_01.jpg", folder, folder / "wide.jpg"]
        paths = list(write_overlays(trained, images, tmp_path / "out"))
        assert [path.name for path in paths] == [
            "omega_01_overlay.jpg", "gray_overlay.jpg", "small_overlay.jpg", "wide_overlay.jpg", "wide-2_overlay.jpg",
        ]  # fmt: skip
        assert Image.open(tmp_path / "out" / "wide_overlay.jpg").size == (301, 77)
        mask = np.asarray(Image.open(tmp_path / "out" / "omega_01_mask.png"))
        assert set(np.unique(mask)) == {0, 255}
        assert 0.05 < (mask > 0).mean() < 0.5

    def test_missing_images_are_named(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match="empty: has no image"):
            list_images([tmp_path / "empty"])
        with pytest.raises(UserError, match=r"none\.jpg: no such file"):
            list_images([tmp_path / "none.jpg"])
