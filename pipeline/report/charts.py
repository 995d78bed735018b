"""The charts of a report. Each has a sentence that says what it shows, and its numbers as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.evaluation.statistics import Estimate
from pipeline.report.svg import DASHES, FAR, INK, LINE, MUTED, NEAR, SERIES, figure_axes

MAX_ROWS = 100
"""Most rows of the table below a chart."""


@dataclass(frozen=True)
class Chart:
    """A figure of the page."""

    title: str
    svg: Markup
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The numbers that are drawn."""


@dataclass(frozen=True)
class Line:
    """One line of a chart: finite values."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Bar:
    """A value with its interval, or without one if both bounds are the value."""

    label: str
    estimate: Estimate
    note: str = ""
    """For the table, such as the number of images."""


def draw_lines(
    title: str,
    lines: Sequence[Line],
    labels: tuple[str, str],
    caption: str,
    *,
    log: bool = False,
    digits: int = 5,
    marks: Sequence[tuple[float, str]] = (),
    diagonal: bool = False,
) -> Chart:
    """Draw lines over one axis.

    Args:
        title: heading.
        lines: at most 8 look different.
        labels: names of both axes, with units.
        caption: what can be seen.
        log: whether the vertical axis is logarithmic.
        digits: decimals of the values in the table.
        marks: vertical lines: position and name.
        diagonal: whether to draw the line y = x.
    """
    with figure_axes(3.0) as (axes, result):
        if diagonal:
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        for number, line in enumerate(lines):
            marker = "o" if len(line.x) < 25 else ""
            color, dash = SERIES[number % 8], DASHES[number % 4]
            axes.plot(line.x, line.y, color=color, linestyle=dash, marker=marker, markersize=4, label=line.label)
        for position, name in marks:
            axes.axvline(position, color=INK, linewidth=1)
            axes.annotate(f" {name}", (position, 0.02), xycoords=("data", "axes fraction"), color=INK)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: _short_log_label(value)))
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        if len(lines) > 1:
            axes.legend(ncols=min(3, len(lines)), loc="lower center", bbox_to_anchor=(0.5, 1), columnspacing=1.2)
    named = len(lines) > 1
    rows = [
        (*([line.label] if named else []), f"{x:g}", f"{y:.{digits}f}")
        for line in lines
        for x, y in zip(line.x, line.y, strict=True)
    ]
    step = -(-len(rows) // MAX_ROWS)
    return Chart(title, result[0], caption, (*([""] if named else []), *labels), tuple(rows[::step] if step else rows))


def _short_log_label(value: float) -> str:
    """Label 2 and 5 of each decade, so that a range below one decade has labels too."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def draw_histogram(title: str, values: np.ndarray, label: str, caption: str, mean: float) -> Chart:
    """Draw how many images have which score. The worst 1 % may be far away, so the first bar holds all below it.

    Args:
        title: heading.
        values: (n,) float.
        label: name of the horizontal axis.
        caption: what can be seen.
        mean: drawn as a line.
    """
    low, high = float(np.quantile(values, 0.01)), float(values.max())
    low = float(values.min()) if high - values.min() < 1.5 * (high - low) else low
    edges = np.linspace(low, max(high, low + 1e-6), 33)
    counts = np.histogram(values.clip(low), edges)[0]
    with figure_axes(2.7) as (axes, result):
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=SERIES[0], edgecolor="none", linewidth=0)
        if values.min() < low:
            axes.bar(edges[0], counts[0], edges[1] - edges[0], align="edge", color=FAR, linewidth=0)
            text = f" ≤ {edges[1]:.4f}, down to {values.min():.4f}"
            axes.annotate(text, (edges[0], counts[0]), xytext=(0, 4), textcoords="offset points", color=INK)
        axes.axvline(mean, color=INK, linewidth=1)
        axes.annotate("mean ", (mean, 0.94), xycoords=("data", "axes fraction"), ha="right", color=INK)
        axes.set_xlabel(label)
        axes.set_ylabel("images")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(6))
    first = f"≤ {edges[1]:.5f}"
    rows = [(first if not n else f"{edges[n]:.5f} to {edges[n + 1]:.5f}", str(counts[n])) for n in range(len(counts))]
    return Chart(title, result[0], caption, (label, "images"), tuple(row for row in rows if row[1] != "0"))


def draw_estimates(
    title: str,
    bars: Sequence[Bar],
    label: str,
    caption: str,
    *,
    reference: tuple[float, str] | None = None,
    signed: bool = False,
    note: str = "",
) -> Chart:
    """Draw values with their intervals, one below the other.

    Args:
        title: heading.
        bars: from top to bottom.
        label: name of the horizontal axis.
        caption: what can be seen.
        reference: a vertical line, position and name.
        signed: whether values are differences, written with a sign.
        note: heading of the notes in the table.
    """
    with figure_axes(0.95 + 0.3 * len(bars)) as (axes, result):
        places = -np.arange(len(bars))
        values = np.array([bar.estimate.value for bar in bars])
        spread = np.abs([[bar.estimate.low, bar.estimate.high] for bar in bars] - values[:, None]).T
        if reference:
            axes.axvline(reference[0], color=MUTED, linewidth=1.2, linestyle=(0, (4, 2)))
            axes.annotate(
                reference[1], (reference[0], 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                textcoords="offset points", ha="center", color=MUTED,
            )  # fmt: skip
        single = spread.max(axis=0) == 0  # hollow, because nothing is known about their spread
        axes.errorbar(values, places, xerr=spread, fmt="none", ecolor=SERIES[0], elinewidth=2)
        axes.plot(values[~single], places[~single], "o", color=SERIES[0])
        axes.plot(values[single], places[single], "o", color=SERIES[0], markerfacecolor="none", markersize=6)
        axes.set_yticks(places, [_shorten(bar.label) for bar in bars], color=INK)
        axes.set_ylim(-len(bars) + 0.4, 0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    sign = "+.6f" if signed else ".5f"
    rows = tuple(
        (bar.label, f"{bar.estimate.value:{sign}}", _interval(bar.estimate, sign), *([bar.note] if note else []))
        for bar in bars
    )
    return Chart(title, result[0], caption, ("", label, "95 % interval", *([note] if note else [])), rows)


def _shorten(text: str, length: int = 22) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _interval(estimate: Estimate, sign: str) -> str:
    if estimate.low == estimate.high:
        return ""
    return f"{estimate.low:{sign}} to {estimate.high:{sign}}"


def draw_parts(
    title: str, labels: Sequence[str], names: Sequence[str], parts: np.ndarray, unit: str, caption: str
) -> Chart:
    """Draw stacked horizontal bars, from parts near something (pale) to parts far from it (strong).

    Args:
        title: heading.
        labels: names of the bars, from top to bottom.
        names: names of the parts.
        parts: (bars, parts) float, not negative.
        unit: name of the horizontal axis.
        caption: what can be seen.
    """
    opacities = [0.35, 0.65, 1.0, 0.6, 1.0][-len(names) :]
    colors = [NEAR, NEAR, NEAR, FAR, FAR][-len(names) :]
    with figure_axes(1.35 + 0.34 * len(labels)) as (axes, result):
        places, left = -np.arange(len(labels)), np.zeros(len(labels))
        for number, name in enumerate(names):
            axes.barh(
                places, parts[:, number], 0.72, left=left, color=colors[number], alpha=opacities[number],
                edgecolor=LINE, linewidth=0.5, label=name,
            )  # fmt: skip
            left += parts[:, number]
        axes.set_yticks(places, labels, color=INK)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.legend(
            ncols=len(names),
            loc="lower center",
            bbox_to_anchor=(0.45, 1),
            columnspacing=0.7,
            handlelength=0.9,
            fontsize=11,
        )
    rows = tuple(
        (label, *(f"{part:.6f}" for part in row), f"{sum(row):.6f}")
        for label, row in zip(labels, parts.tolist(), strict=True)
    )
    return Chart(title, result[0], caption, ("", *names, "all"), rows)
