"""Check → upload → look it up → wait for the score → ledger; never the same file twice by accident.

The line in the ledger is written before the upload. A run that dies in between leaves it at UPLOADING, and the next one
first looks whether the file has arrived: the mark of its content stands in the submission's description.
"""

import hashlib
import json
import logging
import time
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.files import lock
from pipeline.kaggle.client import KaggleClient, KaggleSubmission, RetryPolicy
from pipeline.kaggle.errors import KaggleError, kaggle_error, last_line
from pipeline.kaggle.ledger import LedgerEntry, read_ledger, write_entry
from pipeline.paths import LEDGER
from pipeline.submission.check import check_submission, expected_shapes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PollPolicy:
    """How long to look for a submission, and for its score."""

    every_s: float = 10.0
    limit_s: float = 1800.0
    arrival_tries: int = 4
    """Looks before a submission counts as not arrived, a growing pause apart."""
    arrival_pause_s: float = 3.0


def submit_file(
    competition: Competition,
    data: Path,
    file: Path,
    message: str = "",
    *,
    force: bool = False,
    dry_run: bool = False,
    path: Path = LEDGER,
    patience: RetryPolicy | None = None,
    waiting: PollPolicy | None = None,
) -> LedgerEntry:
    """Submit a file and wait for its score.

    Args:
        competition: where to.
        data: the folder of the data, for the check of the file.
        file: a .csv or .csv.gz; `<name>.json` beside it, where there is one, says how it was made.
        message: is shown in Kaggle's list.
        force: upload even if this very file was submitted before, or the daily number seems used up.
        dry_run: do all but the upload, and write nothing.
        path: the ledger.
        patience: how long to wait for the client.
        waiting: how long to wait for Kaggle.

    Returns:
        The line of the ledger: COMPLETE with its scores, or PENDING if they did not come in time.

    Raises:
        UserError: the file is bad, was submitted before, was refused, or could not be scored; Kaggle's reason is in it.
    """
    kaggle = KaggleClient(require_slug(competition), patience)
    waiting = waiting or PollPolicy()
    entry = _describe(competition, file, message)
    before = [old for old in read_ledger(path) if (old.competition, old.sha256) == (entry.competition, entry.sha256)]
    _require_new([old for old in before if old.status not in ("UPLOADING", "REFUSED")], file, force)
    wanted = expected_shapes(competition, data)
    report = check_submission(file, competition, list(wanted), wanted)
    report.raise_if_bad()
    for warning in report.warnings:
        log.warning("%s: %s", file, warning)
    log.info("%s: %s rows are good, %.1f MB", file, f"{report.rows:,}", file.stat().st_size / 1e6)
    with lock(path.with_name(".submit.lock"), "another submission is running here") if not dry_run else nullcontext():
        listed = kaggle.submissions()
        interrupted = next((old for old in before if old.status == "UPLOADING"), None)
        recorded = {old.reference for old in read_ledger(path)}
        lost = _find(entry, listed, recorded)
        if interrupted and not lost:
            lost = _look_up(kaggle, entry, recorded, waiting.arrival_tries, waiting)
        if lost and (interrupted or not force):
            log.info("%s: is on Kaggle already, as submission %s; not uploaded again", file, lost.ref)
            arrived = (interrupted or entry).with_result(lost)
            return arrived if dry_run else _wait(kaggle, write_entry(arrived, path), path, waiting)
        _require_allowance(kaggle, force)
        if dry_run:
            return entry
        # The line of the interrupted upload goes on to stand for this one.
        entry = write_entry(replace(entry, time=interrupted.time) if interrupted else entry, path)
        entry = _upload(kaggle, entry, file, {one.ref for one in listed}, path, waiting)
    return _wait(kaggle, entry, path, waiting)


def require_slug(competition: Competition) -> str:
    """Kaggle's name of a competition; UserError if it has none."""
    if competition.slug is None:
        raise UserError(f"competitions/{competition.name}.toml", "has no slug", "it is not on Kaggle")
    return competition.slug


def _describe(competition: Competition, file: Path, message: str) -> LedgerEntry:
    """The line for a file, from its bytes and from what stands beside it."""
    try:
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(file, "no such file", "run make predict first") from None
    facts = _facts(file)
    return LedgerEntry(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        competition=competition.name,
        file=file.name,
        sha256=sha256,
        message=message or str(facts.get("recipe", "")),
        commit=str(facts.get("commit") or ""),
        recipe=str(facts.get("recipe") or ""),
        folds=" ".join(str(fold).removeprefix("fold") for fold in facts.get("folds") or ()),
        oof_dice=_figure(facts.get("oof_dice")),
        threshold=_figure(facts.get("threshold")),
    )


def _facts(file: Path) -> dict[str, Any]:
    """What the prediction wrote beside its file: `x.json` for `x.csv.gz`; nothing if it is not there."""
    path = file.with_name(file.name.removesuffix(".gz").removesuffix(".csv") + ".json")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(path, "is not JSON", "run make predict again, or delete it") from None
    return facts if isinstance(facts, dict) else {}


def _figure(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else ""


def _require_new(before: list[LedgerEntry], file: Path, force: bool) -> None:
    if before and not force:
        old = before[-1]
        score = f"public {old.public or '?'}, private {old.private or '?'}" if old.status == "COMPLETE" else old.status
        raise UserError(
            file,
            f"this very file was submitted on {old.time[:16]} as {old.reference or 'unknown'} ({score})",
            "give FORCE=1 to submit it once more",
        )


def _require_allowance(kaggle: KaggleClient, force: bool) -> None:
    """Stop before a long upload that will not be taken; an account that has not submitted yet shows zeros too."""
    allowance = kaggle.allowance()
    if allowance is None:
        return
    today, left = allowance
    log.info("%s: %d submissions today, %d left", kaggle.slug, today, left)
    if today and not left and not force:
        raise KaggleError("limit", f"{kaggle_error('limit', kaggle.slug)}, or give FORCE=1 to try all the same")


def _upload(
    kaggle: KaggleClient, entry: LedgerEntry, file: Path, known: Collection[str], path: Path, waiting: PollPolicy
) -> LedgerEntry:
    """Upload and see whether it has arrived, whatever the client says."""
    log.info("%s: uploading to %s", file, kaggle.slug)
    problem: KaggleError | None = None
    said = ""
    try:
        said = kaggle.submit(file, entry.description)
    except KaggleError as error:
        problem = error
    # After a plain refusal one look is enough.
    tries = waiting.arrival_tries if problem is None or problem.passing else 1
    found = _look_up(kaggle, entry, known, tries, waiting, file.name)
    if found:
        return write_entry(entry.with_result(found), path)
    if problem is None:
        words = last_line(said)
        raise KaggleError(
            "refused",
            f"{file}: was uploaded, and Kaggle lists no such submission (the client said: {words or 'nothing'}); see "
            "your submissions in a browser, and run the same command again: it looks first whether it has arrived",
        )
    if problem.passing:
        raise KaggleError(problem.cause, f"{problem}; it looks first whether this upload has arrived")
    if problem.cause == "refused" and (kaggle.allowance() or (0, 1))[1] == 0:
        # The client keeps the server's words to itself at times.
        problem = kaggle_error("limit", kaggle.slug)
    write_entry(replace(entry, status="REFUSED", reason=str(problem)), path)
    raise problem


def _find(
    entry: LedgerEntry, submissions: list[KaggleSubmission], known: Collection[str], name: str | None = None
) -> KaggleSubmission | None:
    """The submission of a line: one not known before that bears its mark or, if `name` is given, that name."""
    for submission in submissions:
        if submission.ref not in known and (entry.tag in submission.message or submission.file == name):
            return submission
    return None


def _look_up(
    kaggle: KaggleClient,
    entry: LedgerEntry,
    known: Collection[str],
    tries: int,
    waiting: PollPolicy,
    name: str | None = None,
) -> KaggleSubmission | None:
    """`_find` in Kaggle's list as it is now, and again after a while."""
    for attempt in range(tries):
        if attempt:
            time.sleep(waiting.arrival_pause_s * attempt)
        found = _find(entry, _listed(kaggle), known, name)
        if found:
            return found
    return None


def _listed(kaggle: KaggleClient) -> list[KaggleSubmission]:
    try:
        return kaggle.submissions()
    except KaggleError as error:
        log.warning("%s", error)
        return []


def _wait(kaggle: KaggleClient, entry: LedgerEntry, path: Path, waiting: PollPolicy) -> LedgerEntry:
    """Ask again and again until there is a score, or the time is up."""
    started = time.monotonic()
    bar = tqdm(total=round(waiting.limit_s), desc="wait for the score", unit="s", delay=1, leave=False)
    with bar:
        while entry.status == "PENDING" and time.monotonic() - started < waiting.limit_s:
            # Small files are scored in seconds, large ones in minutes.
            time.sleep(min(waiting.every_s, 1 + (time.monotonic() - started) / 4))
            bar.update(min(round(time.monotonic() - started), bar.total) - bar.n)
            found = next((one for one in _listed(kaggle) if one.ref == entry.reference), None)
            if found and found.status != "PENDING":
                entry = write_entry(entry.with_result(found), path)
    if entry.status == "ERROR":
        raise UserError(
            entry.file,
            f"Kaggle took it as {entry.reference} and could not score it: {entry.reason or 'it gives no reason'}",
        )
    return entry
