"""Pass files from one version of a kernel to the next. Standard library only: packages may still be missing."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.paths import SUBMISSIONS, submission_spool

log = logging.getLogger(__name__)

_VISIBLE = "unfinished"
"""Prefix that makes the name of a hidden file visible."""
_SPOOLS = submission_spool(Path("*")).name


def find_in_inputs(inputs: Path, pattern: str) -> list[Path]:
    """Find files or folders in the attached inputs.

    Kaggle mounts an input at ``<name>/`` or at ``<kind>/<owner>/<name>/``.

    Args:
        inputs: the folder of all inputs.
        pattern: a glob pattern, relative to an input.
    """
    return [path for depth in ("*", "*/*", "*/*/*") for path in sorted(inputs.glob(f"{depth}/{pattern}"))]


def restore_output(inputs: Path, output: Path, folders: Sequence[Path]) -> None:
    """Copy folders of the previous version's output, if it is attached, to this version's output.

    Args:
        inputs: the folder of all inputs.
        output: the folder of this version's output.
        folders: what to copy, relative to the output.
    """
    for folder in folders:
        for found in find_in_inputs(inputs, str(folder)):
            log.info("resume from %s", found)
            copied = Path(shutil.copytree(found, output / folder, dirs_exist_ok=True))
            # Inputs are read-only, and copytree copies permissions.
            for path in [copied, *copied.rglob("*")]:
                path.chmod(0o755 if path.is_dir() else 0o644)
    for path in (output / SUBMISSIONS).glob(f"{_VISIBLE}{_SPOOLS}"):
        path.rename(path.with_name(path.name.removeprefix(_VISIBLE)))


def show_hidden_files(output: Path) -> None:
    """Make the finished rows of an unfinished prediction visible: Kaggle may not keep hidden files of the output."""
    for path in (output / SUBMISSIONS).glob(_SPOOLS):
        path.rename(path.with_name(_VISIBLE + path.name))
