"""The state of the stand-in: accounts, one competition with its files, submissions and their scores. No HTTP."""

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Scorer = Callable[[Path], tuple[float, float]]
"""Returns the public and the private score of a file; raises ValueError with the reason if it cannot be scored."""

_FIRST_REF = 51_000_000


class ApiError(Exception):
    """An answer with another status than 200.

    Args:
        status: the HTTP status code.
        message: the server's message.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Account:
    """An account; it signs in with its name and key, or with its token."""

    name: str
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    token: str = field(default_factory=lambda: "KGAT_" + secrets.token_hex(16))
    accepted_rules: bool = True


@dataclass
class StoredSubmission:
    """One submission."""

    ref: int
    account: str
    file: str
    message: str
    date: datetime
    path: Path
    status: str = "PENDING"
    public: str = ""
    private: str = ""
    reason: str = ""

    def to_row(self) -> dict[str, Any]:
        """Return the submission in the protocol's format; empty fields are left out."""
        row = {
            "ref": self.ref,
            "date": self.date.strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),
            "description": self.message,
            "fileName": self.file,
            "totalBytes": self.path.stat().st_size,
            "publicScore": self.public,
            "privateScore": self.private,
            "status": self.status,
            "errorDescription": self.reason,
        }
        return {key: value for key, value in row.items() if value != ""}


class Backend:
    """One competition and its accounts.

    Args:
        slug: the competition.
        files: the offered files by name.
        score: scores uploaded files.
        upload_folder: where uploads go.
        daily_limit: submissions per account and day.
    """

    def __init__(
        self, slug: str, files: dict[str, Path], score: Scorer, upload_folder: Path, daily_limit: int = 5
    ) -> None:
        self.slug = slug
        self.files = files
        self.score = score
        self.upload_folder = upload_folder
        self.daily_limit = daily_limit
        self.closed = False
        self.page_size = 100
        """Files per page of the list of files."""
        self.scoring_delay_s = 0.0
        self.accounts = [Account("ada")]
        self.submissions: list[StoredSubmission] = []
        self.teams = [("Team Seed", 0.99), ("Team Threshold", 0.9), ("Team Placeholder", 0.1)]
        """Other teams on the leaderboard: name and score."""
        self.pushed_kernels: list[dict[str, Any]] = []
        self.uploads: dict[str, tuple[str, Path]] = {}
        """Token of an upload -> name and place of the file."""
        self._lock = threading.Lock()

    def authenticate(self, name: str = "", key: str = "", token: str = "") -> Account:
        """Return the account of these credentials."""
        for account in self.accounts:
            if (token and token == account.token) or (key and (name, key) == (account.name, account.key)):
                return account
        raise ApiError(401, "Unauthenticated")

    def require_access(self, account: Account, slug: str) -> None:
        """Deny access to other competitions, and to accounts that have not accepted the rules. Both get status 403."""
        if slug != self.slug:
            raise ApiError(403, "Permission 'competitions.participate' was denied")
        if not account.accepted_rules:
            raise ApiError(403, "You must accept this competition's rules before you'll be able to download files.")

    def start_upload(self, account: Account, slug: str, name: str) -> str:
        """Return a token for an upload."""
        self.require_access(account, slug)
        token = secrets.token_hex(8)
        with self._lock:
            self.uploads[token] = (Path(name).name, self.upload_folder / f"{token}-{Path(name).name}")
        return token

    def create_submission(self, account: Account, slug: str, token: str, message: str) -> StoredSubmission:
        """Turn an uploaded file into a submission without a score."""
        self.require_access(account, slug)
        if token not in self.uploads or not self.uploads[token][1].exists():
            raise ApiError(400, "Submission not allowed: the file has not been uploaded")
        if self.closed:
            raise ApiError(400, "Submission not allowed: this competition is not accepting submissions")
        if not self.submission_limits(account)["numAllowedNow"]:
            raise ApiError(
                400,
                f"Submission not allowed:  Your team has used its daily Submission allowance ({self.daily_limit}) "
                "today, please try again tomorrow UTC (7.5 hours from now).",
            )
        with self._lock:
            name, path = self.uploads.pop(token)
            ref = _FIRST_REF + len(self.submissions)
            submission = StoredSubmission(ref, account.name, name, message, datetime.now(UTC), path)
            self.submissions.append(submission)
        return submission

    def start_scoring(self, submission: StoredSubmission, failure: str = "") -> None:
        """Score a submission in another thread after `scoring_delay_s`; fail with the reason `failure` if given."""

        def score() -> None:
            try:
                if failure:
                    raise ValueError(failure)
                public, private = self.score(submission.path)
            except ValueError as error:
                submission.status, submission.reason = "ERROR", str(error)
            else:
                submission.public, submission.private = f"{public:.5f}", f"{private:.5f}"
                submission.status = "COMPLETE"

        threading.Timer(self.scoring_delay_s, score).start()

    def submission_limits(self, account: Account) -> dict[str, int]:
        """Return how many submissions the account made and has left today. Failed ones do not count."""
        own = [one for one in self.submissions if one.account == account.name and one.status != "ERROR"]
        today = sum(one.date.date() == datetime.now(UTC).date() for one in own)
        return {"numToday": today, "numTotal": len(own), "numAllowedNow": max(self.daily_limit - today, 0)}

    def leaderboard(self) -> list[dict[str, Any]]:
        """Return the teams and the accounts with a score, best first."""
        scores = list(self.teams)
        for account in self.accounts:
            own = [float(one.private) for one in self.submissions if one.account == account.name and one.private]
            if own:
                scores.append((account.name, max(own)))
        scores.sort(key=lambda team: -team[1])
        date = "2017-09-27T23:00:00.0000000Z"
        return [
            {"teamId": rank, "teamName": name, "submissionDate": date, "score": f"{score:.5f}"}
            for rank, (name, score) in enumerate(scores, 1)
        ]

    def etag(self, name: str) -> str:
        """Return an HTTP ETag of a file's content."""
        stat = self.files[name].stat()
        return '"' + hashlib.md5(f"{name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest() + '"'
