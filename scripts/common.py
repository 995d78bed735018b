"""What every script shares: options that mean the same everywhere, and how an error reaches the user."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from pipeline.files import explain_os_error

# Torch's threads would spin while they wait for each other, and keep the cores from the loader's workers and from
# whatever else runs: on two busy cores a training then takes several times as long. Must be set before torch comes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A terminal is redrawn; in a file every state of a bar is a line, and one in fifteen seconds is enough.
os.environ.setdefault("TQDM_MININTERVAL", "0.2" if sys.stderr.isatty() else "15")

CompetitionName = Annotated[str, typer.Option("--competition", help="A file in competitions/, without its ending.")]
RecipeName = Annotated[str, typer.Option("--recipe", help="A file in recipes/, without its ending.")]
RecipeNames = Annotated[
    str, typer.Option("--recipe", help="A file in recipes/, without its ending, or several joined by +: their mean.")
]
DataFolder = Annotated[Path, typer.Option("--data", help="The folder that holds the competition's files.")]
Changes = Annotated[
    list[str], typer.Option("--set", help="Change one key of the recipe: train.epochs=3. May be given several times.")
]
FoldList = Annotated[str, typer.Option("--fold", help="Folds to use, such as '0 2'; all of them if not given.")]


def fold_numbers(text: str, count: int) -> list[int]:
    """Fold numbers from `FoldList`: all `count` of them for an empty text.

    Raises:
        UserError: something else than fold numbers stands there.
    """
    try:
        numbers = [int(word) for word in text.replace(",", " ").split()] or list(range(count))
    except ValueError:
        numbers = [-1]
    if not all(0 <= number < count for number in numbers) or len(set(numbers)) < len(numbers):
        raise UserError(f"--fold '{text}'", f"expected different numbers from 0 to {count - 1}, separated by spaces")
    return numbers


def one_fold(text: str) -> int | None:
    """The number of a fold, or None for "all": nothing held out.

    Raises:
        BadParameter: something else stands there.
    """
    if text != "all" and not text.isdecimal():
        raise typer.BadParameter(f"'{text}' is not the number of a fold, nor all", param_hint="--fold")
    return None if text == "all" else int(text)


def run(main: Callable[..., None]) -> None:
    """Run a script's `main` as a command line.

    A UserError, and what the system says of a full disk or a refused file, becomes one sentence on stderr and exit
    code 1; wrong usage exits with 2, Ctrl-C with 130. Any other exception is a bug and shows its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        explained = explain_os_error(error, Path(error.filename or "."))
        if not isinstance(explained, UserError):
            raise
        sys.exit(f"error: {explained}")
    except KeyboardInterrupt:
        sys.exit(130)
