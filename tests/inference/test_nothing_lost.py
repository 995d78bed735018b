"""Nothing is lost: stopped predictions, several at once, broken images, and sample submissions that are cut."""

import json
import logging
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.competition import Competition
from pipeline.data.headers import read_headers
from pipeline.data.mask_csv import read_mask_csv
from pipeline.data.readers import ImageReader
from pipeline.data.rle import mask_to_rle, rle_format, rle_to_mask
from pipeline.data.samples import load_test_samples
from pipeline.errors import UserError
from pipeline.inference import submission
from pipeline.inference.broken import BrokenImagesError, fallback_rows
from pipeline.inference.ensemble import Ensemble, load_ensemble_member
from pipeline.inference.overlay import write_overlays
from pipeline.inference.spool import RowSpool
from pipeline.inference.submission import write_submission
from pipeline.paths import fold_run, partial_sample, rejected_submission, submission_lock, submission_spool
from pipeline.recipe import Recipe
from pipeline.submission.check import check_submission
from pipeline.submission.shapes import expected_shapes
from tests.helpers import SIZE, TINY_FORMAT, changed_competition, changed_recipe
from tests.inference.models import CPU

BROKEN = b"\xff\xd8 nothing"


def read_rows(path: Path) -> dict[str, str]:
    return {row.id: row.rle for row in read_mask_csv(path, TINY_FORMAT)}


@pytest.fixture
def predict(competition, recipe, data, trained, tmp_path):
    """Predict the tiny competition with one fold; returns whether it finished."""

    def run(out: Path = tmp_path / "s.csv", competition: Competition = competition, **options) -> bool:
        weights = [[fold_run(trained, 0).weights]]
        return write_submission(competition, [recipe], data, weights, out, **options)

    return run


# ---- several predictions at once


def test_a_second_prediction_of_the_same_file_is_refused(predict, tmp_path):
    out = tmp_path / "s.csv"
    messages = []
    add = RowSpool.add

    def add_while_another_starts(self, *arguments):
        if not messages:
            messages.append("")
            with pytest.raises(UserError, match=r"another process is predicting s\.csv; wait until it has finished"):
                predict(out)
        add(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowSpool, "add", add_while_another_starts)
        assert predict(out)
    assert messages
    assert len(read_rows(out)) == 3
    assert not submission_lock(out).exists()


def test_rows_that_two_processes_have_mixed_are_predicted_again(tmp_path):
    path = tmp_path / "rows"
    with RowSpool(path, {}) as spool:
        spool.add("x", [(0, "1 2")])
        spool.add("x", [(0, "1 2")])
        spool.add("y", [(0, "3 4")])
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = [b'["z",[[0,"1 2 ["a",[[0,"5 6"]]]\n', b"3 4\n", b"\xff\n", b'["z",[[0]]]\n', b'["z",7]\n']
    path.write_bytes(b"".join([*lines[:3], *damaged, *lines[3:]]))
    spool = RowSpool(path, {})
    assert set(spool.done) == {"x", "y"}
    assert list(spool.rows(["y", "x"])) == [("y", 0, "3 4"), ("x", 0, "1 2")]


# ---- signals


@pytest.mark.parametrize(
    ("number", "error", "code"), [(signal.SIGTERM, SystemExit, 143), (signal.SIGINT, KeyboardInterrupt, None)]
)
def test_a_signal_keeps_the_finished_rows(predict, tmp_path, monkeypatch, caplog, number, error, code):
    caplog.set_level(logging.INFO)
    before = signal.getsignal(number)
    add = RowSpool.add
    monkeypatch.setattr(RowSpool, "add", lambda *a: add(*a) or os.kill(os.getpid(), number))
    with pytest.raises(error) as caught:
        predict()
    assert getattr(caught.value, "code", None) == code
    assert re.search(r"s\.csv: stopped at [12] of 3 rows; the same command resumes", caplog.text)
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    kept = submission_spool(tmp_path / "s.csv").read_bytes().count(b"\n") - 1
    assert kept in (1, 2)
    assert f"stopped at {kept} of 3" in caplog.text
    assert predict()
    assert f"resumes after {kept} finished rows" in caplog.text


def test_sigterm_while_the_file_is_checked_keeps_the_rows(predict, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(
        submission, "check_submission", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(9)
    )
    with pytest.raises(SystemExit) as caught:
        predict()
    assert caught.value.code == 143
    assert "stopped at 3 of 3 rows; the same command resumes" in caplog.text
    assert submission_spool(tmp_path / "s.csv").exists()


def test_prediction_runs_in_a_thread_where_signals_cannot_be_handled(predict):
    results = []
    thread = threading.Thread(target=lambda: results.append(predict()))
    thread.start()
    thread.join()
    assert results == [True]


# ---- the sample submission


def test_a_sample_that_lacks_images_is_refused_before_the_start(predict, competition, data, caplog):
    sample = data / "sample_submission.csv"
    sample.write_text("\n".join(sample.read_text().splitlines()[:2]) + "\n")
    message = r"sample_submission\.csv: has no row for 2 of 3 test images, such as omega_0[12]\.jpg; download it again"
    with pytest.raises(UserError, match=message):
        predict()
    with pytest.raises(UserError, match=message):
        expected_shapes(competition, data)
    assert "images:" not in caplog.text
    notebook = changed_competition(competition, notebook={"minutes": 60, "images": 5})
    assert predict(competition=notebook)
    assert "only the images that it names are predicted" in caplog.text
    partial_sample(data).touch()
    assert predict()


def test_an_incomplete_test_set_is_a_warning(predict, competition, data, caplog):
    warning = f"{data}: has 3 of the 400 test images (images.test_count)"
    incomplete = changed_competition(competition, images__test_count=400)
    assert predict(competition=incomplete)
    assert warning in caplog.text
    caplog.clear()
    expected_shapes(incomplete, data)
    assert warning in caplog.text, "as before an upload"
    caplog.clear()
    expected_shapes(incomplete, data, data / "solution.csv")
    assert predict(competition=changed_competition(competition, images__test_count=3))
    partial_sample(data).touch()
    expected_shapes(incomplete, data)
    assert "test_count" not in caplog.text


# ---- broken images


@pytest.mark.parametrize("fault", ["header", "pixels", "size"])
@pytest.mark.parametrize("stated_size", [True, False])
def test_a_broken_image_costs_its_own_row_only(predict, competition, data, tmp_path, caplog, fault, stated_size):
    image, out = data / "test" / "omega_02.jpg", tmp_path / "s.csv"
    if fault == "size" and not stated_size:
        pytest.skip("images may have any size")
    good = image.read_bytes()
    assert predict(tmp_path / "good.csv")
    if fault == "size":
        Image.new("RGB", (90, 62)).save(image)
    else:
        image.write_bytes(BROKEN if fault == "header" else good[: len(good) // 2])
    changed = changed_competition(competition, images__size=SIZE if stated_size else None)
    message = r"rejected-s\.csv: 1 of 3 images cannot be predicted .* or set ALLOW_BROKEN=1"
    with pytest.raises(BrokenImagesError, match=message) as caught:
        predict(out, changed)
    assert caught.value.exit_code == 3
    assert "1 images cannot be predicted:\n" in caplog.text
    assert "omega_02.jpg: " in caplog.text
    assert not out.exists()
    rows, expected = read_rows(rejected_submission(out)), read_rows(tmp_path / "good.csv")
    assert {id for id in rows if rows[id] != expected[id]} == {"omega_02.jpg"}

    assert predict(out, changed, allow_broken=True)
    assert read_rows(out) == rows
    assert json.loads((tmp_path / "s.json").read_text())["filled"] == ["omega_02.jpg"]
    assert check_submission(out, changed, expected_shapes(changed, data)).good

    with pytest.raises(BrokenImagesError):
        predict(tmp_path / "repaired.csv", changed)
    image.write_bytes(good)
    predicted = []
    add = RowSpool.add
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowSpool, "add", lambda self, id, *rest: predicted.append(id) or add(self, id, *rest))
        assert predict(tmp_path / "repaired.csv", changed)
    assert predicted == ["omega_02.jpg"], "the other rows are kept"
    assert read_rows(tmp_path / "repaired.csv") == expected


def test_a_broken_image_is_predicted_from_its_replacement(predict, competition, data, tmp_path, caplog):
    image = data / "test" / "omega_02.jpg"
    assert predict(tmp_path / "good.csv")
    image.rename(data / "omega_02.jpg")
    image.write_bytes(BROKEN)
    loose = {"files": [{"name": "omega_02.jpg", "to": "test/omega_02.jpg", "mb": 1}]}
    assert predict(competition=changed_competition(competition, download=loose))
    assert (tmp_path / "s.csv").read_text() == (tmp_path / "good.csv").read_text()
    assert re.search(r"omega_02\.jpg: cannot be decoded .*; predicted from .*data/omega_02\.jpg", caplog.text)


@pytest.mark.parametrize("order", ["row", "column"])
def test_fallback_rows_are_empty_where_they_may_be_and_plausible_elsewhere(competition, order):
    def mask(size, **changes):
        changed = changed_competition(competition, csv__order=order, **changes)
        ((index, text),) = fallback_rows(changed, size)
        assert index == 0
        found = rle_to_mask(text, size[::-1], rle_format(changed))
        assert text == mask_to_rle(found, rle_format(changed)), "runs that touch are one"
        return found

    assert not mask(SIZE, masks__may_be_empty=True).any()
    box = mask((200, 100), masks__area=(0.1, 0.3))
    rows, columns = np.nonzero(box)
    assert box.mean() == pytest.approx(0.2, abs=0.005)
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == pytest.approx((99, 199), abs=1)
    assert mask((2, 2), masks__area=(0.0, 1e-6)).sum() == 1
    assert mask((1, 9), masks__area=(0.9, 1.0)).all()


def test_damage_inside_a_jpeg_is_warned_about(predict, data, tmp_path, caplog):
    image = data / "test" / "omega_02.jpg"
    content = image.read_bytes()
    middle = len(content) // 2
    image.write_bytes(content[:middle] + bytes(200) + content[middle + 200 :])
    assert predict()
    assert "1 damaged images are predicted as they decode:\n" in caplog.text
    assert re.search(r"omega_02\.jpg: Corrupt JPEG data", caplog.text)


def test_headers_are_described_before_the_start(competition, data):
    Image.new("RGB", (90, 62)).save(data / "test" / "omega_03.jpg")
    (data / "test" / "omega_02.jpg").write_bytes(BROKEN)
    headers = read_headers(load_test_samples(competition, data), ImageReader())
    assert re.fullmatch(
        r"3 images: 1 of 94×62, 1 of 90×62; 1 headers cannot be read, such as .*omega_02\.jpg", headers.describe()
    )
    (data / "test" / "omega_01.jpg").write_bytes(BROKEN)
    (data / "test" / "omega_03.jpg").write_bytes(BROKEN)
    headers = read_headers(load_test_samples(competition, data), ImageReader())
    assert headers.describe().startswith("3 images: none can be opened; 3 headers cannot be read")
    with pytest.raises(UserError, match="cannot be opened"):
        headers.usual_size()


# ---- the memory of a GPU


def test_a_full_gpu_is_one_sentence(predict, data, trained, tmp_path, monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Ensemble, "_predict_part", full)
    with pytest.raises(UserError, match=r"a batch of 1 does not fit into the memory of this GPU; predict on the CPU"):
        predict()
    with pytest.raises(UserError, match=r"weights\.safetensors: a batch of 1 does not fit .*; predict on the CPU"):
        list(write_overlays(fold_run(trained, 0).folder, [data / "test" / "omega_01.jpg"], tmp_path))


def test_a_batch_that_does_not_fit_is_halved(trained, monkeypatch):
    (ensemble, *_), _ = load_ensemble_member([fold_run(trained, 0).weights], CPU)
    images = torch.randint(0, 256, (7, 3, SIZE[1], SIZE[0]), dtype=torch.uint8)
    expected = ensemble.predict(images)
    sizes: list[int] = []
    whole = Ensemble._predict_part

    def full_above_two(self, part):
        sizes.append(len(part))
        if len(part) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(self, part)

    monkeypatch.setattr(Ensemble, "_predict_part", full_above_two)
    for _ in range(2):
        for found, wanted in zip(ensemble.predict(images), expected, strict=True):
            assert (found is None and wanted is None) or torch.allclose(found, wanted, atol=1e-3)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1, *[1] * 7]


def test_the_same_weights_trained_again_keep_finished_rows(predict, recipe: Recipe, trained, tmp_path, caplog):
    from dataclasses import replace

    from pipeline.models.checkpoint import load_weights, save_weights

    caplog.set_level(logging.INFO)
    assert not predict(minutes=0.0)
    path = fold_run(trained, 0).weights
    model, trained_recipe, metadata = load_weights(path)
    save_weights(path, model, changed_recipe(trained_recipe, train__epochs=9), replace(metadata, commit="later"))
    assert predict()
    assert "resumes after" in caplog.text
