"""The official Kaggle client as a child process: never trusted, always under a time limit.

Its exit code has been 0 for uploads that failed, and its text changes between versions. So answers are read as JSON,
failures are sorted by their cause into one sentence each, and what a caller must be sure of is looked up afterwards.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import UserError
from pipeline.kaggle.credentials import scrub, warn_if_readable
from pipeline.kaggle.errors import Cause, KaggleError, classify_output, kaggle_error

_CLIENT = Path(__file__).with_name("client.py")
_LOW_DISK = 32 << 20
"""Bytes of free space below which a download is stopped: the client itself would retry a full disk for a minute."""

Status = Literal["PENDING", "COMPLETE", "ERROR"]


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for the client, and how often to try again what does no harm twice."""

    start_s: float = 120.0
    """For a call that moves no file."""
    bytes_per_s: float = 200e3
    """The slowest connection that is still worth waiting for."""
    stall_s: float = 120.0
    """A download that has not grown for so long is stopped; the client's own first attempt would wait for ever."""
    tries: int = 4
    pause_s: float = 10.0
    """Before the second try; it doubles with each."""

    def limit(self, size: int) -> float:
        """Seconds for a call that moves `size` bytes."""
        return self.start_s + size / self.bytes_per_s


@dataclass(frozen=True)
class KaggleSubmission:
    """One line of the account's submissions to a competition."""

    ref: str
    date: str
    """UTC, ISO 8601."""
    file: str
    message: str
    status: Status
    public: str
    """Scores are text, as Kaggle writes them; empty while there is none."""
    private: str
    reason: str
    """Why Kaggle could not score it."""


@dataclass(frozen=True)
class LeaderboardRow:
    """One line of a leaderboard."""

    team: str
    score: str


class KaggleClient:
    """One competition, as the client shows it to the account whose credentials it finds.

    Every method raises KaggleError, a UserError that knows its cause.
    """

    def __init__(self, slug: str, patience: RetryPolicy | None = None) -> None:
        self.slug = slug
        self.patience = patience or RetryPolicy()

    def files(self) -> dict[str, int]:
        """Names and sizes (bytes; 0 if not said) of the competition's files."""
        found: dict[str, int] = {}
        token = ""
        while True:
            paging = ["--page-token", token] if token else []
            output = self._ask(["files", self.slug, "--page-size", "200", "--format", "json", *paging])
            found |= {file["name"]: int(file["size"] or 0) for file in _json(output)}
            token = _next_page(output)
            if not token:
                return found

    def submissions(self) -> list[KaggleSubmission]:
        """The account's newest submissions, newest first."""
        output = self._ask(["submissions", self.slug, "--page-size", "200", "--format", "json"])
        return [
            KaggleSubmission(
                ref=str(row["ref"]),
                date=str(row["date"] or ""),
                file=row["fileName"] or "",
                message=row["description"] or "",
                # The client writes the member of its enumeration: SubmissionStatus.COMPLETE.
                status=str(row["status"]).rpartition(".")[2].upper(),  # type: ignore[arg-type]
                public=row["publicScore"] or "",
                private=row["privateScore"] or "",
                reason=row.get("errorDescription") or "",
            )
            for row in _json(output)
        ]

    def leaderboard(self, pages: int = 20) -> list[LeaderboardRow]:
        """The leaderboard from its top, at most `pages` × 200 teams."""
        places: list[LeaderboardRow] = []
        token = ""
        for _ in range(pages):
            paging = ["--page-token", token] if token else []
            output = self._ask(["leaderboard", self.slug, "-s", "--page-size", "200", "--format", "json", *paging])
            places += [LeaderboardRow(row["teamName"] or "", row["score"] or "") for row in _json(output)]
            token = _next_page(output)
            if not token:
                break
        return places

    def allowance(self) -> tuple[int, int] | None:
        """Submissions made today and still allowed today; None where the client or the server does not say."""
        try:
            output = self._run(["submission-limits", self.slug, "--json"], self.patience.limit(0))
            limits = json.loads(output[output.index("{") :])
            return int(limits.get("numToday", 0)), int(limits.get("numAllowedNow", 0))
        except (KaggleError, ValueError):
            return None

    def submit(self, file: Path, message: str) -> str:
        """Upload `file`, once. What the client says is returned, and proves nothing: look the submission up."""
        arguments = ["submit", self.slug, "-f", str(file), "-m", message, "-q"]
        return self._run(arguments, self.patience.limit(file.stat().st_size))

    def download(self, name: str, folder: Path, size: int, grown: Callable[[int], None] = lambda _: None) -> Path:
        """Fetch one file into `folder`, which is this file's alone; what an earlier run left there is continued.

        Args:
            name: as `files` lists it.
            folder: is created.
            size: bytes, for the time limit; 0 if not known.
            grown: called now and then with the bytes that have arrived so far, earlier runs included.

        Returns:
            The file. It may be called `name` + ".zip": Kaggle packs some files on the way.

        Raises:
            KaggleError: after some tries without a byte of progress, or at once if trying again cannot help.
        """
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ["download", self.slug, "-f", name, "-p", str(folder), "-q"]
        failures, before = 0, _arrived(folder)
        while True:
            try:
                self._run(arguments, self.patience.limit(size), watched=folder, grown=grown)
                break
            except KaggleError as error:
                now = _arrived(folder)
                failures, before = (1 if now > before else failures + 1), now
                if not error.passing or failures >= self.patience.tries:
                    raise
                time.sleep(self.patience.pause_s * 2 ** (failures - 1))
        files = [path for path in folder.iterdir() if not path.name.endswith(".kaggle-partial")]
        if len(files) != 1 or files[0].name not in (Path(name).name, Path(name).name + ".zip"):
            # Old clients print a failure and exit with 0.
            raise KaggleError("refused", f"{name}: the Kaggle client ended without it; run the same command again")
        return files[0]

    def _ask(self, arguments: list[str]) -> str:
        """Run a call that changes nothing, again if that may help."""
        for failures in range(1, self.patience.tries + 1):
            try:
                return self._run(arguments, self.patience.limit(0))
            except KaggleError as error:
                if not error.passing or failures == self.patience.tries:
                    raise
                time.sleep(self.patience.pause_s * 2 ** (failures - 1))
        raise AssertionError("unreachable")

    def _run(
        self,
        arguments: Sequence[str],
        limit_s: float,
        watched: Path | None = None,
        grown: Callable[[int], None] = lambda _: None,
    ) -> str:
        """Run `kaggle competitions …` and return what it wrote to stdout."""
        warn_if_readable()
        code, output, complaint = _child(["competitions", *arguments], limit_s, watched, grown, self.patience.stall_s)
        if code == 0:
            return output
        cause = classify_output(f"{complaint}\n{output}")
        if cause in ("forbidden", "missing") and arguments[0] != "list":
            cause = self._who_is_refused(cause)
        raise kaggle_error(cause, self.slug, f"{complaint}\n{output}")

    def _who_is_refused(self, cause: Cause) -> Cause:
        """403 stands for rules that are not accepted and for a misspelt name alike: ask which competitions exist."""
        try:
            # Words, because the search is one of titles.
            words = self.slug.replace("-", " ")
            output = self._run(["list", "-s", words, "--format", "json"], self.patience.limit(0))
            found = {str(row["ref"]).rstrip("/").rpartition("/")[2]: row["userHasEntered"] for row in _json(output)}
        except (KaggleError, KeyError):
            return cause
        if self.slug not in found:
            return "slug"
        return "rules" if cause == "forbidden" and not found[self.slug] else cause


def account_name(patience: RetryPolicy | None = None) -> str:
    """The name of the account whose credentials the client finds.

    Raises:
        KaggleError: there are none, or they are not accepted.
    """
    limit, stall = (patience or RetryPolicy()).limit(0), 0.0
    code, output, complaint = _child(["config", "view"], limit, None, lambda _: None, stall)
    found = re.search(r"^- username: (\S+)", output, re.MULTILINE)
    if code or found is None or found[1] == "None":
        raise kaggle_error(classify_output(f"{complaint}\n{output}") if code else "credentials")
    return found[1]


def _child(
    arguments: Sequence[str], limit_s: float, watched: Path | None, grown: Callable[[int], None], stall_s: float
) -> tuple[int, str, str]:
    """Run the client; its exit code, stdout and stderr, without credentials."""
    # With these set the client prints every request with its authorization.
    environment = {key: value for key, value in os.environ.items() if key not in ("VERBOSE", "VERBOSE_OUTPUT")}
    command = [sys.executable, "-P", str(_CLIENT), str(os.getpid()), *arguments]
    started = moved = time.monotonic()
    size = -1
    # Files instead of pipes: nobody has to read them for the child to go on.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)
        try:
            while True:
                try:
                    child.wait(timeout=0.3)
                    break
                except subprocess.TimeoutExpired:
                    pass
                now = time.monotonic()
                if watched is not None:
                    arrived = _arrived(watched)
                    if arrived != size:
                        size, moved = arrived, now
                        grown(size)
                    if shutil.disk_usage(watched).free < _LOW_DISK:
                        raise UserError(watched, "the disk is full", "free some space and run the same command again")
                    if now - moved > stall_s:
                        raise kaggle_error("stalled", seconds=stall_s)
                if now - started > limit_s:
                    raise kaggle_error("time", seconds=limit_s)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        if watched is not None:
            grown(_arrived(watched))
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(scrub(file.read().decode("utf-8", "replace")))
    return child.returncode, texts[0], texts[1]


def _arrived(folder: Path) -> int:
    """Bytes in a folder of one download."""
    return sum(path.stat().st_size for path in folder.iterdir() if not path.name.endswith(".kaggle-partial"))


def _json(output: str) -> list[dict[str, Any]]:
    """The table in the client's output; remarks may stand before it, and instead of an empty one."""
    start = 0 if output.startswith("[") else output.find("\n[") + 1
    if not output[start:].startswith("["):
        return []
    try:
        return json.loads(output[start:])
    except ValueError:
        raise KaggleError(
            "refused", "the Kaggle client answered with something other than JSON; install the locked version of it"
        ) from None


def _next_page(output: str) -> str:
    for line in output.splitlines():
        name, equals, token = line.partition("Next Page Token = ")
        if equals and not name:
            return token.strip()
    return ""
