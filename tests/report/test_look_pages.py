"""The pages of a submission, of two submissions and of two recipes in a real browser."""

import contextlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.rle import mask_to_rle, rle_to_mask
from pipeline.data.samples import load_test_samples
from pipeline.errors import UserError
from pipeline.models.checkpoint import load_weights, save_weights
from pipeline.paths import fold_run, oof_csv, runs_folder, submission_doubts
from pipeline.recipe import InputConfig
from pipeline.report.oof import write_oof_report
from pipeline.report.recipes_page import training_differences, write_recipe_comparison
from pipeline.report.run_data import load_run_data
from pipeline.report.submission_report import write_submission_report
from pipeline.submission.doubts import write_doubts
from tests.helpers import TINY_FORMAT, changed_competition
from tests.report.conftest import serious_violations

pytestmark = pytest.mark.slow
SHAPE = (62, 94)
DAMAGED = "omega_04.jpg"


@pytest.fixture(scope="module")
def named(competition):
    """The tiny competition with a property of its images."""
    return changed_competition(competition, attributes={"pattern": "_(?P<view>[0-9]+)$"})


@pytest.fixture(scope="module")
def pages(named, recipe, untouched_data, untouched_table, untouched_runs, tmp_path_factory):
    """A folder like the repository with the pages of a damaged submission, of two, and of two recipes. Read only."""
    root = tmp_path_factory.mktemp("looks")
    data = Path(shutil.copytree(untouched_data, root / "data"))
    truth = next(row.rle for row in read_mask_csv(data / "solution.csv", TINY_FORMAT))
    rows = {f"omega_{view:02}.jpg": truth for view in range(1, 9)}
    for id in rows:
        shutil.copy(untouched_data / "test" / "omega_01.jpg", data / "test" / id)
    for path in (data / "sample_submission.csv", root / "good.csv"):
        write_mask_csv(path, TINY_FORMAT, ((id, 0, rle) for id, rle in rows.items()))
    hole = rle_to_mask(truth, SHAPE).copy()
    y, x = (int(axis.mean()) for axis in np.nonzero(hole))
    hole[y - 4 : y + 4, x - 6 : x + 6] = False
    hole[2:5, 2:6] = True
    rows |= {DAMAGED: mask_to_rle(hole)}
    write_mask_csv(root / "bad.csv.gz", TINY_FORMAT, ((id, 0, rle) for id, rle in rows.items()))
    write_doubts(submission_doubts(root / "bad.csv.gz"), {(id, 0): 0.0123 for id in rows})
    small = recipe.model_copy(update={"name": "small", "input": InputConfig(size=(40, 32))})
    with contextlib.chdir(root):
        for one in (recipe, small):
            runs = runs_folder("tiny", one.name)
            for fold in (0, 1):
                model, _, metadata = load_weights(fold_run(untouched_runs, fold).weights)
                save_weights(fold_run(runs, fold).weights, model, one, metadata)
            write_oof_report(named, [one], Path("data"), untouched_table, [runs], [0, 1], runs)
        assert write_submission_report(named, Path("data"), [Path("bad.csv.gz")]) == report("submission-bad")
        pair = [Path("good.csv"), Path("bad.csv.gz")]
        assert write_submission_report(named, Path("data"), pair) == report("submission-good-vs-bad")
        assert write_recipe_comparison(named, Path("data"), ["tiny", "small"]) == report("tiny-tiny-vs-small")
    return root


def report(name: str) -> Path:
    return Path("reports") / name / "index.html"


NAMES = ("submission-bad", "submission-good-vs-bad", "tiny-tiny-vs-small")


def test_the_damaged_mask_is_first_with_its_reasons(pages, new_page):
    page = new_page(java_script_enabled=False)
    page.goto((pages / report("submission-bad")).as_uri())
    text = page.inner_text("#summary")
    assert re.search(r"stand out clearly\s+1\s+of 8", text)
    assert "0.0123 Dice" in text
    first = page.locator(".card").first.inner_text()
    assert DAMAGED in first
    assert "1 hole, " in first
    assert "2 pieces, " in first
    assert "unusual place or size" in first
    assert page.locator(".worst li").first.inner_text().endswith(DAMAGED)
    assert "the model expects to lose 0.012 Dice" in page.locator(".card").nth(1).inner_text()


def test_reasons_filter_and_marks_are_painted(pages, page):
    page.goto((pages / report("submission-bad")).as_uri())
    assert page.locator("#order option").all_inner_texts()[0] == "most suspicious first"
    page.select_option("#set", "Holes")
    assert page.locator(".card").count() == 1
    page.click(".card .open")
    page.wait_for_selector("dialog[open]")
    assert page.locator("#views button").all_inner_texts() == ["Mask", "Outline", "Photo"]
    page.evaluate("scale = 2; left = top_ = 0; draw()")
    count = """color => {
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      let count = 0;
      for (let i = 0; i < pixels.length; i += 4) count += color.every((value, n) => Math.abs(pixels[i + n] - value) < 3);
      return count;
    }"""
    assert page.evaluate(count, [255, 200, 0]) == 4 * 8 * 12, "the hole"
    assert page.evaluate(count, [0, 220, 255]) >= 4 * 1 * 2, "the inside of the piece apart"


def test_two_submissions_begin_with_the_largest_difference(pages, page):
    page.goto((pages / report("submission-good-vs-bad")).as_uri())
    text = page.inner_text("#summary")
    assert "The masks of 1 of 8 images differ clearly (Dice below 0.98), those of 7 are the same." in text
    assert DAMAGED in page.locator(".card").first.inner_text()
    assert "only good" in page.inner_text(".legend >> nth=0")
    page.select_option("#set", "Differ clearly")
    assert page.locator(".card").count() == 1


def test_two_recipes_show_the_paired_difference(pages, named, page):
    page.goto((pages / report("tiny-tiny-vs-small")).as_uri())
    with contextlib.chdir(pages):
        before, after = (load_run_data(named, name, Path("data")) for name in ("tiny", "small"))
        assert training_differences(before, after) == ["input.size: [64, 48] / [40, 32]"]
    difference = after.table.score.mean() - before.table.score.mean()
    text = page.inner_text("main")
    assert f"{difference:+.5f}" in text
    for chart in ("Difference of each fold", "Difference of single images", "Difference by view"):
        assert chart in text
    changes = (after.table.set_index("id").score - before.table.set_index("id").score).abs()
    assert changes.idxmax() in page.locator(".card").first.inner_text()
    assert "input.size: [64, 48] / [40, 32]" in text
    sets = page.locator("#set option").all_inner_texts()
    assert {"Got worse", "Got better"} & set(sets)
    page.click(".card .open")
    page.wait_for_selector("dialog[open]")
    assert "What changed" in page.inner_text("#views [aria-pressed=true]")


@pytest.mark.parametrize(
    ("name", "width", "scheme"), zip(NAMES, (390, 1600, 390), ("light", "light", "dark"), strict=True)
)
def test_accessible_without_sideways_scrolling(pages, new_page, name, width, scheme):
    page = new_page(width=width, color_scheme=scheme)
    page.goto((pages / report(name)).as_uri())
    assert (pages / report(name)).stat().st_size < 5e6
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_mistakes_get_one_sentence(pages, named, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(pages, tmp_path / "copy"))
    data, good = Path("data"), Path("good.csv")
    for count in (0, 3):
        with pytest.raises(UserError, match=rf"names {count} files; give one, or two"):
            write_submission_report(named, data, [good] * count)
    for recipes in ([], ["tiny"], ["tiny", "tiny"]):
        with pytest.raises(UserError, match="give two recipes"):
            write_recipe_comparison(named, data, recipes)
    with pytest.raises(UserError, match="this recipe is not evaluated"):
        write_recipe_comparison(named, data, ["tiny", "none"])
    table = oof_csv(runs_folder("tiny", "small"))
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UserError, match="has not the same images as"):
        write_recipe_comparison(named, data, ["tiny", "small"])
    load_test_samples(named, data)[0].image.unlink()
    with pytest.raises(UserError, match=r"has no image omega_01\.jpg, which a submission must have"):
        write_submission_report(named, data, [good])
