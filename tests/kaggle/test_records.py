"""The records of a download: what is complete, and what replaces what."""

from pathlib import Path

import pytest

from pipeline.competition import DownloadFile
from pipeline.kaggle.records import DownloadRecords, is_archive

ARCHIVE = DownloadFile(name="train.zip", to="train", mb=1)
REPLACEMENT = DownloadFile(name="b.jpg", to="train/b.jpg", mb=1)


@pytest.fixture
def records(tmp_path: Path) -> DownloadRecords:
    """Records of a folder with train/a.jpg and train/b.jpg, which train.zip was unpacked to."""
    (tmp_path / "train").mkdir()
    paths = [tmp_path / "train" / name for name in ("a.jpg", "b.jpg")]
    for path in paths:
        path.write_bytes(b"12345")
    records = DownloadRecords(tmp_path)
    records.write(ARCHIVE, paths)
    return records


def test_only_zip_files_are_archives() -> None:
    assert is_archive(ARCHIVE)
    assert not is_archive(REPLACEMENT)


def test_files_without_a_record_are_not_complete(records: DownloadRecords) -> None:
    assert records.is_complete(ARCHIVE, ())
    assert not records.is_complete(REPLACEMENT, ())


@pytest.mark.parametrize("content", [None, b"1234", b"123456"])
def test_missing_and_changed_files_are_not_complete(records: DownloadRecords, content: bytes | None) -> None:
    path = records.data / "train" / "b.jpg"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert not records.is_complete(ARCHIVE, ())
    assert records.is_complete(ARCHIVE, {path})


def test_a_replacement_is_complete_only_with_its_file(records: DownloadRecords) -> None:
    path = records.data / "train" / "b.jpg"
    records.write(REPLACEMENT, [path])
    assert records.is_complete(REPLACEMENT, {path})
    path.write_bytes(b"other")
    assert records.is_complete(REPLACEMENT, {path})
    path.unlink()
    assert not records.is_complete(REPLACEMENT, {path})


def test_a_replacement_that_kaggle_does_not_list_is_complete(records: DownloadRecords) -> None:
    assert not records.is_not_offered(REPLACEMENT)
    records.write_not_offered(REPLACEMENT)
    assert records.is_not_offered(REPLACEMENT)
    assert records.is_complete(REPLACEMENT, ())


def test_damaged_records_count_as_missing(records: DownloadRecords) -> None:
    (records.folder / "train.json").write_text("{broken")
    assert not records.is_complete(ARCHIVE, ())
