"""Write the Makefile rules of one competition and recipe, before anything is installed."""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this runs with the Python of the system
    sys.exit(f"error: Python 3.11 or newer is needed, this is {sys.version.split()[0]}; run make PYTHON=python3.12 ...")

from pathlib import Path

from pipeline.errors import UserError
from pipeline.rules import write_rules


def main() -> None:
    """Write the file that the Makefile names in RULES; names come from the environment."""
    try:
        write_rules(Path(os.environ["RULES"]), os.environ["COMPETITION"], os.environ["RECIPE"])
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
