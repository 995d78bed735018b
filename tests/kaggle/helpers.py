"""Helpers of the Kaggle tests: a tiny competition with a download table, and quick time limits."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomli_w

from pipeline.competition import Competition, load_competition
from pipeline.kaggle.client import KaggleSubmission, RetryPolicy
from pipeline.kaggle.download import download_competition
from pipeline.kaggle.ledger import LedgerEntry
from tests.helpers import TINY, changed_competition

REPOSITORY = Path(__file__).resolve().parents[2]
FAST_RETRY = RetryPolicy(base_timeout_s=20.0, stall_timeout_s=10.0, max_attempts=1, backoff_s=0.1)
SLUG = "tiny-cars"
WRONG_IMAGE = b"not an image"
"""Content of test.zip in place of test/omega_02.jpg, which is also offered separately."""

_TARGETS = {
    "omega_02.jpg": "test/omega_02.jpg",
    "train_masks.csv.zip": "train_masks.csv",
    "sample_submission.csv.zip": "sample_submission.csv",
    "train_masks.zip": "train_masks",
    "train.zip": "train",
    "train_hq.zip": "train_hq",
    "test.zip": "test",
}


def write_competition(folder: Path, names: Sequence[str] = tuple(_TARGETS)) -> Competition:
    """Write ``tiny.toml`` with a slug and a download table of these files, and load it."""
    files = [{"name": name, "to": to, "mb": 0.1} for name, to in _TARGETS.items() if name in names]
    folder.mkdir(exist_ok=True)
    text = tomli_w.dumps({**TINY, "slug": SLUG, "download": {"files": files}})
    (folder / "tiny.toml").write_text(text, encoding="utf-8")
    return load_competition("tiny", folder)


def only_files(competition: Competition, *names: str) -> Competition:
    """Return the competition with some of its files, which takes fewer starts of the client."""
    assert competition.download
    files = [file.model_dump() for file in competition.download.files if file.name in names]
    return changed_competition(competition, download={"files": files})


def fetch(competition: Competition, target: Path, retry: RetryPolicy = FAST_RETRY) -> list[str]:
    """Download a competition with quick time limits."""
    return download_competition(competition, target, retry)


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file by relative path, without the records of the download."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".download" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def start_python(code: str) -> "subprocess.Popen[bytes]":
    """Start Python code that can import the pipeline, in a process of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=REPOSITORY, env=dict(os.environ), stderr=subprocess.DEVNULL)


def make_entry(number: int = 0, **values: str) -> LedgerEntry:
    """Return a ledger entry whose time and content depend on `number`."""
    time = f"2026-11-22T10:00:{number:02d}+00:00"
    sha256 = f"{number:012x}" + "0" * 52
    fields = {"time": time, "competition": "tiny", "file": "a.csv.gz", "sha256": sha256, "message": "flips"}
    return LedgerEntry(**{**fields, **values})  # type: ignore[arg-type] # status is a Literal


def make_submission(ref: str, **values: str) -> KaggleSubmission:
    """Return a scored submission as Kaggle lists it."""
    fields = {"date": "", "file": "a.csv.gz", "message": "", "status": "COMPLETE", "public": "0.9", "private": "0.8"}
    return KaggleSubmission(**{"ref": ref, "reason": "", **fields, **values})  # type: ignore[arg-type] # as above


def mount(files: Mapping[str, Path], folder: Path) -> Path:
    """Copy the competition's files into a read-only folder, as Kaggle mounts them."""
    folder.mkdir(parents=True)
    for name, path in files.items():
        shutil.copy(path, folder / name)
    folder.chmod(0o555)
    return folder
