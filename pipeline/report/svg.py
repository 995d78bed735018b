"""Matplotlib figures as inline SVG that takes its colors and its font from the page, in light and dark."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, LINE, NEAR, FAR = "#000001", "#000002", "#000003", "#000004", "#000005"
SERIES = tuple(f"#00001{number}" for number in range(8))
"""Colors that stand for CSS variables of the page. Matplotlib needs colors, so these never-used ones are replaced."""
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    NEAR: "var(--near)",
    FAR: "var(--far)",
    **{color: f"var(--s{number})" for number, color in enumerate(SERIES)},
}
WIDTH = 4.8
"""Width of a figure in inches of 72 units; about that of a column of the page, so text keeps its size."""
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)))
"""Line styles: series differ in more than their color."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "axes.unicode_minus": True,
}
_NUMBERS = count()


@contextmanager
def figure_axes(height: float, width: float = WIDTH) -> Iterator[tuple[Axes, list[Markup]]]:
    """Yield axes to draw on, and a list that holds the SVG when the block ends.

    Args:
        height: height of the figure in inches.
        width: its width.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        result: list[Markup] = []
        yield axes, result
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        result.append(inline_svg(buffer.getvalue()))


def inline_svg(text: str) -> Markup:
    """Prepare an SVG of matplotlib for a page: without header, with the page's colors, with ids of its own."""
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
    text = re.sub(r"#00000[1-5]|#00001[0-7]", lambda match: VARIABLES[match.group()], text)
    # The page chooses the font; its size stays.
    text = re.sub(r"font: (?:[a-z0-9]+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
    names = {name for pair in used for name in pair if name}
    prefix = f"f{next(_NUMBERS)}-"
    text = re.sub(r' id="([^"]+)"', lambda match: f' id="{prefix}{match[1]}"' if match[1] in names else "", text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{prefix}", text)
    text = re.sub(r"\s*\n\s*", "\n", text).replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    return Markup(text)
