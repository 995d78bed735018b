"""Downloads with the real client: complete or absent, resumed, and nothing twice."""

import json
import shutil
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.competition import Competition, DownloadFile, load_competition
from pipeline.errors import UserError
from pipeline.kaggle import download
from pipeline.kaggle.checked_download import download_and_check
from pipeline.kaggle.download import required_files
from pipeline.kaggle.records import DownloadRecords
from tests.kaggle.helpers import (
    FAST_RETRY,
    REPOSITORY,
    WRONG_IMAGE,
    fetch,
    only_files,
    read_tree,
)
from tests.standin.server import StandinServer

pytestmark = pytest.mark.slow

REQUIRED = [
    "train_masks.csv.zip",
    "sample_submission.csv.zip",
    "train_masks.zip",
    "train.zip",
    "test.zip",
    "omega_02.jpg",
]


# ---- without failures


def test_every_file_is_downloaded_once(
    tiny: Competition, standin: StandinServer, target: Path, expected: dict[str, bytes]
) -> None:
    assert fetch(tiny, target) == REQUIRED
    assert read_tree(target) == expected
    assert {path.name for path in (target / ".download").iterdir()} == {
        "lock",
        "train.json",
        "test.json",
        "train_masks.json",
        "train_masks.csv.json",
        "sample_submission.csv.json",
        "test__omega_02.jpg.json",
    }
    # The second call does nothing, and does not call Kaggle.
    calls, times = len(standin.calls), {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert fetch(tiny, target) == []
    assert len(standin.calls) == calls
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == times
    # Only what is missing or has another size is downloaded again.
    (target / "train" / "alpha_01.jpg").unlink()
    (target / "test" / "omega_02.jpg").write_bytes(b"truncated")
    assert fetch(tiny, target) == ["train.zip", "omega_02.jpg"]
    assert read_tree(target) == expected


def test_archives_of_the_user_are_used(
    tiny: Competition, standin: StandinServer, target: Path, expected: dict[str, bytes]
) -> None:
    target.mkdir()
    for name, path in standin.backend.files.items():
        shutil.copy(path, target / name)
    assert fetch(tiny, target) == REQUIRED
    assert standin.calls == []
    assert (target / "train.zip").exists()
    assert (target / "test" / "omega_02.jpg").read_bytes() == expected["test/omega_02.jpg"]


def test_a_damaged_archive_of_the_user_is_named(tiny: Competition, standin: StandinServer, target: Path) -> None:
    target.mkdir()
    (target / "train.zip").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match=r"train\.zip: is damaged .*; delete it and run"):
        fetch(only_files(tiny, "train.zip"), target)
    assert (target / "train.zip").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r"train\.zip: holds no files; download it again"),
        (("train/",), r"train\.zip: holds no files; download it again"),
        (
            ("readme.txt", "LICENSE"),
            r"train\.zip: holds no file that ends in \.csv, .*, but readme\.txt; delete it",
        ),
    ],
)
def test_an_archive_without_an_image_is_refused(
    tiny: Competition, home: Path, target: Path, names: tuple[str, ...], message: str
) -> None:
    target.mkdir()
    with zipfile.ZipFile(target / "train.zip", "w") as packed:
        for name in names:
            packed.writestr(name, "")
    competition = only_files(tiny, "train.zip")
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            fetch(competition, target)
    assert not (target / "train").exists()


def test_an_empty_record_of_an_archive_is_not_complete(tiny: Competition, target: Path) -> None:
    """As earlier versions wrote for an archive without files."""
    (file,) = [file for file in required_files(tiny) if file.name == "train.zip"]
    records = DownloadRecords(target)
    records.write(file, [])
    assert not records.is_complete(file, set())


def test_only_files_that_the_competition_reads_are_required() -> None:
    normal = [file.name for file in required_files(load_competition("carvana", REPOSITORY / "competitions"))]
    high_quality = [file.name for file in required_files(load_competition("carvana_hq", REPOSITORY / "competitions"))]
    assert {"train.zip", "test.zip", "train_masks.zip"} < set(normal)
    assert not any("hq" in name for name in normal)
    assert {name.replace("_hq", "") for name in high_quality} == set(normal)
    # The replacement comes after the archive that it replaces a part of.
    assert normal[-1] == high_quality[-1] == "29bb3ece3180_11.jpg"
    with pytest.raises(UserError, match=r"competitions/nuclei\.toml: has no slug or no \[download\] table"):
        required_files(load_competition("nuclei", REPOSITORY / "competitions"))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../b", "", "a//b"])
def test_targets_outside_the_data_folder_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="expected a relative path"):
        DownloadFile(name="a.zip", to=path, mb=1)


def test_a_record_lists_files_with_sizes(tiny: Competition, standin: StandinServer, target: Path) -> None:
    fetch(only_files(tiny, "train.zip"), target)
    record = json.loads((target / ".download" / "train.json").read_text())
    assert len(record) == 12
    assert record["train/alpha_01.jpg"] == (target / "train" / "alpha_01.jpg").stat().st_size


def test_data_is_checked_once_after_a_download(tiny: Competition, standin: StandinServer, target: Path) -> None:
    first = download_and_check(tiny, target, FAST_RETRY)
    assert (first.downloaded, first.passed) == (REQUIRED, True)
    assert first.description.startswith(f"{target}: downloaded train_masks.csv.zip, ")
    second = download_and_check(tiny, target, FAST_RETRY)
    assert (second.downloaded, second.passed) == ([], True)
    assert second.description == f"{target}: everything is downloaded and checked"


def test_data_with_errors_is_checked_again(tiny: Competition, standin: StandinServer, target: Path) -> None:
    (standin.backend.files["train_masks.csv.zip"]).unlink()
    with zipfile.ZipFile(standin.backend.files["train_masks.csv.zip"], "w") as packed:
        packed.writestr("train_masks.csv", "img,rle_mask\nalpha_01.jpg,1 1\n")
    for downloaded in (REQUIRED, []):
        result = download_and_check(tiny, target, FAST_RETRY)
        assert (result.downloaded, result.passed) == (downloaded, False)
        assert "train_masks.csv" in result.description
        assert not DownloadRecords(target).checked_marker.exists()


# ---- damaged and missing files


def test_a_web_page_in_place_of_an_archive_is_refused(
    train_only: Competition, standin: StandinServer, target: Path
) -> None:
    standin.faults.add("GET train.zip", "html")
    with pytest.raises(UserError, match=r"tiny-cars: Kaggle sent a web page instead of train\.zip; .*accept the rules"):
        fetch(train_only, target)
    assert not (target / "train").exists()
    assert fetch(train_only, target) == ["train.zip"]


@pytest.mark.parametrize(("fault", "amount"), [("truncate", 100), ("corrupt", 0)])
def test_a_damaged_archive_is_downloaded_once_more(
    train_only: Competition, standin: StandinServer, target: Path, data: Path, fault: str, amount: int
) -> None:
    standin.faults.add("GET train.zip", fault, amount=amount)
    assert fetch(train_only, target) == ["train.zip"]
    assert read_tree(target / "train") == read_tree(data / "train")
    assert standin.calls.count("GET train.zip") == 2


def test_an_archive_that_is_damaged_twice_is_refused(
    train_only: Competition, standin: StandinServer, target: Path
) -> None:
    size = standin.backend.files["train.zip"].stat().st_size
    standin.faults.add("GET train.zip", "truncate", times=2, amount=100)
    message = rf"train\.zip: was downloaded twice and is damaged: {size - 100:,} of {size:,} bytes"
    with pytest.raises(UserError, match=message):
        fetch(train_only, target)
    assert not (target / "train").exists()


def test_a_single_file_of_wrong_length_is_refused(tiny: Competition, standin: StandinServer, target: Path) -> None:
    standin.faults.add("GET omega_02.jpg", "truncate", times=2, amount=10)
    with pytest.raises(UserError, match=r"omega_02\.jpg: was downloaded twice and is damaged"):
        fetch(only_files(tiny, "omega_02.jpg"), target)
    assert not (target / "test").exists()


def test_an_archive_that_kaggle_does_not_list_is_an_error(
    tiny: Competition, standin: StandinServer, target: Path
) -> None:
    del standin.backend.files["train.zip"]
    message = r"tiny-cars: Kaggle does not list train\.zip, only omega_02\.jpg, sample_.*; correct download\.files"
    with pytest.raises(UserError, match=message):
        fetch(only_files(tiny, "train.zip"), target)


def test_a_replacement_that_kaggle_does_not_list_is_left_out(
    tiny: Competition, standin: StandinServer, target: Path
) -> None:
    del standin.backend.files["omega_02.jpg"]
    competition = only_files(tiny, "test.zip", "omega_02.jpg")
    assert fetch(competition, target) == ["test.zip"]
    assert (target / "test" / "omega_02.jpg").read_bytes() == WRONG_IMAGE
    calls = len(standin.calls)
    assert fetch(competition, target) == []
    assert len(standin.calls) == calls


# ---- the disk

Usage = namedtuple("Usage", "total used free")


def test_missing_space_is_noticed_before_the_download(
    tiny: Competition, standin: StandinServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(1e9, 0.9e9, 0.1e9))
    with pytest.raises(UserError, match=r"target: 0\.2 GB are needed, 0\.1 GB are free"):
        fetch(tiny, target)
    assert "DownloadDataFile" not in standin.calls


def test_space_is_needed_for_all_files_and_the_largest_archive(
    tiny: Competition, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed: list[int] = []
    monkeypatch.setattr(download, "require_space", lambda _, size: needed.append(size))
    files = [file for file in required_files(tiny) if file.name in ("train.zip", "test.zip")]
    sizes = {"train.zip": 3_000_000, "test.zip": 5_000_000}
    records, spare = DownloadRecords(target), 200 << 20
    download._require_space(records, files, sizes)
    assert needed.pop() == 8_800_000 + 5_000_000 + spare
    # What is downloaded or unpacked already needs no more space.
    for path, size in ((records.incoming(files[1]), 4_000_000), (target / "train" / "a.jpg", 1_000_000)):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * size)
    download._require_space(records, files, sizes)
    assert needed.pop() == 7_800_000 + 3_000_000 + spare


def test_a_disk_that_fills_up_stops_the_download(
    train_only: Competition, standin: StandinServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1e9, 0, 1e9 if path == target.parent else 1e6))
    monkeypatch.setattr(download, "require_space", lambda *_: None)
    standin.faults.add("GET train.zip", "throttle", amount=1000)
    with pytest.raises(UserError, match="the disk is full; free some space and run the same command again"):
        fetch(train_only, target)
