"""Options that several scripts share, and how errors reach the user."""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from pipeline.files import explain_os_error
from pipeline.storage import stored_results

# Torch's threads spin while they wait, which takes the cores from the data loader and makes training on a busy machine
# several times slower. Without any spinning, small operations wait for threads to wake up: a few µs of it make the
# training on an idle machine a third faster. Must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# A terminal is redrawn; in a log file every state of a progress bar is a line, so print one every 15 seconds.
os.environ.setdefault("TQDM_MININTERVAL", "0.2" if sys.stderr.isatty() else "15")

CompetitionOption = Annotated[str, typer.Option("--competition", help="A file in competitions/, without its suffix.")]
RecipeOption = Annotated[str, typer.Option("--recipe", help="A file in recipes/, without its suffix.")]
EnsembleOption = Annotated[
    str, typer.Option("--recipe", help="A file in recipes/, without its suffix; several joined by + are averaged.")
]
DataOption = Annotated[str, typer.Option("--data", help="The data folder; data/<competition> if empty.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", help="Override recipe keys: 'train.epochs=3 network.width=16'. May be repeated."),
]
SeedOption = Annotated[str, typer.Option("--seed", help="Override the recipe's seed; the recipe's if empty.")]
RunSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override recipe keys; those of the last training if not given, none if empty."),
]
RunSeedOption = Annotated[
    str | None, typer.Option("--seed", help="Override the recipe's seed; likewise that of the last training.")
]
FoldsOption = Annotated[str, typer.Option("--folds", help="Fold numbers such as '0 2'; all folds if empty.")]
FoldsCsvOption = Annotated[Path | None, typer.Option(help="Table of folds; folds/<competition>.csv by default.")]
RunsOption = Annotated[Path | None, typer.Option("--runs", help="Runs folder; runs/<competition>-<recipe> by default.")]
AllowBrokenOption = Annotated[
    bool,
    typer.Option(
        "--allow-broken",
        envvar="ALLOW_BROKEN",
        help="Accept a file with fallback masks for broken images; without it, exit code 3.",
    ),
]
ShardOption = Annotated[str, typer.Option("--shard", help="Predict a part, such as 3/16, for scripts.merge.")]
MinutesOption = Annotated[float | None, typer.Option(help="Stop after this time, with exit code 3.")]


def run(main: Callable[..., None], *, results: bool = False) -> None:
    """Run a script's `main` as a command line.

    A UserError, a full disk and a refused write are printed as one sentence to stderr, with exit code 1. Wrong usage
    exits with 2, SIGINT with 130, SIGTERM with 143. Every other exception is a bug and shows its traceback.

    With `results`, runs, folds, submissions and pseudo-labels are kept in the store that the variable STORE names.

    Exit code 3 means that the work is kept but the result is not there yet; the last line says why and what to do.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        with stored_results() if results else nullcontext():
            app()
    except UserError as error:
        _end_rank(error, error.exit_code)
        if error.exit_code != 1:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        sys.exit(f"error: {error}")
    except OSError as error:
        explained = explain_os_error(error, Path(error.filename or "."))
        if not isinstance(explained, UserError):
            raise
        _end_rank(explained, 1)
        sys.exit(f"error: {explained}")
    except KeyboardInterrupt:
        sys.exit(130)


def _end_rank(error: UserError, code: int) -> None:
    """End one of several processes of a training at once, with its message; torchrun then ends the others.

    The end of Python could wait for the others, which may wait for this one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(code)
