"""Zip archives: unpacked inside their folder, or a UserError or BrokenArchiveError."""

import contextlib
import io
import os
import shutil
import zipfile

from pipeline.errors import UserError
from pipeline.kaggle.archive import BrokenArchiveError, list_members, unpack_members, verify_archive
from tests.fuzz.files import FOLDER, write

os.environ["TQDM_DISABLE"] = "1"
os.sync = lambda: None  # the real one takes longer than all else


def _pack(names: list[str], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as packed:
        for name in names:
            packed.writestr(name, b"abc" * 20)
    return buffer.getvalue()


SEEDS = [
    _pack(names, method)
    for names in (["train/a.jpg", "train/b/c.jpg"], ["a.csv"], ["ü.jpg", "train/"], ["q", "q/z"])
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
]


def check(data: bytes) -> None:
    """List, verify and unpack to a folder and to a file."""
    place = FOLDER / "place"
    for name in ("train", "a.csv"):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        path = write("train.zip", data)
        with contextlib.suppress(UserError, BrokenArchiveError):
            members = list_members(path, place / name)
            verify_archive(path, 1)
            unpack_members(path, members, 1)
            assert all(member.is_unpacked() for member in members)
        assert {entry.name for entry in place.iterdir()} <= {name}
        assert {entry.name for entry in FOLDER.iterdir()} <= {"place", "train.zip"}
