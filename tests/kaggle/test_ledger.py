"""The ledger: one line an upload, never lost, never half-written."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.kaggle.client import KaggleSubmission
from pipeline.kaggle.ledger import LedgerEntry, leaderboard_rank, read_ledger, refresh_entries, write_entry


def entry(number: int = 0, **values: str) -> LedgerEntry:
    fields = {"time": f"2026-11-22T10:00:{number:02d}+00:00", "competition": "tiny", "file": "a.csv.gz"}
    return LedgerEntry(**{**fields, "sha256": f"{number:064x}", "message": "flips", **values})


def submission(ref: str, message: str = "", **values: str) -> KaggleSubmission:
    fields = {"date": "", "file": "a.csv.gz", "status": "COMPLETE", "public": "0.9", "private": "0.8", "reason": ""}
    return KaggleSubmission(ref=ref, message=message, **{**fields, **values})


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "submissions" / "ledger.csv"
    assert read_ledger(path) == []
    odd = entry(1, message='commas, "quotes"\nand lines, – ü', oof_dice="0.99")
    write_entry(entry(0), path)
    write_entry(odd, path)
    write_entry(replace(entry(0), status="PENDING", reference="7"), path)
    assert read_ledger(path) == [replace(entry(0), status="PENDING", reference="7"), odd]
    assert sorted(each.name for each in path.parent.iterdir()) == [".ledger.lock", "ledger.csv"]


def test_nothing_is_lost_when_many_write(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_entry(entry(number), path), range(40)))
    assert sorted(read_ledger(path), key=lambda each: each.time) == [entry(number) for number in range(40)]


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text("time,score\n1,2\n")
    with pytest.raises(UserError, match=r"ledger\.csv: its first line is not time,competition,file"):
        write_entry(entry(), path)
    assert path.read_text() == "time,score\n1,2\n"
    path.unlink()
    write_entry(entry(), path)
    path.write_text(path.read_text() + "cut,off\n")
    with pytest.raises(UserError, match="line 3 has 2 fields instead of 15"):
        read_ledger(path)


def test_refresh() -> None:
    lines = [
        entry(0, reference="1", status="PENDING"),
        entry(1, status="UPLOADING"),
        entry(2, status="UPLOADING"),
        entry(3, competition="other", reference="1", status="PENDING"),
        entry(4, reference="4", status="COMPLETE", public="0.9"),
    ]
    known = [
        submission("1"),
        submission("2", f"{entry(1).tag} flips"),
        submission("4", entry(4).tag, status="ERROR", reason="bad row", public="", private=""),
    ]
    first, found, lost, other, failed = refresh_entries(lines, "tiny", known)
    assert (first.public, first.private, first.status) == ("0.9", "0.8", "COMPLETE")
    assert (found.reference, found.status) == ("2", "COMPLETE")
    assert lost == lines[2]
    assert other == lines[3]
    assert (failed.status, failed.reason) == ("ERROR", "bad row")


def test_the_tag_comes_first_and_belongs_to_the_content() -> None:
    assert entry(1).description == f"[{'0' * 12}] flips"
    assert entry(1, sha256="ab" * 32, message="").description == "[abababababab]"


@pytest.mark.parametrize(
    ("scores", "mine", "place"),
    [
        (["0.9", "0.8", "0.7"], 0.95, 1),
        (["0.9", "0.8", "0.7"], 0.8, 2),
        (["0.9", "0.8", "0.7"], 0.1, 4),
        (["0.1", "0.2", "0.3"], 0.15, 2),
        (["0.9", "", "0.7"], 0.8, 2),
        ([], 0.5, 1),
    ],
)
def test_rank(scores: list[str], mine: float, place: int) -> None:
    assert leaderboard_rank(scores, mine) == place
