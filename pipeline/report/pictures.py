"""Make the pictures of README and docs from the demonstration, whose rendered cars may be shown anywhere."""

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pipeline import paths
from pipeline.competition import load_competition
from pipeline.data.samples import load_test_samples
from pipeline.errors import UserError
from pipeline.files import atomic_write, write_text
from pipeline.report.architecture import FLOORS, read_sources
from pipeline.report.architecture_svg import DRAWING, draw_architecture
from pipeline.report.compare import write_comparison
from pipeline.report.demo import DEMO
from pipeline.report.run_page import write_run_report

DOCS = Path("docs")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SCREENSHOTS = {"report.webp": (1440, 1330, "light", False), "report-phone.webp": (390, 844, "dark", True)}
"""File -> width and height of the window, color scheme, and whether the first image is opened."""


def write_pictures() -> list[Path]:
    """Write all pictures of README and docs.

    Returns:
        Their paths.

    Raises:
        UserError: the demonstration has not run, or there is no browser.
    """
    browser = find_browser()
    competition, data = load_competition(DEMO), paths.data_folder(DEMO)
    submission = paths.submission_csv(DEMO, DEMO)
    if not submission.exists():
        raise UserError(submission, "is missing", "run `make demo`")
    samples = sorted(sample.id for sample in load_test_samples(competition, data))
    views = [samples[number] for number in range(1, len(samples), len(samples) // 3 + 5)]
    write_comparison(competition, data, submission, data / str(competition.csv.solution), views, DOCS / "demo.jpg")
    write_text(DRAWING, draw_architecture(read_sources(Path()), FLOORS))
    page = write_run_report(competition, DEMO, data)
    return [DOCS / "demo.jpg", DRAWING, *take_screenshots(page, browser, DOCS)]


def find_browser(names: Sequence[str] = BROWSERS) -> str:
    """Return the path of a Chromium.

    Raises:
        UserError: there is none, or playwright is not installed.
    """
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise UserError("chromium", "is not on this machine", "install it, for example with the system's packages")
    return found


def take_screenshots(page: Path, browser: str, folder: Path) -> list[Path]:
    """Write a screenshot of a page for each of `SCREENSHOTS`.

    Args:
        page: an HTML file.
        browser: path of a Chromium.
        folder: where the pictures go.
    """
    from playwright.sync_api import sync_playwright

    written = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, (width, height, scheme, opened) in SCREENSHOTS.items():
            tab = chromium.new_page(viewport={"width": width, "height": height})
            tab.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            tab.goto(page.absolute().as_uri())
            if opened:
                tab.locator(".card .open").first.click()
                tab.wait_for_selector("dialog[open]")
                tab.keyboard.press("z")
            tab.wait_for_timeout(500)  # pictures are decoded beside the script
            with atomic_write(folder / name) as temporary, Image.open(io.BytesIO(tab.screenshot())) as pil_image:
                pil_image.convert("RGB").save(temporary, quality=85, method=6)
            written.append(folder / name)
        chromium.close()
    return written
