"""Submissions through the real client: uploaded once, looked up, scored, written down."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.competition import Competition
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.errors import UserError
from pipeline.files import lock
from pipeline.kaggle.client import KaggleClient
from pipeline.kaggle.ledger import LedgerEntry, read_ledger, refresh_entries, update_ledger
from pipeline.kaggle.upload import PollPolicy, _describe, submit_file
from tests.kaggle.conftest import HASTY
from tests.standin.server import Standin
from tests.standin.world import Entry

REPOSITORY = Path(__file__).resolve().parents[2]
SOON = PollPolicy(every_s=0.2, limit_s=8.0, arrival_tries=2, arrival_pause_s=0.1)
Send = Callable[..., LedgerEntry]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "submissions" / "ledger.csv"


@pytest.fixture
def file(tmp_path: Path, data: Path) -> Path:
    """The solution itself, and what a prediction writes beside its file."""
    path = tmp_path / "submissions" / "tiny.csv.gz"
    path.parent.mkdir()
    write_mask_csv(path, ("img", "rle_mask"), [(row.id, row.rle) for row in read_mask_csv(data / "solution.csv")])
    facts = {
        "recipe": "baseline",
        "folds": ["fold0", "fold1"],
        "threshold": 0.5,
        "oof_dice": 0.9912341,
        "commit": "abc",
    }
    (path.parent / "tiny.json").write_text(json.dumps(facts))
    return path


@pytest.fixture
def send(tiny: Competition, data: Path, file: Path, book: Path, standin: Standin) -> Send:
    def send(message: str = "flips", path: Path = file, waiting: PollPolicy = SOON, **options: bool) -> LedgerEntry:
        return submit_file(tiny, data, path, message, path=book, patience=HASTY, waiting=waiting, **options)

    return send


def uploads(standin: Standin) -> int:
    return standin.calls.count("PUT")


def test_one_line_with_everything(send: Send, book: Path, standin: Standin) -> None:
    standin.world.delay_s = 1.0
    entry = send()
    assert read_ledger(book) == [entry]
    assert entry.time.endswith("+00:00")
    assert len(entry.sha256) == 64
    assert (entry.competition, entry.file, entry.message) == ("tiny", "tiny.csv.gz", "flips")
    assert (entry.commit, entry.recipe, entry.folds) == ("abc", "baseline", "0 1")
    assert (entry.oof_dice, entry.threshold) == ("0.991234", "0.5")
    assert (entry.reference, entry.public, entry.private) == ("51000000", "1.00000", "1.00000")
    assert (entry.status, entry.reason) == ("COMPLETE", "")
    assert standin.world.entries[0].message == f"[{entry.sha256[:12]}] flips"
    # The same file again, whatever it is called.
    with pytest.raises(UserError, match=r"this very file was submitted on .* as 51000000 .*FORCE=1"):
        send("another message")
    # A ledger that was lost, or another machine: the mark in Kaggle's list tells.
    lines = book.read_text()
    book.unlink()
    assert send().status == "COMPLETE"
    assert uploads(standin) == 1
    assert [line.reference for line in read_ledger(book)] == ["51000000"]
    book.write_text(lines)
    again = send(force=True)
    assert uploads(standin) == 2
    assert [line.reference for line in read_ledger(book)] == ["51000000", again.reference] == ["51000000", "51000001"]


def test_dry_run_shows_all_but_the_upload(send: Send, book: Path, standin: Standin) -> None:
    entry = send(dry_run=True)
    assert (entry.status, entry.recipe) == ("UPLOADING", "baseline")
    assert uploads(standin) == 0
    assert not book.exists()


def test_a_bad_file_is_not_uploaded(send: Send, file: Path, standin: Standin) -> None:
    rows = [(row.id, row.rle) for row in read_mask_csv(file)]
    write_mask_csv(file, ("img", "rle_mask"), rows[:-1])
    with pytest.raises(UserError, match="has no row"):
        send()
    assert standin.calls == []
    with pytest.raises(UserError, match="no such file; run make predict first"):
        send(path=file.with_name("missing.csv.gz"))


def test_works_without_what_stands_beside_the_file(tiny: Competition, file: Path) -> None:
    file.with_name("tiny.json").unlink()
    entry = _describe(tiny, file, "flips")
    assert (entry.recipe, entry.folds, entry.oof_dice, entry.commit) == ("", "", "", "")


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        ("CreateSubmission", "500", "server failed; .*looks first whether this upload has arrived"),
        ("PUT", "500", "Kaggle lists no such submission .the client said: Could not submit"),
    ],
)
def test_what_did_not_arrive_is_said(
    send: Send, book: Path, standin: Standin, step: str, kind: str, words: str
) -> None:
    standin.faults.add(step, kind)
    with pytest.raises(UserError, match=words):
        send()
    assert [line.status for line in read_ledger(book)] == ["UPLOADING"]


def test_what_did_not_arrive_is_sent_again(send: Send, book: Path, standin: Standin) -> None:
    standin.faults.add("CreateSubmission", "swallow")
    with pytest.raises(UserError, match=r"Kaggle lists no such submission .the client said: Successfully submitted"):
        send()
    entry = send()
    assert read_ledger(book) == [entry]
    assert entry.status == "COMPLETE"
    assert uploads(standin) == 2


def test_what_arrived_is_found_whatever_the_client_says(send: Send, book: Path, standin: Standin) -> None:
    standin.faults.add("CreateSubmission", "break")
    entry = send()
    assert (entry.status, entry.reference) == ("COMPLETE", "51000000")
    assert uploads(standin) == 1


def test_killed_between_upload_and_ledger(
    send: Send, book: Path, standin: Standin, tmp_path: Path, data: Path, file: Path
) -> None:
    """The next run finds the submission by the mark of its content, and uploads nothing."""
    standin.faults.add("CreateSubmission", "break")
    code = (
        "import os, signal; from pathlib import Path; from pipeline import competition;"
        "from pipeline.submission import kaggle, submit;"
        "sent = kaggle.Kaggle.submit\n"
        "def send(*arguments):\n"
        "    try: sent(*arguments)\n"
        "    finally: os.kill(os.getpid(), signal.SIGKILL)\n"
        "kaggle.Kaggle.submit = send\n"
        f"tiny = competition.load('tiny', Path({str(tmp_path / 'competitions')!r}))\n"
        f"submit.submit(tiny, Path({str(data)!r}), Path({str(file)!r}), 'flips', path=Path({str(book)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False, stderr=subprocess.DEVNULL)
    (line,) = read_ledger(book)
    assert (line.status, line.reference) == ("UPLOADING", "")
    assert len(standin.world.entries) == 1
    standin.world.settle(standin.world.entries[0])
    entry = send()
    assert read_ledger(book) == [entry]
    assert (entry.status, entry.reference, entry.time) == ("COMPLETE", "51000000", line.time)
    assert uploads(standin) == 1


@pytest.mark.parametrize("kind", ["words", "bare"])
def test_daily_limit(send: Send, book: Path, standin: Standin, kind: str) -> None:
    standin.world.limit = 0
    if kind == "bare":
        standin.faults.add("CreateSubmission", "400")
    # An account that has not submitted today: only the server's refusal tells.
    with pytest.raises(UserError, match="the daily number of submissions to tiny-cars is used up"):
        send()
    assert [line.status for line in read_ledger(book)] == ["REFUSED"]


def test_daily_limit_is_seen_before_the_upload(send: Send, standin: Standin, file: Path) -> None:
    world = standin.world
    world.limit = 1
    world.entries.append(Entry(1, world.accounts[0].name, "x.csv", "x", datetime.now(UTC), file, "COMPLETE"))
    with pytest.raises(UserError, match=r"used up; .* or give FORCE=1 to try all the same"):
        send()
    assert uploads(standin) == 0


def test_a_closed_competition(send: Send, standin: Standin) -> None:
    standin.world.closed = True
    with pytest.raises(UserError, match="tiny-cars takes no submissions any more"):
        send()


def test_a_score_that_stays_pending(send: Send, book: Path, standin: Standin) -> None:
    standin.faults.add("CreateSubmission", "pending")
    entry = send(waiting=PollPolicy(every_s=0.2, limit_s=0.5, arrival_tries=1))
    assert (entry.status, entry.public) == ("PENDING", "")
    # Later it is there, and `make scores` brings it in.
    standin.world.settle(standin.world.entries[0])
    time.sleep(0.5)
    submissions = KaggleClient("tiny-cars", HASTY).submissions()
    (line,) = update_ledger(lambda lines: refresh_entries(lines, "tiny", submissions), book)
    assert (line.status, line.public) == ("COMPLETE", "1.00000")


def test_an_error_with_its_reason(send: Send, book: Path, standin: Standin) -> None:
    standin.faults.add("CreateSubmission", "error")
    with pytest.raises(UserError, match="took it as 51000000 and could not score it: Evaluation Exception: something"):
        send()
    (line,) = read_ledger(book)
    assert (line.status, line.reason) == ("ERROR", "Evaluation Exception: something is wrong")


def test_only_one_at_a_time(send: Send, book: Path) -> None:
    held = lock(book.parent / ".submit.lock", wait=False)
    with held, pytest.raises(UserError, match="another submission is under way"):
        send()


def test_a_competition_that_is_not_on_kaggle(tiny: Competition, data: Path, file: Path) -> None:
    nowhere = tiny.model_copy(update={"slug": None})
    with pytest.raises(UserError, match=r"tiny\.toml: has no slug"):
        submit_file(nowhere, data, file)


def test_the_plain_client_takes_what_we_write(standin: Standin, file: Path) -> None:
    """`kaggle competitions submit`, as a user types it."""
    console = Path(sys.executable).with_name("kaggle")
    command = [str(console), "competitions", "submit", "tiny-cars", "-f", str(file), "-m", "by hand"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "Successfully submitted" in done.stdout
    deadline = time.monotonic() + 5
    while standin.world.entries[0].status == "PENDING" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert standin.world.entries[0].public == "1.00000"
