"""Submissions with the real client: uploaded once, looked up, scored, recorded."""

import json
import signal
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
from pipeline.kaggle.client import KaggleClient, SubmissionLimits
from pipeline.kaggle.errors import KaggleError
from pipeline.kaggle.ledger import LedgerEntry, read_ledger, refresh_entries, update_ledger
from pipeline.kaggle.upload import PollPolicy, _find_submission, _require_submissions_left, submit_file
from tests.helpers import TINY_FORMAT, changed_competition
from tests.kaggle.helpers import FAST_RETRY, SLUG, make_entry, make_submission, start_python
from tests.standin.backend import StoredSubmission
from tests.standin.server import StandinServer

pytestmark = pytest.mark.slow

FAST_POLL = PollPolicy(interval_s=0.2, timeout_s=8.0, arrival_attempts=2, arrival_interval_s=0.1)
Send = Callable[..., LedgerEntry]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "submissions" / "ledger.csv"


@pytest.fixture
def file(tmp_path: Path, data: Path) -> Path:
    """A submission that equals the solution, with its metadata."""
    path = tmp_path / "submissions" / "tiny.csv.gz"
    path.parent.mkdir()
    write_mask_csv(path, TINY_FORMAT, [row[1:] for row in read_mask_csv(data / "solution.csv", TINY_FORMAT)])
    metadata = {"recipe": "baseline", "folds": [0, 1], "threshold": 0.5, "oof_score": 0.9912341, "commit": "abc"}
    (path.parent / "tiny.json").write_text(json.dumps(metadata))
    return path


@pytest.fixture
def send(tiny: Competition, data: Path, file: Path, ledger: Path, standin: StandinServer) -> Send:
    """`submit_file` with quick time limits."""

    def send(message: str = "flips", path: Path = file, poll: PollPolicy = FAST_POLL, **options: bool) -> LedgerEntry:
        return submit_file(tiny, data, path, message, ledger=ledger, retry=FAST_RETRY, poll=poll, **options)

    return send


def count_uploads(standin: StandinServer) -> int:
    return standin.calls.count("PUT")


def test_a_file_is_submitted_once_and_recorded(send: Send, ledger: Path, standin: StandinServer) -> None:
    standin.backend.scoring_delay_s = 1.0
    entry = send()
    assert read_ledger(ledger) == [entry]
    assert (entry.competition, entry.file, entry.message) == ("tiny", "tiny.csv.gz", "flips")
    assert (entry.commit, entry.recipe, entry.folds) == ("abc", "baseline", "0 1")
    assert (entry.reference, entry.public, entry.private) == ("51000000", "1.00000", "1.00000")
    assert (entry.status, entry.reason) == ("COMPLETE", "")
    assert standin.backend.submissions[0].message == f"[{entry.sha256[:12]}] flips"
    message = r"this file was submitted on .* as 51000000 \(public 1\.00000, private 1\.00000\); set FORCE=1"
    with pytest.raises(UserError, match=message):
        send("another message")
    # Without the ledger, or on another machine, the tag in Kaggle's list identifies the file.
    rows = ledger.read_text()
    ledger.unlink()
    assert send(dry_run=True).reference == "51000000"
    assert not ledger.exists()
    assert send().status == "COMPLETE"
    assert count_uploads(standin) == 1
    assert [row.reference for row in read_ledger(ledger)] == ["51000000"]
    ledger.write_text(rows)
    again = send(force=True)
    assert count_uploads(standin) == 2
    assert [row.reference for row in read_ledger(ledger)] == ["51000000", again.reference] == ["51000000", "51000001"]


def test_a_dry_run_uploads_and_writes_nothing(send: Send, ledger: Path, standin: StandinServer) -> None:
    entry = send(dry_run=True)
    assert (entry.status, entry.recipe) == ("UPLOADING", "baseline")
    assert count_uploads(standin) == 0
    assert not ledger.exists()


def test_a_faulty_file_is_not_uploaded(send: Send, file: Path, standin: StandinServer) -> None:
    rows = [row[1:] for row in read_mask_csv(file, TINY_FORMAT)]
    write_mask_csv(file, TINY_FORMAT, rows[:-1])
    with pytest.raises(UserError, match="has no row"):
        send()
    assert standin.calls == []


# ---- failed and interrupted uploads


@pytest.mark.parametrize(
    ("step", "kind", "message"),
    [
        ("CreateSubmission", "500", "error on its own side; .*looks up first whether this upload has arrived"),
        ("PUT", "500", "was uploaded, but Kaggle lists no such submission .the client printed: Could not submit"),
    ],
)
def test_an_upload_that_does_not_arrive_is_an_error(
    send: Send, ledger: Path, standin: StandinServer, step: str, kind: str, message: str
) -> None:
    standin.faults.add(step, kind)
    with pytest.raises(UserError, match=message):
        send()
    assert [row.status for row in read_ledger(ledger)] == ["UPLOADING"]


def test_a_lost_upload_is_repeated_by_the_next_call(send: Send, ledger: Path, standin: StandinServer) -> None:
    standin.faults.add("CreateSubmission", "lose")
    with pytest.raises(UserError, match=r"Kaggle lists no such submission .the client printed: Successfully submitted"):
        send()
    entry = send()
    assert read_ledger(ledger) == [entry]
    assert entry.status == "COMPLETE"
    assert count_uploads(standin) == 2


def test_an_upload_that_arrived_is_found_although_the_client_failed(send: Send, standin: StandinServer) -> None:
    standin.faults.add("CreateSubmission", "no_answer")
    entry = send()
    assert (entry.status, entry.reference) == ("COMPLETE", "51000000")
    assert count_uploads(standin) == 1


def test_a_call_after_a_kill_finds_the_submission(
    send: Send, ledger: Path, standin: StandinServer, tmp_path: Path, data: Path, file: Path
) -> None:
    standin.faults.add("CreateSubmission", "no_answer")
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from pipeline.competition import load_competition\n"
        "from pipeline.kaggle.client import KaggleClient\n"
        "from pipeline.kaggle.upload import submit_file\n"
        "submit = KaggleClient.submit\n"
        "def submit_and_die(*arguments):\n"
        "    try:\n"
        "        submit(*arguments)\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "KaggleClient.submit = submit_and_die\n"
        f"tiny = load_competition('tiny', Path({str(tmp_path / 'competitions')!r}))\n"
        f"submit_file(tiny, Path({str(data)!r}), Path({str(file)!r}), 'flips', ledger=Path({str(ledger)!r}))\n"
    )
    assert start_python(code).wait() == -signal.SIGKILL
    (row,) = read_ledger(ledger)
    assert (row.status, row.reference) == ("UPLOADING", "")
    assert len(standin.backend.submissions) == 1
    standin.backend.start_scoring(standin.backend.submissions[0])
    entry = send()
    assert read_ledger(ledger) == [entry]
    assert (entry.status, entry.reference, entry.time) == ("COMPLETE", "51000000", row.time)
    assert count_uploads(standin) == 1


# ---- refusals


@pytest.mark.parametrize("with_reason", [True, False])
def test_a_used_up_daily_limit_is_recognized(
    send: Send, ledger: Path, standin: StandinServer, with_reason: bool
) -> None:
    standin.backend.daily_limit = 0
    if not with_reason:
        standin.faults.add("CreateSubmission", "400")
    # This account has not submitted today, so only the server's refusal tells.
    with pytest.raises(UserError, match="tiny-cars: the daily number of submissions is used up"):
        send()
    assert [row.status for row in read_ledger(ledger)] == ["REFUSED"]


def test_a_used_up_daily_limit_is_noticed_before_the_upload(send: Send, standin: StandinServer, file: Path) -> None:
    backend = standin.backend
    backend.daily_limit = 1
    account = backend.accounts[0].name
    backend.submissions.append(StoredSubmission(1, account, "x.csv", "x", datetime.now(UTC), file, "COMPLETE"))
    with pytest.raises(UserError, match=r"used up; .*, or set FORCE=1 to try anyway"):
        send()
    assert count_uploads(standin) == 0


@pytest.mark.parametrize(
    ("limits", "force", "refused"),
    [
        (SubmissionLimits(made=5, left=0), False, True),
        (SubmissionLimits(made=1, left=0), False, True),
        (SubmissionLimits(made=5, left=0), True, False),
        (SubmissionLimits(made=4, left=1), False, False),
        (SubmissionLimits(made=0, left=0), False, False),
        (None, False, False),
    ],
)
def test_uploads_are_refused_only_without_submissions_left(
    monkeypatch: pytest.MonkeyPatch, limits: SubmissionLimits | None, force: bool, refused: bool
) -> None:
    client = KaggleClient(SLUG)
    monkeypatch.setattr(client, "submission_limits", lambda: limits)
    if refused:
        with pytest.raises(KaggleError) as caught:
            _require_submissions_left(client, force)
        assert caught.value.cause == "limit"
    else:
        _require_submissions_left(client, force)


def test_a_closed_competition_refuses_submissions(send: Send, ledger: Path, standin: StandinServer) -> None:
    standin.backend.closed = True
    with pytest.raises(UserError, match="tiny-cars: the competition accepts no submissions any more"):
        send()
    (row,) = read_ledger(ledger)
    assert row.status == "REFUSED"
    assert "accepts no submissions any more" in row.reason


def test_a_file_that_cannot_be_scored_is_an_error(send: Send, ledger: Path, standin: StandinServer) -> None:
    standin.faults.add("CreateSubmission", "error")
    message = r"tiny\.csv\.gz: Kaggle accepted it as 51000000 but could not score it: Evaluation Exception: something"
    with pytest.raises(UserError, match=message):
        send()
    (row,) = read_ledger(ledger)
    assert (row.status, row.reason) == ("ERROR", "Evaluation Exception: something is wrong")


def test_a_late_score_is_added_to_the_ledger(send: Send, ledger: Path, standin: StandinServer) -> None:
    standin.faults.add("CreateSubmission", "pending")
    entry = send(poll=PollPolicy(interval_s=0.2, timeout_s=0.5, arrival_attempts=1))
    assert (entry.status, entry.public) == ("PENDING", "")
    standin.backend.start_scoring(standin.backend.submissions[0])
    time.sleep(0.5)
    submissions = KaggleClient(SLUG, FAST_RETRY).list_submissions()
    (row,) = update_ledger(lambda rows: refresh_entries(rows, "tiny", submissions), ledger)
    assert (row.status, row.public) == ("COMPLETE", "1.00000")


def test_two_submissions_at_once_are_refused(send: Send, ledger: Path) -> None:
    with lock(ledger.parent / ".submit.lock"), pytest.raises(UserError, match="another submission is running here"):
        send()


def test_competitions_that_are_not_on_kaggle_are_refused(tiny: Competition, data: Path, file: Path) -> None:
    with pytest.raises(UserError, match=r"tiny\.toml: has no slug"):
        submit_file(changed_competition(tiny, slug=None), data, file)


# ---- looking a submission up


def test_a_submission_is_found_by_tag_or_by_name() -> None:
    entry = make_entry(1)
    tagged = make_submission("1", message=f"{entry.tag} flips", file="other.csv.gz")
    named = make_submission("2", file="a.csv.gz")
    other = make_submission("3", message=make_entry(1, sha256="ff" * 32).tag, file="other.csv.gz")
    submissions = [other, named, tagged]
    assert _find_submission(entry, submissions, set()) == tagged
    assert _find_submission(entry, submissions, set(), "a.csv.gz") == named
    assert _find_submission(entry, submissions, {"1"}) is None
    assert _find_submission(entry, submissions, {"2"}, "a.csv.gz") == tagged


def test_the_client_accepts_our_files_without_the_pipeline(standin: StandinServer, file: Path) -> None:
    console = Path(sys.executable).with_name("kaggle")
    command = [str(console), "competitions", "submit", SLUG, "-f", str(file), "-m", "by hand"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "Successfully submitted" in done.stdout
    deadline = time.monotonic() + 5
    while standin.backend.submissions[0].status == "PENDING" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert standin.backend.submissions[0].public == "1.00000"
