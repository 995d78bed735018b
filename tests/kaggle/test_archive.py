"""Archives are verified, refused if suspicious, and unpacked around existing files."""

import contextlib
import os
import random
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.kaggle.archive import (
    BrokenArchiveError,
    is_web_page,
    list_members,
    remove_temporary_files,
    unpack_members,
    verify_archive,
)


def write_zip(path: Path, *names: str, content: bytes = b"x", mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("../evil.jpg", 0, "outside the folder"),
        ("train/../../evil.jpg", 0, "outside the folder"),
        ("/etc/evil.jpg", 0, "outside the folder"),
        ("C:\\evil.jpg", 0, "outside the folder"),
        ("train\\..\\evil.jpg", 0, "outside the folder"),
        ("train/link.jpg", 0o120777, "is a link or a device"),
        ("train/pipe.jpg", 0o010644, "is a link or a device"),
        ("train/" + "x" * 256, 0, "has a name that cannot be written"),
        ("train/" + "x" * 250, 0, "has a name that cannot be written"),
        ("train/" + "ü" * 128, 0, "has a name that cannot be written"),
        ("x" * 256 + "/a.jpg", 0, "has a name that cannot be written"),
        ("train/" + "x/" * 600 + "a.jpg", 0, "has a name that cannot be written"),
        ("", 0, "has a name that cannot be written"),
        (".", 0, "has a name that cannot be written"),
        ("./.", 0, "has a name that cannot be written"),
    ],
)
@pytest.mark.parametrize("to", ["train", "train.csv"])
def test_entries_that_are_not_plain_files_are_refused(
    tmp_path: Path, name: str, mode: int, message: str, to: str
) -> None:
    path = write_zip(tmp_path / "train.zip", "train/good.jpg", name, mode=mode)
    with pytest.raises(UserError, match=message):
        list_members(path, tmp_path / to)


@pytest.mark.slow
@pytest.mark.parametrize(("megabytes", "refused"), [(64, False), (65, True)])
def test_zip_bombs_are_refused(tmp_path: Path, megabytes: int, refused: bool) -> None:
    path = write_zip(tmp_path / "train.zip", "train/a.jpg", content=b"\0" * (megabytes << 20))
    if refused:
        with pytest.raises(UserError, match=r"would unpack to 0\.1 GB, more than 100 times its size; delete it"):
            list_members(path, tmp_path / "train")
    else:
        assert len(list_members(path, tmp_path / "train")) == 1


@pytest.mark.slow
def test_large_archives_with_a_plausible_ratio_are_accepted(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "train.zip", "train/a.jpg", content=b"\0" * (65 << 20))
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("train/b.jpg", random.Random(0).randbytes(1 << 20))
    assert len(list_members(path, tmp_path / "train")) == 2


def test_repeated_names_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "train.zip", "train/a.jpg", "a.jpg")
    with pytest.raises(UserError, match=r"holds a\.jpg twice; download it again"):
        list_members(path, tmp_path / "train")


@pytest.mark.parametrize(
    "names", [("q.jpg", "q.jpg/z.jpg"), ("train/q.jpg/z.jpg", "q.jpg"), ("a/b", "a/b/c/d.jpg"), ("train", "a.jpg")]
)
def test_a_file_in_place_of_a_folder_is_refused_before_anything_is_written(tmp_path: Path, names: list[str]) -> None:
    path = write_zip(tmp_path / "train.zip", *names)
    if names == ("train", "a.jpg"):
        assert len(list_members(path, tmp_path / "train")) == 2, "the file train/train"
        return
    with pytest.raises(UserError, match="as a file and as a folder; download it again"):
        list_members(path, tmp_path / "train")


def test_an_archive_without_files_is_refused(tmp_path: Path) -> None:
    for names in ((), ("train/",), ("__MACOSX/a.jpg",)):
        path = write_zip(tmp_path / "train.zip", *names)
        with pytest.raises(UserError, match=r"train\.zip: holds no files; download it again"):
            list_members(path, tmp_path / "train")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path: Path, method: int) -> None:
    """LZMA allocates a dictionary of the size that the archive states."""
    with zipfile.ZipFile(tmp_path / "train.zip", "w", method) as packed:
        packed.writestr("a.jpg", b"x")
    with pytest.raises(UserError, match=r"is compressed by method \d+; only deflate is read; unpack it by hand"):
        list_members(tmp_path / "train.zip", tmp_path / "train")


@pytest.mark.slow
@settings(deadline=5000, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=6))
def test_any_damage_is_refused_or_unpacked_inside_the_folder(
    tmp_path: Path, changes: list[tuple[float, bytes]]
) -> None:
    path = write_zip(tmp_path / "train.zip", "train/a.jpg", "train/b/c.jpg", "d.jpg", content=b"abc" * 50)
    data = bytearray(path.read_bytes())
    for position, replacement in changes:
        start = int(position * len(data))
        data[start : start + len(replacement)] = replacement
    path.write_bytes(data)
    folder = tmp_path / "out" / "train"
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(UserError, BrokenArchiveError):
        members = list_members(path, folder)
        verify_archive(path, workers=1)
        unpack_members(path, members, workers=1)
        assert all(member.target.stat().st_size == member.entry.file_size for member in members)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"train.zip", "out"}
    assert {entry.name for entry in tmp_path.glob("out/*")} <= {"train"}


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "train.zip", "train/a.jpg")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is encrypted; unpack it by hand"):
        list_members(path, tmp_path / "train")


def test_a_leading_folder_of_the_same_name_is_left_out(tmp_path: Path) -> None:
    names = ["train/a.jpg", "b.jpg", "sub/c.jpg", "__MACOSX/train/._a.jpg", "train/.DS_Store"]
    members = list_members(write_zip(tmp_path / "train.zip", *names), tmp_path / "train")
    targets = [member.target.relative_to(tmp_path).as_posix() for member in members]
    assert targets == ["train/a.jpg", "train/b.jpg", "train/sub/c.jpg"]


def test_a_single_file_may_have_another_name_in_its_archive(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", "odd name.csv")
    target = tmp_path / "train_masks.csv"
    assert [member.target for member in list_members(path, target)] == [target]
    with pytest.raises(UserError, match=r"holds 2 files instead of train_masks\.csv only"):
        list_members(write_zip(tmp_path / "b.zip", "a.csv", "b.csv"), target)


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "text", "empty"])
def test_damaged_archives_are_recognized(tmp_path: Path, damage: str) -> None:
    names = [f"train/{i}.jpg" for i in range(200)]
    path = write_zip(tmp_path / "train.zip", *names, content=random.Random(0).randbytes(999))
    verify_archive(path, workers=2)
    content = path.read_bytes()
    damaged = {
        "truncated": content[:-500],
        "flipped bit": content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
        "text": b"rate limited",
        "empty": b"",
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(BrokenArchiveError):
        verify_archive(path, workers=2)


def test_an_entry_outside_the_file_is_damage(tmp_path: Path) -> None:
    """zipfile seeks to a negative position."""
    path = write_zip(tmp_path / "train.zip", "a.jpg")
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 16 : end + 20] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(BrokenArchiveError, match=r"an entry lies outside the file|BadZipFile"):
        verify_archive(path, workers=1)


def test_damage_in_the_last_batch_is_recognized(tmp_path: Path) -> None:
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number in range(129):
            packed.writestr(f"{number}.jpg", b"marker" if number == 128 else b"x")
    path.write_bytes(path.read_bytes().replace(b"marker", b"damage"))
    with pytest.raises(BrokenArchiveError):
        verify_archive(path, workers=2)


def test_a_text_file_has_no_members(tmp_path: Path) -> None:
    (tmp_path / "train.zip").write_text("rate limited")
    with pytest.raises(BrokenArchiveError):
        list_members(tmp_path / "train.zip", tmp_path / "train")


def test_files_of_the_right_size_are_not_unpacked_again(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "train.zip", *[f"train/{i}.jpg" for i in range(200)], content=b"new")
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "3.jpg").write_bytes(b"old")
    (folder / "4.jpg").write_bytes(b"truncated")
    unpack_members(path, list_members(path, folder), workers=2)
    assert len(list(folder.iterdir())) == 200
    assert (folder / "3.jpg").read_bytes() == b"old"
    assert (folder / "4.jpg").read_bytes() == b"new"


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "train.zip", "train/a.jpg")
    (tmp_path / "train").write_text("a file")
    with pytest.raises(UserError, match="train: is a file where a folder is needed; move it"):
        unpack_members(path, list_members(path, tmp_path / "train"), workers=1)


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    for name in (f".{os.getpid()}.a.jpg", ".hidden", ".2nd.jpg", "a.jpg"):
        (tmp_path / name).touch()
    remove_temporary_files({tmp_path})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".2nd.jpg", ".hidden", "a.jpg"]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"<!DOCTYPE html>", True),
        (b"\xef\xbb\xbf\r\n <HTML>", True),
        (b"<?xml version", True),
        (b"PK\x03\x04<html", False),
        (b"img,rle_mask", False),
        (b"", False),
    ],
)
def test_web_pages_are_recognized(tmp_path: Path, start: bytes, expected: bool) -> None:
    (tmp_path / "file").write_bytes(start)
    assert is_web_page(tmp_path / "file") == expected
