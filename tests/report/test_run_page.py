"""The page of a run in a real browser: the figures of its evaluation, with and without JavaScript, at all sizes."""

import contextlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.paths import analysis_json, evaluation_json, oof_csv, runs_folder
from pipeline.report.oof import write_oof_report
from pipeline.report.run_data import load_run_data
from pipeline.report.run_page import list_facts, write_run_report
from tests.helpers import changed_competition
from tests.report.conftest import serious_violations

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def named(competition):
    """The tiny competition with properties of its images."""
    settings = {"csv": "cars.csv", "key": "group", "columns": ["make"], "pattern": "_(?P<view>[0-9]+)$"}
    return changed_competition(competition, attributes=settings)


@pytest.fixture(scope="module")
def evaluated(named, recipe, untouched_data, untouched_table, untouched_runs, tmp_path_factory):
    """A folder like the repository with data, and the tiny recipe trained, evaluated and reported. Read only."""
    root = tmp_path_factory.mktemp("evaluated")
    data = Path(shutil.copytree(untouched_data, root / "data"))
    (data / "cars.csv").write_text("id,make\nalpha,<i>A</i>\nbeta,B & B\ngamma,B & B\n")
    with contextlib.chdir(root):
        runs = Path(shutil.copytree(untouched_runs, runs_folder("tiny", "tiny")))
        write_oof_report(named, [recipe], Path("data"), untouched_table, [runs], [0, 1], runs)
        write_run_report(named, "tiny", Path("data"), price=6.0)
    return root


@pytest.fixture
def report(evaluated):
    """The page of the tiny run."""
    return evaluated / "reports" / "tiny" / "index.html"


@pytest.fixture
def load(named, evaluated, tmp_path, monkeypatch):
    """Read the run in a copy of the folder."""
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return lambda: load_run_data(named, "tiny", Path("data"))


def test_page_shows_the_figures_of_the_evaluation_without_javascript(report, load, new_page):
    assert report.stat().st_size < 5e6
    run = load()
    page = new_page(java_script_enabled=False)
    page.goto(report.as_uri())
    text = page.inner_text("main")
    score = run.evaluation.score
    for value in (score.value, score.low, score.high, *run.evaluation.score_by_fold.values()):
        assert f"{value:.5f}" in text
    for heading in ("fold", "single images", "make", "view", "the threshold"):
        assert re.search(rf"Dice (of|by|against) (each )?{heading}", text)
    for heading in ("Lost Dice by distance", "Calibration", "What flips and thresholds bring", "Training loss"):
        assert heading in text
    # Names of makes are texts, not markup.
    assert page.locator("svg text", has_text="<i>A</i>").count() == 1
    numbers = page.locator("figure", has_text="Dice of each fold").locator("tbody tr").all_text_contents()
    assert [row[: len("fold 0")].strip() for row in numbers][1:] == ["fold 0", "fold 1"]
    assert page.locator(".card").count() == len(run.table)


def test_facts_name_hardware_time_and_cost(load):
    run = load()
    facts = dict(list_facts(run))
    assert run.trainings[0].metadata.hardware in facts["Hardware"]
    assert "images per second" in facts["Speed"]
    assert "Cost" not in facts
    slow = replace(run.trainings[0], metadata=replace(run.trainings[0].metadata, minutes="90"))
    facts = dict(list_facts(replace(run, trainings=(slow, slow)), price=6.0))
    assert facts["Training time"] == "180 minutes for 2 trainings, 90.0 each"
    assert facts["Cost"] == "18.00, at 6 per hour"


def test_filters_of_properties_and_links_work(report, page, evaluated):
    page.goto(report.as_uri())
    assert page.locator(".worst li").count() == 4
    page.select_option("[data-filter=make]", "B & B")
    assert page.inner_text("#count") == "6 of 12 images"
    page.select_option("[data-filter=view]", "02")
    assert page.inner_text("#count") == "2 of 12 images"
    page.click("#reset")
    page.locator(".worst a").first.click()
    page.wait_for_selector("dialog[open]")
    link = page.evaluate("document.querySelector('#viewer-about a').href")
    assert link == (evaluated / "data" / "train" / page.inner_text("#viewer-title")).as_uri()
    assert page.goto(link).ok


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1600, "dark")])
def test_page_is_accessible_at_all_sizes(report, new_page, width, scheme):
    page = new_page(width=width, color_scheme=scheme)
    page.goto(report.as_uri())
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_charts_follow_the_colors_of_the_page_and_share_no_ids(report, page):
    text = report.read_text()
    assert not re.search(r"#0000[01]\d", text), "no stand-in for a color is left"
    page.goto(report.as_uri())
    assert page.evaluate("""() => {
      const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
      return ids.filter((id, place) => ids.indexOf(id) !== place);
    }""") == []  # fmt: skip
    colors = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colors.append(page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill"))
    assert colors[0] != colors[1]


def test_reports_of_missing_or_old_evaluations_say_what_to_do(load):
    runs = runs_folder("tiny", "tiny")
    analysis_json(runs).unlink()
    with pytest.raises(UserError, match=r"older version.*delete .*evaluation\.json and run `make evaluate"):
        load()
    evaluation_json(runs).unlink()
    with pytest.raises(UserError, match="is missing: this recipe is not evaluated"):
        load()


def test_images_that_are_gone_are_named(load):
    table = oof_csv(runs_folder("tiny", "tiny"))
    table.write_text(table.read_text().replace("alpha_01", "alpha_99"))
    with pytest.raises(UserError, match=r"has no image alpha_99\.jpg"):
        load()
