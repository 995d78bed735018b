"""The ledger: one row per upload, never lost, never half-written."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.kaggle.ledger import LedgerEntry, new_entry, read_ledger, refresh_entries, write_entry
from tests.kaggle.helpers import make_entry, make_submission


def test_rows_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "submissions" / "ledger.csv"
    assert read_ledger(path) == []
    special = make_entry(1, message='commas, "quotes"\nand lines, – ü', oof_score="0.99")
    write_entry(make_entry(0), path)
    write_entry(special, path)
    pending = replace(make_entry(0), status="PENDING", reference="7")
    assert write_entry(pending, path) == pending
    assert read_ledger(path) == [pending, special]
    assert sorted(file.name for file in path.parent.iterdir()) == [".ledger.lock", "ledger.csv"]


@pytest.mark.parametrize("change", [{"time": "2026-11-22T11:00:00+00:00"}, {"competition": "other"}, {"sha256": "0a"}])
def test_another_upload_gets_its_own_row(tmp_path: Path, change: dict[str, str]) -> None:
    path = tmp_path / "ledger.csv"
    entries = [make_entry(0), replace(make_entry(0), **change)]
    for entry in entries:
        write_entry(entry, path)
    assert read_ledger(path) == entries


def test_no_row_is_lost_when_many_threads_write(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_entry(make_entry(number), path), range(40)))
    assert sorted(read_ledger(path), key=lambda entry: entry.time) == [make_entry(number) for number in range(40)]


def test_other_csv_files_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text("time,score\n1,2\n")
    with pytest.raises(UserError, match=r"ledger\.csv: its first line is not time,competition,file"):
        write_entry(make_entry(), path)
    assert path.read_text() == "time,score\n1,2\n"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("too,short\n", "row 3 has 2 fields instead of 15; correct it"),
        ("," * 13 + "DONE,\n", "row 3 has the unknown status 'DONE'; set it to one of UPLOADING, PENDING, COMPLETE"),
    ],
)
def test_faulty_rows_are_named(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "ledger.csv"
    write_entry(make_entry(), path)
    path.write_text(path.read_text() + row)
    with pytest.raises(UserError, match=message):
        read_ledger(path)


def test_rows_are_updated_from_kaggles_list() -> None:
    entries = [
        make_entry(0, reference="1", status="PENDING"),
        make_entry(1, status="UPLOADING"),
        make_entry(2, status="UPLOADING"),
        make_entry(3, competition="other", reference="1", status="PENDING"),
        make_entry(4, reference="4", status="COMPLETE", public="0.9"),
        make_entry(5, status="REFUSED"),
        make_entry(6, competition="other", status="UPLOADING"),
    ]
    submissions = [
        make_submission("1"),
        make_submission("2", message=f"{make_entry(1).tag} flips"),
        make_submission("4", message=make_entry(4).tag, status="ERROR", reason="bad row", public="", private=""),
        make_submission("5", message=f"{make_entry(5).tag} flips"),
        make_submission("6", message=f"{make_entry(6).tag} flips"),
    ]
    scored, found, lost, other, failed, refused, other_lost = refresh_entries(entries, "tiny", submissions)
    assert scored == replace(entries[0], public="0.9", private="0.8", status="COMPLETE")
    assert (found.reference, found.status) == ("2", "COMPLETE")
    assert (lost, other, refused, other_lost) == (entries[2], entries[3], entries[5], entries[6])
    assert (failed.status, failed.reason, failed.public) == ("ERROR", "bad row", "")


def test_one_submission_completes_one_row() -> None:
    entries = [make_entry(1), replace(make_entry(1), time="2026-11-22T11:00:00+00:00")]
    submissions = [make_submission("2", message=make_entry(1).tag), make_submission("1", message=make_entry(1).tag)]
    assert [entry.reference for entry in refresh_entries(entries, "tiny", submissions)] == ["2", "1"]
    recorded = replace(entries[0], reference="2", status="COMPLETE")
    assert [entry.reference for entry in refresh_entries([recorded, entries[1]], "tiny", submissions)] == ["2", "1"]


def test_the_description_starts_with_a_tag_of_the_content() -> None:
    assert make_entry(1).description == "[000000000001] flips"
    assert make_entry(1, sha256="ab" * 32, message="").description == "[abababababab]"


def test_a_new_row_describes_the_file(tiny: Competition, tmp_path: Path) -> None:
    file = tmp_path / "tiny.csv.gz"
    file.write_bytes(b"rows")
    metadata = {"recipe": "baseline", "folds": [0, 1], "threshold": 0.5, "oof_score": 0.9912341, "commit": "abc"}
    (tmp_path / "tiny.json").write_text(json.dumps(metadata))
    entry = new_entry(tiny, file)
    assert entry == LedgerEntry(
        time=entry.time,
        competition="tiny",
        file="tiny.csv.gz",
        sha256=hashlib.sha256(b"rows").hexdigest(),
        message="baseline",
        commit="abc",
        recipe="baseline",
        folds="0 1",
        oof_score="0.991234",
        threshold="0.5",
    )
    assert entry.time.endswith("+00:00")
    assert new_entry(tiny, file, "flips").message == "flips"


def test_a_file_without_metadata_has_a_row(tiny: Competition, tmp_path: Path) -> None:
    file = tmp_path / "tiny.csv.gz"
    file.write_bytes(b"rows")
    entry = new_entry(tiny, file, "flips")
    assert entry.recipe == entry.folds == entry.oof_score == entry.threshold == entry.commit == ""
    (tmp_path / "tiny.json").write_text("{broken")
    with pytest.raises(UserError, match=r"tiny\.json: is not valid JSON; run make predict again"):
        new_entry(tiny, file)
    with pytest.raises(UserError, match="no such file; run make predict first"):
        new_entry(tiny, tmp_path / "missing.csv.gz")
