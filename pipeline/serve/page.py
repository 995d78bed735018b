"""The local page: its text, style and script."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.data.draw import MASK_COLORS
from pipeline.data.images import FORMATS
from pipeline.inference.image_model import ImageModel
from pipeline.serve.photos import MAX_BYTES, MAX_PIXELS

TEMPLATES = Path(__file__).parent / "templates"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}


def render_page(model: ImageModel, thresholds: Sequence[float], default: float) -> str:
    """Return the HTML of the page.

    Args:
        model: what predicts.
        thresholds: the thresholds on offer, ascending.
        default: the one to begin with.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
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
    return environment.get_template("serve.html").render(
        settings=settings,
        title=competition.title if competition else model.metadata.competition,
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


def load_assets() -> dict[str, tuple[str, str]]:
    """Return the style and the script of the page: name -> (text, media type)."""
    files = [path for path in sorted(TEMPLATES.iterdir()) if path.suffix in _MEDIA_TYPES]
    return {path.name: (path.read_text(encoding="utf-8"), _MEDIA_TYPES[path.suffix]) for path in files}
