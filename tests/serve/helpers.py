"""A running server, models with random weights, and photos."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import uvicorn
from PIL import Image

from pipeline.competition import load_competition
from pipeline.inference.image_model import load_image_model
from pipeline.models.checkpoint import WeightsMetadata, save_weights
from pipeline.models.classes import classes_of
from pipeline.models.zoo import build_model
from pipeline.recipe import Recipe
from pipeline.serve.app import build_app
from pipeline.serve.server import address, listen
from tests.helpers import draw_ellipse

OCTETS = {"Content-Type": "application/octet-stream"}


def random_weights(path: Path, competition: str, recipe: Recipe) -> Path:
    """Save a model with random weights for a competition of competitions/, or for one that is not there."""
    names = sorted(file.stem for file in Path("competitions").glob("*.toml"))
    classes = classes_of(load_competition(competition if competition in names else "carvana"))
    torch.manual_seed(0)
    metadata = WeightsMetadata(
        competition, "0", "", "1", "", "", torch.__version__, json.dumps(classes.names), "yes" * classes.exclusive
    )
    save_weights(path, build_model(recipe.network, classes), recipe, metadata)
    return path


@contextmanager
def running(source: Path) -> Iterator[str]:
    """Serve a model on a free port and yield the address."""
    with listen(0) as listener:
        config = uvicorn.Config(build_app(load_image_model(source)), lifespan="off", ws="none", log_level="critical")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield address(listener)
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def photo_bytes(seed: int = 0, size: tuple[int, int] = (94, 62), format: str = "JPEG", **options) -> bytes:
    """Return the file of a drawn ellipse."""
    buffer = io.BytesIO()
    Image.fromarray(draw_ellipse(np.random.default_rng(seed), size)[0]).save(buffer, format, **options)
    return buffer.getvalue()


def sideways_photo(seed: int = 0) -> bytes:
    """Return a JPEG that EXIF turns by a quarter: stored as 94×62 pixels, seen as 62×94."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return photo_bytes(seed, exif=exif)
