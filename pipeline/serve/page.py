"""The local page: its text, style and script."""

from collections.abc import Sequence

from pipeline.data.draw import MASK_COLORS
from pipeline.data.images import FORMATS
from pipeline.inference.image_model import ImageModel
from pipeline.report.page import include_file, render_page
from pipeline.serve.photos import MAX_BYTES, MAX_PIXELS


def serve_page(model: ImageModel, thresholds: Sequence[float], default: float) -> str:
    """Return the HTML of the page.

    Args:
        model: what predicts.
        thresholds: the thresholds on offer, ascending.
        default: the one to begin with.
    """
    names = model.metadata.model_classes().names or ("mask",)
    competition = model.competition
    settings = {
        "thresholds": thresholds,
        "default": thresholds.index(default),
        "classes": [
            {"name": name, "color": MASK_COLORS[number % len(MASK_COLORS)]} for number, name in enumerate(names)
        ],
        "maxBytes": MAX_BYTES,
        "hasRle": competition is not None,
    }
    return render_page(
        "serve.html",
        title="Photo in, mask out",
        settings=settings,
        competition=competition.title if competition else model.metadata.competition,
        recipe=model.member.recipe.name,
        models=len(model.weights),
        weights=model.weights[0] if len(model.weights) == 1 else model.weights[0].parent.parent,
        device=f"{model.device.device.type}, {model.device.precision}",
        formats=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}",
        megabytes=MAX_BYTES // 10**6,
        megapixels=MAX_PIXELS // 10**6,
        row_size=competition.csv.size if competition else None,
        instances=competition is not None and competition.csv.rows == "instance",
    )


def serve_script() -> str:
    """Return the script of the page, which its policy accepts as a file only."""
    return str(include_file("serve.js"))
