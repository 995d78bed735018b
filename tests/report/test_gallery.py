"""The gallery in a real browser: filters, order, keys, slider, zoom, and images beside the page."""

from functools import partial

import numpy as np
import pytest
from PIL import Image

from pipeline.report.gallery import GalleryItem, build_gallery
from pipeline.report.page import write_page
from pipeline.report.views import MaskNames
from tests.helpers import draw_ellipse
from tests.report.conftest import serious_violations

pytestmark = pytest.mark.slow
HOSTILE = "<b onerror='x'>&\"</script> 1"


def ellipse_masks(seed: int, shift: int) -> np.ndarray:
    return np.roll(draw_ellipse(np.random.default_rng(seed), (300, 200))[1], shift, axis=1)[None]


def make_items(folder, count: int, other: bool = False) -> list[GalleryItem]:
    items = []
    for number in range(count):
        image = folder / f"photo {number}.jpg"
        Image.fromarray(draw_ellipse(np.random.default_rng(number), (300, 200))[0]).save(image)
        items.append(
            GalleryItem(
                id=f"image{number:02}" if number else HOSTILE,
                image=image,
                group=f"group{number // 2}",
                fold=number % 2,
                score=0.9 + number / 1000,
                truth=partial(ellipse_masks, number, 0),
                predicted=partial(ellipse_masks, number, 4),
                other=partial(ellipse_masks, number, 2) if other else None,
                notes=("many pieces",) if number == 1 else (),
                sets=("Worst",) if number < 3 else ("Best",),
                attributes={"view": str(number % 3)},
            )
        )
    return items


GALLERY_PAGE = """{% extends "page.html" %}{% from "gallery.html" import gallery_section, gallery_script %}
{% block content %}<h2>Images</h2>{{ gallery_section(gallery) }}{% endblock %}
{% block scripts %}{{ gallery_script(gallery) }}{% endblock %}"""


def write_gallery(folder, monkeypatch, items, more=(), **options):
    """Write a page with nothing but a gallery."""
    from pipeline.report import page as module

    templates = folder / "templates"
    templates.mkdir(exist_ok=True)
    for path in module.TEMPLATES.iterdir():
        (templates / path.name).write_bytes(path.read_bytes())
    (templates / "only.html").write_text(GALLERY_PAGE)
    monkeypatch.setattr(module, "TEMPLATES", templates)
    path = folder / "report" / "index.html"
    write_page(path, "only.html", title="Gallery", gallery=build_gallery(items, path.parent, more=more, **options))
    return path


@pytest.fixture
def gallery_page(tmp_path, monkeypatch, page):
    path = write_gallery(tmp_path, monkeypatch, make_items(tmp_path, 12))
    page.goto(path.as_uri())
    return page


def names(page) -> list[str]:
    return [card.get_attribute("data-id") for card in page.query_selector_all(".card")]


def test_filters_filter_and_orders_order(gallery_page):
    assert names(gallery_page)[:2] == [HOSTILE, "image01"]
    gallery_page.select_option("#set", "Best")
    assert len(names(gallery_page)) == 9
    gallery_page.select_option("[data-filter=Fold]", "1")
    assert names(gallery_page) == ["image03", "image05", "image07", "image09", "image11"]
    gallery_page.select_option("#order", "best first")
    gallery_page.fill("#high", "0.908")
    assert names(gallery_page) == ["image07", "image05", "image03"]
    assert gallery_page.inner_text("#count") == "3 of 12 images"
    gallery_page.select_option("[data-filter=view]", "0")
    gallery_page.fill("#text", "GROUP1")
    assert names(gallery_page) == ["image03"]
    gallery_page.click("#reset")
    assert len(names(gallery_page)) == 12
    gallery_page.uncheck("#marks")
    assert not gallery_page.is_visible(".card .over")


def test_viewer_steps_with_keys_and_returns_to_the_card(gallery_page):
    gallery_page.focus(".card:nth-child(3) .open")
    gallery_page.keyboard.press("Enter")
    gallery_page.wait_for_selector("dialog[open]")
    assert gallery_page.inner_text("#viewer-title") == "image02"
    for key, title in (
        ("ArrowRight", "image03"),
        ("ArrowLeft", "image02"),
        ("ArrowLeft", "image01"),
        ("ArrowLeft", HOSTILE),
    ):
        gallery_page.keyboard.press(key)
        gallery_page.wait_for_function(
            "title => document.getElementById('viewer-title').textContent === title", arg=title
        )
    gallery_page.keyboard.press("ArrowRight")
    gallery_page.wait_for_function("() => location.hash === '#image=image01'")
    gallery_page.keyboard.press("Escape")
    # The browser focuses the card that opened the viewer; the page's own handler of the close event runs after that.
    gallery_page.wait_for_function("() => document.activeElement.getAttribute('href') === '#image=image01'")
    assert gallery_page.evaluate("location.hash") == ""


COUNT_COLOR = """color => {
  const canvas = document.getElementById("canvas"), pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < pixels.length; i += 4) count += color.every((value, channel) => Math.abs(pixels[i + channel] - value) < 3);
  return count;
}"""


def test_viewer_shows_each_wrong_pixel_and_the_slider_hides_it(gallery_page, tmp_path):
    gallery_page.goto(gallery_page.url + "#image=image05")
    gallery_page.wait_for_selector("dialog[open]")
    count = partial(gallery_page.evaluate, COUNT_COLOR)
    gallery_page.evaluate("scale = 2; left = top_ = 0; draw()")
    truth, predicted = ellipse_masks(5, 0), ellipse_masks(5, 4)
    assert count([255, 200, 0]) == 4 * (truth & ~predicted).sum()
    assert count([0, 220, 255]) == 4 * (predicted & ~truth).sum()
    gallery_page.fill("#wipe", "100")
    assert count([255, 200, 0]) == count([0, 220, 255]) == 0
    gallery_page.fill("#wipe", "50")
    assert 0 < count([255, 200, 0]) < 4 * (truth & ~predicted).sum()
    gallery_page.keyboard.press("ArrowRight")
    assert gallery_page.input_value("#wipe") == "51", "with the focus on the slider, arrows move it"
    gallery_page.fill("#wipe", "0")
    gallery_page.focus("#stage")
    for key, pressed in (("2", "Prediction"), ("3", "Truth"), ("4", "Photo")):
        gallery_page.keyboard.press(key)
        assert gallery_page.inner_text("#views [aria-pressed=true]") == pressed
        assert count([255, 200, 0]) == 0
    gallery_page.keyboard.press("0")
    whole = float(gallery_page.get_attribute("#stage", "data-scale"))
    gallery_page.keyboard.press("+")
    assert float(gallery_page.get_attribute("#stage", "data-scale")) > whole


def test_images_beside_the_page_are_loaded_when_they_are_scrolled_to(tmp_path, monkeypatch, page):
    items = make_items(tmp_path, 104)
    path = write_gallery(tmp_path, monkeypatch, items[:8], more=items[8:])
    loaded = []
    page.on("request", lambda request: request.url.endswith(".js") and loaded.append(request.url))
    page.goto(path.as_uri())
    assert page.inner_text("#count") == "104 images"
    page.wait_for_timeout(300)
    assert len(list((path.parent / "images").iterdir())) == 6
    assert 0 < len(loaded) < 6
    page.fill("#text", "image103")
    page.wait_for_function("() => document.querySelector('.card .photo').naturalWidth === 300")
    assert page.evaluate("document.querySelector('.card .over').naturalWidth") > 1
    page.click(".card .open")
    page.wait_for_selector("dialog[open]")
    assert page.evaluate(COUNT_COLOR, [255, 200, 0]) > 0


def test_two_predictions_are_drawn_as_outlines_on_one_photo(tmp_path, monkeypatch, page):
    items = make_items(tmp_path, 3, other=True)
    path = write_gallery(tmp_path, monkeypatch, items, names=MaskNames(predicted="old", other="new"))
    page.goto(path.as_uri() + "#image=image01")
    page.wait_for_selector("dialog[open]")
    buttons = page.eval_on_selector_all("#views button", "all => all.map(one => one.textContent)")
    assert buttons == [
        "What changed",
        "Where they differ",
        "Both outlines",
        "Errors of old",
        "Errors of new",
        "Old",
        "New",
        "Truth",
        "Photo",
    ]
    page.keyboard.press("3")
    page.evaluate("scale = 2; left = top_ = 0; draw()")
    assert page.evaluate(COUNT_COLOR, [255, 40, 110]) > 100 < page.evaluate(COUNT_COLOR, [86, 180, 233])


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1600, "light")])
def test_accessible_without_sideways_scrolling(tmp_path, monkeypatch, new_page, width, scheme):
    path = write_gallery(tmp_path, monkeypatch, make_items(tmp_path, 6))
    page = new_page(width=width, color_scheme=scheme)
    page.goto(path.as_uri())
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click(".card .open")
    page.wait_for_selector("dialog[open]")
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_cards_can_be_seen_without_javascript(tmp_path, monkeypatch, new_page):
    path = write_gallery(tmp_path, monkeypatch, make_items(tmp_path, 4))
    page = new_page(java_script_enabled=False)
    page.goto(path.as_uri())
    assert page.locator(".card").count() == 4
    assert not page.is_visible(".controls")
    assert page.locator(".card .score").first.inner_text() == "0.90000"
