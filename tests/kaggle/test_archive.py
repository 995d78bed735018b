"""Archives: proved whole, refused if odd, unpacked around what is there. No client here."""

import os
import random
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.kaggle.archive import (
    BrokenArchiveError,
    list_members,
    remove_temporary_files,
    unpack_members,
    verify_archive,
)


def _zip(path: Path, *names: str, content: bytes = b"x", attributes: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = attributes << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    ("name", "attributes", "words"),
    [
        ("../evil.jpg", 0, "outside the folder"),
        ("train/../../evil.jpg", 0, "outside the folder"),
        ("/etc/evil.jpg", 0, "outside the folder"),
        ("C:\\evil.jpg", 0, "outside the folder"),
        ("train\\..\\evil.jpg", 0, "outside the folder"),
        ("train/link.jpg", 0o120777, "is a link or a device"),
        ("train/pipe.jpg", 0o010644, "is a link or a device"),
    ],
)
def test_refuses_entries_that_are_no_plain_files(tmp_path: Path, name: str, attributes: int, words: str) -> None:
    path = _zip(tmp_path / "train.zip", "train/good.jpg", name, attributes=attributes)
    with pytest.raises(UserError, match=words):
        list_members(path, tmp_path / "train")


def test_refuses_a_bomb(tmp_path: Path) -> None:
    path = _zip(tmp_path / "train.zip", "train/a.jpg", content=b"\0" * (80 << 20))
    with pytest.raises(UserError, match=r"claims to unpack to 0\.1 GB, more than 100 times its own size"):
        list_members(path, tmp_path / "train")


def test_refuses_one_name_twice(tmp_path: Path) -> None:
    path = _zip(tmp_path / "train.zip", "train/a.jpg", "a.jpg")
    with pytest.raises(UserError, match=r"holds a\.jpg twice"):
        list_members(path, tmp_path / "train")


def test_refuses_encrypted_entries(tmp_path: Path) -> None:
    path = _zip(tmp_path / "train.zip", "train/a.jpg")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is encrypted"):
        list_members(path, tmp_path / "train")


def test_takes_archives_with_and_without_their_folder(tmp_path: Path) -> None:
    names = ["train/a.jpg", "b.jpg", "__MACOSX/train/._a.jpg", "train/.DS_Store"]
    path = _zip(tmp_path / "train.zip", *names)
    members = list_members(path, tmp_path / "train")
    assert [member.target.relative_to(tmp_path).as_posix() for member in members] == ["train/a.jpg", "train/b.jpg"]


def test_takes_one_file_whatever_its_name(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", "odd name.csv")
    assert [member.target.name for member in list_members(path, tmp_path / "train_masks.csv")] == ["train_masks.csv"]
    with pytest.raises(UserError, match=r"holds 2 files instead of train_masks\.csv alone"):
        list_members(_zip(tmp_path / "b.zip", "a.csv", "b.csv"), tmp_path / "train_masks.csv")


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty"])
def test_proves_archives(tmp_path: Path, damage: str) -> None:
    path = _zip(
        tmp_path / "train.zip", *[f"train/{i}.jpg" for i in range(200)], content=random.Random(0).randbytes(999)
    )
    verify_archive(path, workers=2)
    content = path.read_bytes()
    changed = {
        "cut": content[:-500],
        "flip": content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
        "text": b"rate limited",
        "empty": b"",
    }
    path.write_bytes(changed[damage])
    with pytest.raises(BrokenArchiveError):
        verify_archive(path, workers=2)


def test_unpacks_around_what_is_there(tmp_path: Path) -> None:
    path = _zip(tmp_path / "train.zip", *[f"train/{i}.jpg" for i in range(200)], content=b"new")
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "3.jpg").write_bytes(b"old")
    (folder / "4.jpg").write_bytes(b"cut off")
    unpack_members(path, list_members(path, folder), workers=2)
    assert len(list(folder.iterdir())) == 200
    assert (folder / "3.jpg").read_bytes() == b"old", "of the right size: not touched"
    assert (folder / "4.jpg").read_bytes() == b"new"


def test_something_in_the_way_is_named(tmp_path: Path) -> None:
    path = _zip(tmp_path / "train.zip", "train/a.jpg")
    (tmp_path / "train").write_text("a file")
    with pytest.raises(UserError, match="train: is in the way"):
        unpack_members(path, list_members(path, tmp_path / "train"), workers=1)


def test_sweep_leaves_other_files_alone(tmp_path: Path) -> None:
    for name in (f".{os.getpid()}.a.jpg", ".hidden", "a.jpg"):
        (tmp_path / name).touch()
    remove_temporary_files({tmp_path})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "a.jpg"]
