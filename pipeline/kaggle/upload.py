"""Submit a file: check it, upload it once, look it up on Kaggle, wait for its score, record it in the ledger.

The ledger entry is written before the upload, with the status UPLOADING. If the process dies, the next call first
looks up whether the file has arrived: the submission's message on Kaggle starts with a tag of the file's content.
"""

import logging
import time
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.files import lock
from pipeline.kaggle.client import KaggleClient, KaggleSubmission, RetryPolicy, require_credentials, require_slug
from pipeline.kaggle.errors import KaggleError, kaggle_error, last_line
from pipeline.kaggle.ledger import LedgerEntry, new_entry, read_ledger, write_entry
from pipeline.paths import LEDGER
from pipeline.submission.check import check_submission, reference_ratios
from pipeline.submission.shapes import expected_shapes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PollPolicy:
    """How long to look for a submission on Kaggle, and how long to wait for its score."""

    interval_s: float = 10.0
    """Longest pause between two looks at the score."""
    timeout_s: float = 1800.0
    """Longest wait for the score."""
    arrival_attempts: int = 4
    """Look-ups before a submission counts as not arrived."""
    arrival_interval_s: float = 3.0
    """Pause before the second look-up; it grows by as much with each further one."""


def submit_file(
    competition: Competition,
    data: Path,
    file: Path,
    message: str = "",
    *,
    force: bool = False,
    dry_run: bool = False,
    ledger: Path = LEDGER,
    retry: RetryPolicy | None = None,
    poll: PollPolicy | None = None,
) -> LedgerEntry:
    """Submit a file and wait for its score.

    Args:
        competition: where to submit.
        data: the data folder, for the check of the file.
        file: a .csv or .csv.gz file; how it was made is read from `submission_metadata(file)`, if that exists.
        message: shown in Kaggle's list of submissions; the recipe's name if empty.
        force: submit a file that was submitted before, and try even if the daily number is used up.
        dry_run: do everything but the upload, and write nothing.
        ledger: the file to write.
        retry: time limits and attempts of the client.
        poll: how long to wait for Kaggle.

    Returns:
        The entry of the ledger: COMPLETE with its scores, or PENDING if they did not arrive in time.

    Raises:
        UserError: the file is faulty, was submitted before, was refused, or could not be scored.
    """
    client = KaggleClient(require_slug(competition), retry)
    require_credentials()
    entry = new_entry(competition, file, message)
    earlier = [old for old in read_ledger(ledger) if (old.competition, old.sha256) == (entry.competition, entry.sha256)]
    if not force:
        _require_new(earlier, file)
    _require_valid(competition, data, file)
    uploader = _Uploader(client, ledger, poll or PollPolicy())
    interrupted = next((old for old in earlier if old.status == "UPLOADING"), None)
    busy = "another submission is running here"
    with nullcontext() if dry_run else lock(ledger.with_name(".submit.lock"), busy):
        listed = client.list_submissions()
        arrived = uploader.find_unrecorded(entry, listed, wait=interrupted is not None)
        if arrived and (interrupted or not force):
            log.info("%s: is on Kaggle already, as submission %s; not uploaded again", file, arrived.ref)
            entry = (interrupted or entry).with_result(arrived)
            if not dry_run:
                write_entry(entry, ledger)
        else:
            _require_submissions_left(client, force)
            if not dry_run:
                # The row of an interrupted upload is used again.
                entry = write_entry(replace(entry, time=interrupted.time) if interrupted else entry, ledger)
                entry = uploader.upload(entry, file, {submission.ref for submission in listed})
    return entry if dry_run else uploader.wait_for_score(entry)


def _require_new(earlier: Sequence[LedgerEntry], file: Path) -> None:
    """Refuse a file that Kaggle has accepted before."""
    accepted = [old for old in earlier if old.status not in ("UPLOADING", "REFUSED")]
    if accepted:
        old = accepted[-1]
        result = f"public {old.public or '?'}, private {old.private or '?'}" if old.status == "COMPLETE" else old.status
        what = f"this file was submitted on {old.time[:16]} as {old.reference or 'unknown'} ({result})"
        raise UserError(file, what, "set FORCE=1 to submit it again")


def _require_valid(competition: Competition, data: Path, file: Path) -> None:
    """Check the file as Kaggle would, and log warnings."""
    shapes = expected_shapes(competition, data)
    report = check_submission(file, competition, shapes, reference_ratios(competition, data))
    report.raise_if_bad()
    for warning in report.warnings:
        log.warning("%s: %s", file, warning)
    log.info("%s: %s rows are valid, %.1f MB", file, f"{report.rows:,}", file.stat().st_size / 1e6)


def _require_submissions_left(client: KaggleClient, force: bool) -> None:
    """Refuse a long upload that Kaggle would not accept.

    An account that has never submitted also has 0 left, so at least one submission must have been made today.
    """
    limits = client.submission_limits()
    if limits is None:
        return
    log.info("%s: %d submissions today, %d left", client.slug, limits.made, limits.left)
    if limits.made and not limits.left and not force:
        error = kaggle_error("limit", client.slug)
        raise error.with_fix(f"{error.fix}, or set FORCE=1 to try anyway")


class _Uploader:
    """Upload files and follow them on Kaggle.

    Args:
        client: the competition.
        ledger: where results are recorded.
        poll: how long to wait for Kaggle.
    """

    def __init__(self, client: KaggleClient, ledger: Path, poll: PollPolicy) -> None:
        self.client = client
        self.ledger = ledger
        self.poll = poll

    def find_unrecorded(
        self, entry: LedgerEntry, listed: Sequence[KaggleSubmission], wait: bool
    ) -> KaggleSubmission | None:
        """Find a submission of this file that the ledger does not have: from an interrupted call or another machine.

        Args:
            entry: the row of the file.
            listed: Kaggle's list of submissions.
            wait: look again for a while if it is not in the list.
        """
        references = {old.reference for old in read_ledger(self.ledger)}
        found = _find_submission(entry, listed, references)
        if found or not wait:
            return found
        return self._look_up(entry, references, self.poll.arrival_attempts)

    def upload(self, entry: LedgerEntry, file: Path, known: Collection[str]) -> LedgerEntry:
        """Upload the file and look it up. The client's exit code and output are not trusted.

        Args:
            entry: the row of this upload.
            file: the file.
            known: references of the submissions before the upload.

        Returns:
            The row with Kaggle's reference.

        Raises:
            KaggleError: the submission did not arrive or was refused.
        """
        log.info("%s: uploading to %s", file, self.client.slug)
        failure: KaggleError | None = None
        output = ""
        try:
            output = self.client.submit(file, entry.description)
        except KaggleError as error:
            failure = error
        # After a clear refusal one look-up is enough.
        attempts = self.poll.arrival_attempts if failure is None or failure.retryable else 1
        found = self._look_up(entry, known, attempts, file.name)
        if found:
            return write_entry(entry.with_result(found), self.ledger)
        if failure is None:
            printed = last_line(output) or "nothing"
            what = f"was uploaded, but Kaggle lists no such submission (the client printed: {printed})"
            fix = "look at your submissions in a browser and run the same command again: it looks the upload up first"
            raise KaggleError("refused", what, fix, str(file))
        if failure.retryable:
            raise failure.with_fix(f"{failure.fix}: it looks up first whether this upload has arrived")
        if failure.cause == "refused" and _is_used_up(self.client):
            # The client does not always print the server's message.
            failure = kaggle_error("limit", self.client.slug)
        write_entry(replace(entry, status="REFUSED", reason=str(failure)), self.ledger)
        raise failure

    def wait_for_score(self, entry: LedgerEntry) -> LedgerEntry:
        """List the submissions until this one has a score or the time is up.

        Returns:
            The row with the score, or still PENDING.

        Raises:
            UserError: Kaggle could not score the file.
        """
        started = time.monotonic()
        limit = round(self.poll.timeout_s)
        with tqdm(total=limit, desc="wait for the score", unit="s", delay=1, leave=False) as bar:
            while entry.status == "PENDING" and (waited := time.monotonic() - started) < self.poll.timeout_s:
                # Kaggle scores small files in seconds, large ones in minutes.
                time.sleep(min(self.poll.interval_s, 1 + waited / 4))
                bar.update(min(round(time.monotonic() - started), limit) - bar.n)
                found = next((one for one in self._list_submissions() if one.ref == entry.reference), None)
                if found and found.status != "PENDING":
                    entry = write_entry(entry.with_result(found), self.ledger)
        if entry.status == "ERROR":
            reason = entry.reason or "it gives no reason"
            what = f"Kaggle accepted it as {entry.reference} but could not score it: {reason}"
            raise UserError(entry.file, what, "correct the file and submit it again")
        return entry

    def _look_up(
        self, entry: LedgerEntry, known: Collection[str], attempts: int, file_name: str | None = None
    ) -> KaggleSubmission | None:
        """Call `_find_submission` on Kaggle's current list, several times if needed."""
        for attempt in range(attempts):
            if attempt:
                time.sleep(self.poll.arrival_interval_s * attempt)
            found = _find_submission(entry, self._list_submissions(), known, file_name)
            if found:
                return found
        return None

    def _list_submissions(self) -> list[KaggleSubmission]:
        """List the submissions; none, with a warning, if the client fails."""
        try:
            return self.client.list_submissions()
        except KaggleError as error:
            log.warning("%s", error)
            return []


def _find_submission(
    entry: LedgerEntry,
    submissions: Sequence[KaggleSubmission],
    known: Collection[str],
    file_name: str | None = None,
) -> KaggleSubmission | None:
    """Return the first submission not in `known` that has the entry's tag or, if given, the name of the file."""
    new = (submission for submission in submissions if submission.ref not in known)
    return next((one for one in new if entry.tag in one.message or one.file == file_name), None)


def _is_used_up(client: KaggleClient) -> bool:
    limits = client.submission_limits()
    return limits is not None and limits.left == 0
