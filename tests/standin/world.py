"""What the stand-in knows: accounts, one competition with its files, submissions and their scores. No HTTP here."""

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Scorer = Callable[[Path], tuple[float, float]]
"""The public and the private score of a file; raises ValueError with the reason if it cannot be scored."""


class RefusedError(Exception):
    """An answer other than 200: a status and the server's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Account:
    """Someone who may sign in, by name and key or by token."""

    name: str
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    token: str = field(default_factory=lambda: "KGAT_" + secrets.token_hex(16))
    joined: bool = True
    """Whether the rules are accepted."""


@dataclass
class Entry:
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

    def row(self) -> dict[str, Any]:
        """As the protocol has it; empty fields are left out."""
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


class World:
    """One competition and everybody in it."""

    def __init__(self, slug: str, files: dict[str, Path], score: Scorer, uploads: Path, limit: int = 5) -> None:
        self.slug = slug
        self.files = files
        self.score = score
        self.uploads = uploads
        self.limit = limit
        """Submissions a day."""
        self.closed = False
        self.page = 100
        """Files on a page of their list."""
        self.delay_s = 0.0
        """From a submission to its score."""
        self.accounts = [Account("ada")]
        self.entries: list[Entry] = []
        self.teams = [("Team Seed", 0.99), ("Team Threshold", 0.9), ("Team Placeholder", 0.1)]
        self.kernels: list[dict[str, Any]] = []
        self.tokens: dict[str, tuple[str, Path]] = {}
        self.lock = threading.Lock()

    def sign_in(self, name: str = "", key: str = "", token: str = "") -> Account:
        """The account of these credentials."""
        for account in self.accounts:
            if (token and token == account.token) or (key and (name, key) == (account.name, account.key)):
                return account
        raise RefusedError(401, "Unauthenticated")

    def enter(self, account: Account, slug: str) -> None:
        """Refuse those who have not accepted the rules, and competitions that do not exist, in the same words."""
        if slug != self.slug:
            raise RefusedError(403, "Permission 'competitions.participate' was denied")
        if not account.joined:
            raise RefusedError(403, "You must accept this competition's rules before you'll be able to download files.")

    def start_upload(self, account: Account, slug: str, name: str) -> str:
        """A token for an upload."""
        self.enter(account, slug)
        token = secrets.token_hex(8)
        with self.lock:
            self.tokens[token] = (Path(name).name, self.uploads / f"{token}-{Path(name).name}")
        return token

    def submit(self, account: Account, slug: str, token: str, message: str) -> Entry:
        """Take an uploaded file as a submission and score it, a little later, in its own thread."""
        self.enter(account, slug)
        if token not in self.tokens or not self.tokens[token][1].exists():
            raise RefusedError(400, "Submission not allowed: the file has not been uploaded")
        if self.closed:
            raise RefusedError(400, "Submission not allowed: this competition is not accepting submissions")
        if not self.allowance(account)["numAllowedNow"]:
            raise RefusedError(
                400,
                f"Submission not allowed:  Your team has used its daily Submission allowance ({self.limit}) today, "
                "please try again tomorrow UTC (7.5 hours from now).",
            )
        with self.lock:
            name, path = self.tokens.pop(token)
            ref = 51_000_000 + len(self.entries)
            entry = Entry(ref, account.name, name, message, datetime.now(UTC), path)
            self.entries.append(entry)
        return entry

    def settle(self, entry: Entry, fail: str = "") -> None:
        """Score an entry after the delay."""

        def work() -> None:
            try:
                if fail:
                    raise ValueError(fail)
                public, private = self.score(entry.path)
            except ValueError as error:
                entry.status, entry.reason = "ERROR", str(error)
            else:
                entry.public, entry.private = f"{public:.5f}", f"{private:.5f}"
                entry.status = "COMPLETE"

        threading.Timer(self.delay_s, work).start()

    def allowance(self, account: Account) -> dict[str, int]:
        """How many submissions were made and may still be made today."""
        mine = [entry for entry in self.entries if entry.account == account.name and entry.status != "ERROR"]
        today = sum(entry.date.date() == datetime.now(UTC).date() for entry in mine)
        return {"numToday": today, "numTotal": len(mine), "numAllowedNow": max(self.limit - today, 0)}

    def leaderboard(self) -> list[dict[str, Any]]:
        """Teams from the best to the worst."""
        scores = list(self.teams)
        for account in self.accounts:
            mine = [float(entry.private) for entry in self.entries if entry.account == account.name and entry.private]
            if mine:
                scores.append((account.name, max(mine)))
        scores.sort(key=lambda team: -team[1])
        date = "2017-09-27T23:00:00.0000000Z"
        return [
            {"teamId": index + 1, "teamName": name, "submissionDate": date, "score": f"{score:.5f}"}
            for index, (name, score) in enumerate(scores)
        ]

    def tag(self, name: str) -> str:
        """The identity of a file's content."""
        path = self.files[name]
        stat = path.stat()
        return '"' + hashlib.md5(f"{name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest() + '"'
