"""The local page in a real browser: drop photos, move the threshold, download, make mistakes."""

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.inference.overlay import write_overlays
from tests.report.conftest import serious_violations
from tests.serve.helpers import photo_bytes, random_weights, running, sideways_photo

pytestmark = pytest.mark.slow
SHIPPED = Path("weights/carvana-cpu.safetensors")
DROP = """async ([files]) => {
  const data = new DataTransfer();
  for (const [name, text] of files)
    data.items.add(new File([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))], name));
  for (const kind of ["dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
}"""
MASKED = """() => { const c = document.getElementById("mask"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"""


@pytest.fixture(scope="module")
def server():
    with running(SHIPPED) as url:
        yield url


def drop(page, **files: bytes) -> None:
    page.evaluate(DROP, [[[name.replace("_", "."), base64.b64encode(data).decode()] for name, data in files.items()]])


def download(page, name: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.get_by_role("link", name=name).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


@pytest.mark.parametrize("sideways", [False, True])
def test_a_dropped_photo_gives_the_files_of_overlay_at_every_threshold(server, page, tmp_path, sideways):
    data = sideways_photo() if sideways else photo_bytes(size=(960, 640))
    (tmp_path / "car.jpg").write_bytes(data)
    page.goto(server)
    drop(page, car_jpg=data)
    slider = page.get_by_label("Threshold")
    for threshold in ("0.50", "0.30"):
        if threshold == "0.30":
            slider.focus()
            for _ in range(20):
                page.keyboard.press("ArrowLeft")
        page.wait_for_function("text => document.getElementById('value').textContent === text", arg=threshold)
        page.get_by_role("link", name="Download mask").wait_for()
        list(write_overlays(SHIPPED, [tmp_path / "car.jpg"], tmp_path / threshold, float(threshold)))
        for link, name in (("Download mask", "car_mask.png"), ("Download RLE", "car_rle.csv")):
            assert download(page, link) == (name, (tmp_path / threshold / name).read_bytes())
        drawn = (np.asarray(Image.open(tmp_path / threshold / "car_mask.png")) > 0).sum()
        assert drawn > 0
        page.wait_for_function(f"count => ({MASKED})() === count", arg=int(drawn))
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("() => document.getElementById('value').textContent === '0.50'")


@pytest.mark.parametrize("width", [390, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible_and_never_wider_than_the_screen(server, new_page, width, scheme):
    page = new_page(width, color_scheme=scheme)
    page.goto(server)
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(fits)
    assert not serious_violations(page)
    long_name = "a" * 120
    drop(page, car_jpg=photo_bytes(), notes_txt=b"Dear diary", **{long_name: photo_bytes(1)})
    page.get_by_text("notes.txt cannot be decoded (it is not BMP").wait_for()
    page.get_by_role("button", name=long_name, exact=True).click()
    page.wait_for_function("() => document.getElementById('caption').textContent.startsWith('aaa')")
    assert page.evaluate(fits)
    assert not serious_violations(page)


def test_many_photos_in_a_row_by_keyboard(server, page):
    page.goto(server)
    drop(page, **{f"car{number}_png": photo_bytes(number, format="PNG") for number in range(7)})
    page.get_by_text("7 photos are done.").wait_for()
    chosen = page.locator("[aria-current]")
    assert chosen.inner_text() == "car0.png"
    for key, name in (("ArrowRight", "car1.png"), ("ArrowRight", "car2.png"), ("ArrowLeft", "car1.png")):
        page.keyboard.press(key)
        page.wait_for_function("name => document.getElementById('caption').textContent.startsWith(name)", arg=name)
    page.keyboard.press("+")
    page.wait_for_function("() => document.getElementById('value').textContent === '0.51'")
    page.keyboard.press("m")
    assert page.get_by_role("radio", name="Mask", exact=True).is_checked()
    page.get_by_role("button", name="Remove car1.png").click()
    page.wait_for_function("() => document.getElementById('caption').textContent.startsWith('car2.png')")
    page.get_by_role("button", name="Remove all photos").click()
    assert page.locator("#photos li").count() == 0
    assert not page.locator("#viewer").is_visible()


def test_photos_are_chosen_with_the_keyboard_alone(server, page, tmp_path):
    (tmp_path / "car.jpg").write_bytes(photo_bytes())
    page.goto(server)
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "files":
            break
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(tmp_path / "car.jpg")
    page.get_by_role("link", name="Download RLE").wait_for()


def test_classes_are_shown_and_hidden(page, recipe, tmp_path):
    with running(random_weights(tmp_path / "steel.safetensors", "severstal-steel", recipe)) as url:
        page.goto(url)
        drop(page, steel_jpg=photo_bytes())
        page.get_by_role("link", name="Mask of 4, PNG").wait_for()
        assert page.locator("#classes li").count() == 4
        page.locator("input[type=range]").fill("0.01")
        page.wait_for_function(f"() => ({MASKED})() > 0")
        for number in range(1, 5):
            page.get_by_role("checkbox", name=str(number)).uncheck()
        page.wait_for_function(f"() => ({MASKED})() === 0")
        assert download(page, "Mask of 4, PNG")[0] == "steel_mask_4.png"
        assert not serious_violations(page)


def test_without_javascript_the_page_says_what_to_do(server, new_page):
    page = new_page(java_script_enabled=False)
    page.goto(server)
    assert "make overlay IMG=photo.jpg" in page.locator("noscript").inner_text()


def test_a_file_that_is_too_large_is_not_sent(server, page):
    page.goto(server)
    page.evaluate("settings.maxBytes = 100")
    drop(page, car_jpg=photo_bytes())
    page.locator("#status").get_by_text("car.jpg has 0 MB; the limit is").wait_for()
