"""Show the curves and validation images of trainings in TensorBoard, while they run."""

import logging
import re
from collections.abc import Sequence
from urllib.parse import quote

from pipeline.errors import UserError
from pipeline.paths import RECIPES, RUNS, runs_folder

HOST = "127.0.0.1"
"""Only this computer can connect."""


def runs_pattern(competition: str, recipes: Sequence[str]) -> str:
    """Return a regular expression for TensorBoard's names of the runs of some recipes, such as ``demo-cpu/fold0``."""
    names = [runs_folder(competition, recipe).name for recipe in recipes]
    return "^(" + re.sub(r"[.+]", r"\\\g<0>", "|".join(names)) + ")/"


def start_tensorboard(competition: str, recipe: str = "", port: int = 0) -> str:
    """Start TensorBoard in a thread of this process. It finds new runs and new epochs by itself.

    Args:
        competition: its runs are shown; those of others can be found by changing the filter in the page.
        recipe: shows only its runs, or those of several recipes joined by ``+``; all recipes if empty.
        port: where to listen; the first free one from 6006 on if 0.

    Returns:
        The address of the page.

    Raises:
        UserError: the port is in use.
    """
    from tensorboard.program import TensorBoard, TensorBoardServerException

    for name in ("tensorboard", "werkzeug"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log every request
    recipes = recipe.split("+") if recipe else sorted(path.stem for path in RECIPES.glob("*.toml"))
    # The faster loader is another process, which would outlive a killed one; the logs are small.
    options = ["--logdir", str(RUNS), "--host", HOST, "--load_fast", "false", "--reload_interval", "10"]
    board = TensorBoard()
    board.configure(["tensorboard", *options, *(["--port", str(port)] if port else [])])
    try:
        address = board.launch()
    except TensorBoardServerException as error:
        raise UserError(f"PORT={port}", f"cannot be used ({error})", "choose another port") from None
    return f"{address}?runFilter={quote(runs_pattern(competition, recipes), safe='')}#timeseries"
