"""Texts about submissions and scores."""

from pathlib import Path

import pytest

from pipeline.competition import Competition
from pipeline.kaggle.client import KaggleClient
from pipeline.kaggle.ledger import read_ledger, write_entry
from pipeline.kaggle.scores import describe_entry, describe_scores
from tests.kaggle.helpers import make_entry, make_submission


def test_scores_update_the_ledger_and_show_one_competition(
    tiny: Competition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "ledger.csv"
    write_entry(make_entry(0, reference="1", status="PENDING", oof_score="0.91"), ledger)
    write_entry(make_entry(1, reference="1", status="PENDING", competition="other", file="other.csv"), ledger)
    write_entry(make_entry(2, status="REFUSED", reason="too late"), ledger)
    monkeypatch.setattr(KaggleClient, "list_submissions", lambda _: [make_submission("1")])
    header, scored, refused, last = describe_scores(tiny, ledger).splitlines()
    assert header.split() == ["time", "file", "OOF", "public", "private", "status", "message"]
    assert scored.split() == ["2026-11-22T10:00", "a.csv.gz", "0.91", "0.9", "0.8", "COMPLETE", "flips"]
    assert refused.split() == ["2026-11-22T10:00", "a.csv.gz", "–", "–", "–", "REFUSED", "too", "late"]
    assert last == str(ledger)
    assert [entry.status for entry in read_ledger(ledger)] == ["COMPLETE", "PENDING", "REFUSED"]


@pytest.mark.parametrize(
    ("status", "dry_run", "first"),
    [
        ("UPLOADING", True, "would upload {file} (1.5 MB) as “[000000000001] flips”; nothing was uploaded"),
        ("COMPLETE", True, "7: public 0.9, private –"),
        ("COMPLETE", False, "7: public 0.9, private –"),
        ("PENDING", False, "7: not scored yet; run make scores later"),
    ],
)
def test_a_submission_is_described_with_its_result(tmp_path: Path, status: str, dry_run: bool, first: str) -> None:
    file = tmp_path / "a.csv.gz"
    file.write_bytes(b"x" * 1_500_000)
    entry = make_entry(1, status=status, reference="7", public="0.9", recipe="cpu", folds="0 1")
    lines = describe_entry(entry, file, dry_run, tmp_path / "ledger.csv").splitlines()
    assert lines[0] == first.format(file=file)
    assert ["recipe", "cpu"] in [line.split() for line in lines]
    assert ["folds", "0", "1"] in [line.split() for line in lines]
    assert ["commit", "–"] in [line.split() for line in lines]
    assert (lines[-1] == str(tmp_path / "ledger.csv")) == (not dry_run)
