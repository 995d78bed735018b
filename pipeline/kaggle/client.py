"""Call the official Kaggle client and read its answers.

The client's exit code is 0 for some failed uploads, and its text changes between versions. So answers are read as JSON,
failures are classified by cause (`pipeline.kaggle.errors`), and callers look up the results of uploads afterwards.
"""

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.kaggle.credentials import credential_sources
from pipeline.kaggle.errors import Cause, KaggleError, classify_output, kaggle_error
from pipeline.kaggle.process import DownloadMonitor, downloaded_bytes, downloaded_files, run_client
from pipeline.paths import competition_toml

SubmissionStatus = Literal["PENDING", "COMPLETE", "ERROR"]

_STATUS: TypeAdapter[SubmissionStatus] = TypeAdapter(SubmissionStatus)
_INSTALL_LOCKED = "install the locked version of it with make setup"
_TABLE_OPTIONS = ("--page-size", "200", "--format", "json")


@dataclass(frozen=True)
class RetryPolicy:
    """Time limits of the client, and how often a failed call is repeated."""

    base_timeout_s: float = 120.0
    """Time limit of a call that transfers no file."""
    min_bytes_per_s: float = 200e3
    """The slowest transfer rate that the time limit allows."""
    stall_timeout_s: float = 120.0
    """Stop a download that has not grown for this time."""
    max_attempts: int = 4
    """Attempts without any progress. Uploads are never repeated."""
    backoff_s: float = 10.0
    """Pause before the second attempt; it doubles with each further one."""

    def timeout_s(self, size: int) -> float:
        """Return the time limit in seconds of a call that transfers `size` bytes."""
        return self.base_timeout_s + size / self.min_bytes_per_s

    def may_retry(self, error: KaggleError, failures: int) -> bool:
        """Return whether to repeat a call that has failed `failures` times, the last time with `error`."""
        return error.retryable and failures < self.max_attempts

    def pause_s(self, failures: int) -> float:
        """Return the pause in seconds after so many failures."""
        return float(self.backoff_s * 2 ** (failures - 1))


@dataclass(frozen=True)
class KaggleSubmission:
    """One of the account's submissions, as Kaggle lists it."""

    ref: str
    date: str
    """UTC, ISO 8601."""
    file: str
    message: str
    status: SubmissionStatus
    public: str
    """Public score as Kaggle prints it; empty while there is none."""
    private: str
    """Private score; empty until the competition ends."""
    reason: str
    """Why Kaggle could not score the file."""


@dataclass(frozen=True)
class LeaderboardRow:
    """One team on a leaderboard."""

    team: str
    score: str


class SubmissionLimits(NamedTuple):
    """Number of submissions of today (UTC)."""

    made: int
    left: int


class KaggleClient:
    """One competition, seen by the account whose credentials the client finds.

    Every method raises `KaggleError` if the client fails.

    Args:
        slug: the competition.
        retry: time limits and attempts.
    """

    def __init__(self, slug: str, retry: RetryPolicy | None = None) -> None:
        self.slug = slug
        self.retry = retry or RetryPolicy()

    def list_files(self) -> dict[str, int]:
        """Return the sizes in bytes of the competition's files by name; 0 if Kaggle does not say."""
        return {row["name"]: int(row["size"] or 0) for row in self._read_table(["files", self.slug])}

    def list_submissions(self) -> list[KaggleSubmission]:
        """List the account's 200 newest submissions, newest first."""
        return [_parse_submission(row) for row in self._read_table(["submissions", self.slug], max_pages=1)]

    def leaderboard(self, max_pages: int = 20) -> list[LeaderboardRow]:
        """List the teams of the leaderboard from the top, at most 200 per page."""
        rows = self._read_table(["leaderboard", self.slug, "-s"], max_pages)
        return [LeaderboardRow(row["teamName"] or "", row["score"] or "") for row in rows]

    def submission_limits(self) -> SubmissionLimits | None:
        """Return the submissions made today and left today, or None if the client or the server does not say."""
        try:
            output = self._call(["submission-limits", self.slug, "--json"])
            limits = json.loads(output[output.index("{") :])
            return SubmissionLimits(int(limits.get("numToday", 0)), int(limits.get("numAllowedNow", 0)))
        except (KaggleError, ValueError):
            return None

    def submit(self, file: Path, message: str) -> str:
        """Upload `file` once.

        Returns:
            The client's output. It is no proof of success: look the submission up.
        """
        timeout_s = self.retry.timeout_s(file.stat().st_size)
        return self._call(["submit", self.slug, "-f", str(file), "-m", message, "-q"], timeout_s)

    def download(self, name: str, folder: Path, size: int, on_progress: Callable[[int], None] = lambda _: None) -> Path:
        """Download one file, and resume what an earlier call left unfinished.

        Args:
            name: a name that `list_files` returns.
            folder: a folder for this file only; created if missing.
            size: bytes, for the time limit; 0 if unknown.
            on_progress: called with the bytes that have arrived, those of earlier calls included.

        Returns:
            The downloaded file: `name`, or `name` + ".zip" because Kaggle compresses some files.

        Raises:
            KaggleError: a retry cannot help, or several attempts have failed without any progress.
        """
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ["download", self.slug, "-f", name, "-p", str(folder), "-q"]
        failures, bytes_before = 0, downloaded_bytes(folder)
        while True:
            try:
                monitor = DownloadMonitor(folder, self.retry.stall_timeout_s, on_progress)
                self._call(arguments, self.retry.timeout_s(size), monitor)
                break
            except KaggleError as error:
                bytes_now = downloaded_bytes(folder)
                failures = 1 if bytes_now > bytes_before else failures + 1
                bytes_before = bytes_now
                if not self.retry.may_retry(error, failures):
                    raise
                time.sleep(self.retry.pause_s(failures))
        files = downloaded_files(folder)
        expected = Path(name).name
        if [file.name for file in files] not in ([expected], [f"{expected}.zip"]):
            # Old clients print a failure and exit with 0.
            raise KaggleError("refused", "the Kaggle client did not download it", "run the same command again", name)
        return files[0]

    def _read_table(self, arguments: Sequence[str], max_pages: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table, page by page."""
        token = ""
        for _ in itertools.count() if max_pages is None else range(max_pages):
            output = self._call_with_retries([*arguments, *_TABLE_OPTIONS, *(["--page-token", token] if token else [])])
            yield from _parse_table(output)
            token = _next_page_token(output)
            if not token:
                return

    def _call_with_retries(self, arguments: Sequence[str]) -> str:
        """Repeat a call without side effects until it succeeds or a retry cannot help."""
        for failures in itertools.count(1):
            try:
                return self._call(arguments)
            except KaggleError as error:
                if not self.retry.may_retry(error, failures):
                    raise
                time.sleep(self.retry.pause_s(failures))
        raise AssertionError("unreachable")

    def _call(
        self, arguments: Sequence[str], timeout_s: float | None = None, monitor: DownloadMonitor | None = None
    ) -> str:
        """Run ``kaggle competitions <arguments>`` once and return its stdout."""
        limit = self.retry.timeout_s(0) if timeout_s is None else timeout_s
        output = run_client(["competitions", *arguments], limit, monitor)
        if output.exit_code == 0:
            return output.stdout
        cause = classify_output(output.text)
        if cause in ("forbidden", "missing") and arguments[0] != "list":
            cause = self._refine_cause(cause)
        raise kaggle_error(cause, self.slug, output.text)

    def _refine_cause(self, cause: Cause) -> Cause:
        """Look up in the list of competitions whether the slug is wrong or the rules are not accepted.

        Kaggle answers 403 in both cases.
        """
        try:
            # Spaces, because Kaggle searches in titles.
            output = self._call(["list", "-s", self.slug.replace("-", " "), "--format", "json"])
            # A ref is the address of the competition's page.
            joined = {
                str(row["ref"]).rstrip("/").rpartition("/")[2]: row["userHasEntered"] for row in _parse_table(output)
            }
        except (KaggleError, KeyError):
            return cause
        if self.slug not in joined:
            return "slug"
        return "rules" if cause == "forbidden" and not joined[self.slug] else cause


def require_slug(competition: Competition) -> str:
    """Return a competition's name in Kaggle's addresses.

    Raises:
        UserError: it has none.
    """
    if competition.slug is None:
        raise UserError(competition_toml(competition.name), "has no slug", "add it if the competition is on Kaggle")
    return competition.slug


def require_credentials() -> str:
    """Return the variable or file that holds the credentials which the client finds first.

    Raises:
        KaggleError: there are none.
    """
    sources = credential_sources()
    if not sources:
        raise kaggle_error("credentials")
    return sources[0]


def account_name(retry: RetryPolicy | None = None) -> str:
    """Return the name of the account whose credentials the client finds.

    Raises:
        KaggleError: there are no credentials, or Kaggle does not accept them.
    """
    output = run_client(["config", "view"], (retry or RetryPolicy()).timeout_s(0))
    found = re.search(r"^- username: (\S+)", output.stdout, re.MULTILINE)
    if output.exit_code:
        raise kaggle_error(classify_output(output.text), text=output.text)
    if found is None or found[1] == "None":
        raise kaggle_error("credentials")
    return found[1]


def _parse_submission(row: dict[str, Any]) -> KaggleSubmission:
    return KaggleSubmission(
        ref=str(row["ref"]),
        date=str(row["date"] or ""),
        file=row["fileName"] or "",
        message=row["description"] or "",
        status=_parse_status(str(row["status"])),
        public=row["publicScore"] or "",
        private=row["privateScore"] or "",
        reason=row.get("errorDescription") or "",
    )


def _parse_status(text: str) -> SubmissionStatus:
    """Parse the name of an enumeration's member, as the client prints it: ``SubmissionStatus.COMPLETE``."""
    name = text.rpartition(".")[2].upper()
    try:
        return _STATUS.validate_python(name)
    except ValidationError:
        what = f"the Kaggle client printed the unknown status {name!r}"
        raise KaggleError("refused", what, _INSTALL_LOCKED) from None


def _parse_table(output: str) -> list[dict[str, Any]]:
    """Parse the JSON table in the client's output. Remarks may precede it; an empty table is a remark only."""
    start = 0 if output.startswith("[") else output.find("\n[") + 1
    if not output[start:].startswith("["):
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(output[start:])
    except ValueError:
        raise KaggleError("refused", "the Kaggle client printed no valid JSON", _INSTALL_LOCKED) from None
    return rows


def _next_page_token(output: str) -> str:
    """Return the token of the next page, which the client prints before the table; empty on the last page."""
    found = re.search(r"^Next Page Token = (.*)$", output, re.MULTILINE)
    return found[1].strip() if found else ""
