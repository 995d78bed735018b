"""Self-contained HTML pages from templates: style, scripts and pictures are in the file, and nothing else is loaded."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.data.draw import ADDED_COLOR, MISSED_COLOR
from pipeline.files import write_text
from pipeline.report.views import OTHER_COLOR, PREDICTED_COLOR, TRUTH_COLOR, Color

TEMPLATES = Path(__file__).with_name("templates")
COLORS: Mapping[str, Color] = {
    "missed": MISSED_COLOR,
    "added": ADDED_COLOR,
    "truth": TRUTH_COLOR,
    "prediction": PREDICTED_COLOR,
    "other": OTHER_COLOR,
}
"""CSS variables of the colors that photos are painted with, the same in every page."""


def render_page(template: str, **values: Any) -> str:
    """Render a template of `TEMPLATES`. Values are escaped.

    Args:
        template: name of a file, such as ``run.html``, which extends ``page.html``.
        values: what it uses; a missing one is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    environment.globals |= {"include_file": include_file, "colors": COLORS, "now": datetime.now(UTC)}
    environment.filters |= {"rgb": css_color, "digits": format_score, "percent": format_percent, "count": format_count}
    return environment.get_template(template).render(**values)


def write_page(path: Path, template: str, **values: Any) -> None:
    """Render a template and write the page atomically; see `render_page`."""
    write_text(path, render_page(template, **values))


def include_file(name: str) -> Markup:
    """Return a style or script of `TEMPLATES` for a page, as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def css_color(color: Color) -> str:
    """Write a color for CSS: ``rgb(255 200 0)``."""
    return f"rgb({color[0]} {color[1]} {color[2]})"


def format_score(value: float) -> str:
    """Write a score with the five digits of a leaderboard: ``0.99386``."""
    return f"{value:.5f}"


def format_percent(value: float) -> str:
    """Write a fraction as a percentage with two significant digits: ``4.3 %``, ``61 %``, ``0.052 %``."""
    text = f"{100 * value:.2g}"
    return f"{float(text):g} %" if "e" in text else f"{text} %"


def format_count(value: int) -> str:
    """Write a number with thousands separated: ``5,088``."""
    return f"{value:,}"
