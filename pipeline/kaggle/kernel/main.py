"""The code file of a kernel: it holds the packed pipeline, unpacks it and runs its stages.

A push takes a single file, so `pipeline/kaggle/kernel/build.py` copies this one and sets its two constants. It uses
only the standard library until the pipeline is unpacked, and then calls `pipeline/kaggle/kernel/runner.py`.
"""

import base64
import importlib.util
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

PACKED = ""
"""Base85 of a .tar.xz: source, resolved competition and recipe, table of folds, fallback packages."""
SETTINGS = "{}"
"""JSON of `pipeline.kaggle.kernel.runner.KernelSettings`."""

log = logging.getLogger("kernel")


class KernelFolders:
    """The folders of a kernel.

    Args:
        root: ``input/`` (read-only) and ``working/`` (the output of this version) lie here.
        scratch: a folder for everything that is not output.
    """

    def __init__(self, root: Path = Path("/kaggle"), scratch: Path = Path("/tmp/pipeline")) -> None:
        self.inputs = root / "input"
        self.output = root / "working"
        self.source = scratch / "source"
        self.data = scratch / "data"


def unpack_pipeline(folders: KernelFolders) -> None:
    """Unpack the pipeline and make it importable."""
    folders.source.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(base64.b85decode(PACKED.replace("\n", "")))) as packed:
        packed.extractall(folders.source, filter="data")
    os.chdir(folders.source)
    # 9 to 24 GB per fold, and the output may have 20.
    os.environ["TILES"] = str(folders.source.parent / "tiles")
    sys.path.insert(0, str(folders.source))


def link_output(folders: KernelFolders) -> None:
    """Link the folders that the pipeline writes to the output of this version."""
    from pipeline.paths import FOLDS, RUNS, SUBMISSIONS

    for path in (RUNS, SUBMISSIONS, FOLDS):
        (folders.output / path).mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, folders.output / path, dirs_exist_ok=True)
            shutil.rmtree(path)
        if not path.exists():
            path.symlink_to(folders.output / path)


def add_missing_packages(folders: KernelFolders) -> None:
    """Install wheels of attached datasets, then use the packed fallback packages, for packages that are missing."""
    from pipeline.kaggle.kernel.previous_version import find_in_inputs

    wheels = find_in_inputs(folders.inputs, "*.whl")
    names = {path.name.split("-")[0] for path in wheels}
    missing = sorted(name for name in names if importlib.util.find_spec(name) is None)
    if missing:
        links = [f"--find-links={folder}" for folder in sorted({path.parent for path in wheels})]
        pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", *links]
        for name in missing:  # one by one: a wheel that does not fit this Python keeps no other from its place
            if subprocess.run([*pip, name], check=False).returncode:
                log.error("%s: its wheel cannot be installed; the reason is above", name)
        importlib.invalidate_caches()
    packed = sorted((folders.source / "fallback").iterdir())
    fallbacks = [path for path in packed if importlib.util.find_spec(path.name) is None]
    log.info("packages missing in this image: %s", ", ".join(path.name for path in fallbacks) or "none")
    sys.path += map(str, fallbacks)
    inherited = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, fallbacks), *inherited])


def main(folders: KernelFolders | None = None) -> None:
    """Train, evaluate and predict until the time is up; or only predict.

    The exit code of a training is 0 also after a failure if there is a checkpoint: Kaggle keeps the output of a
    version only if it succeeded.
    """
    started = time.monotonic()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folders = folders or KernelFolders()
    unpack_pipeline(folders)
    add_missing_packages(folders)

    from pipeline.kaggle.kernel.runner import KernelSettings, run_kernel, run_prediction

    settings = KernelSettings(**json.loads(SETTINGS))
    deadline = started + 60 * settings.minutes
    if settings.predict:
        if not run_prediction(settings, folders.inputs, folders.output, folders.data, deadline):
            sys.exit("error: nothing was predicted; the reason is above")
        return
    link_output(folders)
    if not run_kernel(settings, folders.inputs, folders.output, folders.data, deadline):
        sys.exit("error: nothing was trained; the reason is above")


if __name__ == "__main__":
    main()
