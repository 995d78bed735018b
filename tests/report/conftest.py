"""A real browser for the pages: any console error and any request to outside fails the test."""

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
LOCAL_SCHEMES = ("file", "data", "blob", "about")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@pytest.fixture(scope="session")
def browser() -> Iterator["object"]:
    """Headless Chromium; skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine: install chromium, for example with the system's packages")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser) -> Iterator["object"]:
    """Open pages: ``new_page(width=390, javaScriptEnabled=False)``; all of them are watched until the test ends."""
    contexts, problems = [], []

    def open_page(width: int = 1280, height: int = 900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console",
            lambda message: message.type == "error" and problems.append(f"console: {message.text}"),
        )
        page.on("pageerror", lambda error: problems.append(f"script: {error}"))
        page.on("request", lambda request: is_outside(request.url) and problems.append(f"request: {request.url}"))
        page.set_default_timeout(10_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def page(new_page):
    """One watched page of 1280×900 pixels."""
    return new_page()


def is_outside(url: str) -> bool:
    """Return whether a request leaves this machine."""
    parts = urlsplit(url)
    return parts.scheme not in LOCAL_SCHEMES and parts.hostname not in LOOPBACK


def serious_violations(page) -> list[str]:
    """Run axe on a page and list the serious and critical violations."""
    from axe_core_python.sync_playwright import Axe

    results = Axe().run(page)
    found = [fault for fault in results["violations"] if fault["impact"] in ("serious", "critical")]
    return [f"{fault['id']}: {fault['nodes'][0]['html'][:200]}" for fault in found]
