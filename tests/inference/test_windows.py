"""Images predicted in windows give what whole images give, in memory for one row of windows."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.data.labels import LabelReader
from pipeline.data.readers import ImageReader
from pipeline.data.rle import rle_format, rle_to_mask
from pipeline.data.samples import load_test_samples, load_training_samples
from pipeline.data.window_reader import WindowReader
from pipeline.errors import UserError
from pipeline.inference.broken import BrokenImages
from pipeline.inference.ensemble import Ensemble, EnsembleMember
from pipeline.inference.postprocess import default_postprocess, make_postprocess
from pipeline.inference.stream import predict_probabilities, predict_rows
from pipeline.inference.windows import predict_bands, predict_window_rows
from tests.helpers import changed_competition, changed_recipe
from tests.inference.models import CPU, Constant, Redness, Slope

SIZE = (32, 24)


def member(model, recipe, flips=("none",)):
    return EnsembleMember(Ensemble([model], flips, CPU), changed_recipe(recipe, input__size=SIZE))


@pytest.fixture
def competition_in_windows(competition):
    return lambda **keys: changed_competition(
        competition, windows={"size": SIZE, **keys}, masks__may_be_empty=True, csv__order="column"
    )


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.7])
def test_what_depends_on_single_pixels_is_the_same_as_for_the_whole_image(
    competition_in_windows, data, recipe, overlap
):
    chosen = competition_in_windows(overlap=overlap)
    samples = load_test_samples(chosen, data)
    windows = WindowReader(chosen, LabelReader(chosen))
    members = [member(Redness(), recipe, ("none", "horizontal")), member(Constant(1.0), recipe)]
    whole = changed_recipe(recipe, input__size=(94, 62))
    expected = predict_probabilities(
        [EnsembleMember(each.ensemble, whole) for each in members], samples, unflipped=True
    )
    for sample, item in zip(samples, expected, strict=True):
        bands = list(predict_bands(members, sample, windows, unflipped=True))
        assert [band.window.top for band in bands] == np.cumsum(
            [0, *(band.window.height for band in bands[:-1])]
        ).tolist()
        for number in range(2):
            joined = torch.cat([band.by_member[number] for band in bands], dim=1)
            assert torch.allclose(joined, item.by_member[number], atol=1e-5)
            plain = torch.cat([band.unflipped[number] for band in bands], dim=1)
            assert torch.allclose(plain, item.unflipped[number], atol=1e-5)


def test_no_seam_is_visible_where_windows_overlap(competition_in_windows, data, recipe):
    """A prediction that changes from edge to edge of a window is blended without a step."""
    chosen = competition_in_windows(overlap=0.5)
    windows = WindowReader(chosen, LabelReader(chosen))
    sample = load_test_samples(chosen, data)[0]
    bands = predict_bands([member(Slope(), recipe)], sample, windows)
    joined = torch.cat([band.by_member[0] for band in bands], dim=1)[0]
    step = torch.sigmoid(torch.tensor(1.0)) - torch.sigmoid(torch.tensor(-1.0))  # side by side without a blend
    assert joined.diff(dim=1).abs().max() < 0.3 * step
    assert joined.shape == (62, 94)


@pytest.mark.parametrize("min_area", [0.0, 0.9])
def test_rows_are_those_of_whole_images(competition_in_windows, data, recipe, min_area):
    chosen = competition_in_windows()
    samples = load_test_samples(chosen, data)
    members = [member(Redness(), recipe)]
    postprocess = make_postprocess(chosen, [0.4], [min_area])
    doubts: dict[str, list[float]] = {}
    rows = list(predict_window_rows(members, samples, chosen, postprocess, None, BrokenImages(), doubts))
    whole = [EnsembleMember(members[0].ensemble, changed_recipe(recipe, input__size=(94, 62)))]
    expected_doubts: dict[str, list[float]] = {}
    expected = list(predict_rows(whole, samples, chosen, postprocess, doubts=expected_doubts))
    assert [id for id, _ in rows] == [id for id, _ in expected]
    for (_, found), (_, wanted) in zip(rows, expected, strict=True):
        masks = [rle_to_mask(text[0][1], (62, 94), rle_format(chosen)) for text in (found, wanted)]
        assert (masks[0] != masks[1]).mean() < 0.001, "sums of weights round differently"
        assert masks[1].any() == (min_area == 0)
    assert doubts.keys() == expected_doubts.keys()
    if min_area == 0:
        for id, doubt in doubts.items():
            assert doubt == pytest.approx(expected_doubts[id], rel=0.05)


def test_a_broken_image_costs_its_own_row(competition_in_windows, data, recipe):
    chosen = competition_in_windows()
    samples = load_test_samples(chosen, data)
    samples[1].image.write_bytes(samples[1].image.read_bytes()[:300])
    broken = BrokenImages()
    postprocess = default_postprocess(chosen, 0.5)
    rows = predict_window_rows([member(Redness(), recipe)], samples, chosen, postprocess, None, broken, {})
    assert [id for id, _ in rows] == [samples[0].id, samples[2].id]
    assert list(broken.unreadable) == [samples[1].id]


def test_a_broken_image_is_predicted_from_its_replacement(competition_in_windows, data, recipe):
    chosen = competition_in_windows()
    samples = load_test_samples(chosen, data)
    copy = data / "copy.jpg"
    copy.write_bytes(samples[1].image.read_bytes())
    whole = samples[1].image.read_bytes()

    def predict(samples):
        broken = BrokenImages()
        postprocess = default_postprocess(chosen, 0.5)
        rows = dict(predict_window_rows([member(Redness(), recipe)], samples, chosen, postprocess, None, broken, {}))
        assert not broken.unreadable
        return rows

    expected = predict(samples)
    samples[1].image.write_bytes(whole[:300])
    samples[1] = replace(samples[1], replacement=copy)
    assert predict(samples) == expected


def test_an_image_of_another_size_than_the_competition_states_is_refused(competition_in_windows, data, recipe):
    chosen = changed_competition(competition_in_windows(), images__size=(10, 10))
    samples, broken = load_test_samples(chosen, data), BrokenImages()
    postprocess = default_postprocess(chosen, 0.5)
    assert not list(predict_window_rows([member(Redness(), recipe)], samples, chosen, postprocess, None, broken, {}))
    assert len(broken.unreadable) == len(samples)
    assert "all images of this competition are 10×10" in broken.unreadable[samples[0].id]


def test_an_error_of_the_model_is_not_taken_for_a_broken_image(competition_in_windows, data, recipe):
    chosen = competition_in_windows()
    rows = predict_window_rows(
        [member(Constant(float("nan")), recipe)], load_test_samples(chosen, data), chosen,
        default_postprocess(chosen, 0.5), None, BrokenImages(), {},
    )  # fmt: skip
    with pytest.raises(UserError, match="not finite"):
        list(rows)


def test_a_block_is_predicted_from_its_own_pixels(competition_in_windows, data, recipe):
    chosen = competition_in_windows(blocks=(2, 2), margin=8)
    windows = WindowReader(chosen, LabelReader(chosen))
    sample = load_training_samples(chosen, data)[3]
    region, image = windows.region(sample), ImageReader(chosen).read(sample)
    bands = list(predict_bands([member(Redness(), recipe)], sample, windows))
    joined = torch.cat([band.by_member[0] for band in bands], dim=1)[0].numpy()
    part = image[region.top : region.bottom, region.left : region.right].astype(float)
    assert np.allclose(joined, 1 / (1 + np.exp(-(part[..., 0] - part[..., 2]) / 20)), atol=1e-4)


MEMORY = """
import re
from pathlib import Path
import numpy as np
import torch
from pipeline.data.windows import Window
from pipeline.inference.ensemble import Ensemble, EnsembleMember
from pipeline.inference.windows import predict_bands
from pipeline.recipe import load_recipe
from tests.inference.models import CPU, Constant

class Config:
    size, overlap = (512, 512), 0.25

class Windows:
    config = Config()
    def __init__(self, height): self.height = height
    def region(self, sample): return Window(0, 0, 4096, self.height)
    def read_image(self, sample, window, size): return np.zeros((size[1], size[0], 3), np.uint8)

recipe = load_recipe("quick", ["input.size=[64, 64]", "train.resize_schedule=[]"])
member = EnsembleMember(Ensemble([Constant(0.5)], ("none",), CPU), recipe)
peaks = []
for height in (4096, 32768):
    rows = sum(band.window.height for band in predict_bands([member], None, Windows(height)))
    assert rows == height
    peaks.append(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]))
print(peaks[1] - peaks[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_height_of_an_image():
    """The probabilities of the larger image would take 512 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60_000, "KiB"


def test_a_signal_stops_within_an_image(competition_in_windows, data, recipe):
    chosen = competition_in_windows()
    asked = []
    rows = predict_window_rows(
        [member(Redness(), recipe)], load_test_samples(chosen, data), chosen, default_postprocess(chosen, 0.5), None,
        BrokenImages(), {}, lambda: asked.append(1) or len(asked) == 2,
    )  # fmt: skip
    assert list(rows) == []
    assert len(asked) == 2
