"""Say why make has nothing to do. Standard library only, as scripts/rules.py."""

import sys
from pathlib import Path

from pipeline.stages import describe_up_to_date


def main() -> None:
    """Describe finished files; arguments are the time when make started, and the files."""
    started, *targets = sys.argv[1:]
    if text := describe_up_to_date([Path(target) for target in targets], float(started)):
        print(text)


if __name__ == "__main__":
    main()
