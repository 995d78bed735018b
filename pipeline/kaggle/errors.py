"""Errors of the Kaggle client: their cause, and a message for each cause."""

import re
from typing import Literal

from pipeline.errors import UserError
from pipeline.kaggle.credentials import TOKEN_FILE, credential_sources

Cause = Literal[
    "credentials",
    "forbidden",
    "rules",
    "slug",
    "missing",
    "limit",
    "closed",
    "busy",
    "server",
    "network",
    "time",
    "stalled",
    "disk",
    "refused",
]
"""Why a call failed; "refused" is every failure that has no other cause here."""

_RETRYABLE: tuple[Cause, ...] = ("busy", "server", "network", "time", "stalled")

# The first match wins. Words come before status codes, because Kaggle answers 400 and 403 for many reasons.
_PATTERNS: tuple[tuple[Cause, str], ...] = (
    ("credentials", r"authentication required|invalid credentials|unauthenticated|^401\b|401 client error"),
    ("limit", r"daily submission|submission limit|used all .*submissions|submissions? .*try again tomorrow"),
    (
        "closed",
        r"not accepting submissions|competition (is|has) (closed|ended|over|finished|completed)|deadline (has )?passed"
        r"|submissions? (are|is) (closed|disabled|no longer)|late submissions? (are|is) not",
    ),
    ("rules", r"accept .*\brules"),
    ("disk", r"no space left on device|disk quota exceeded|errno 28\b"),
    ("busy", r"^429\b|429 client error|too many requests"),
    ("forbidden", r"^403\b|403 client error|permission .* was (denied|not satisfied)"),
    ("missing", r"^404\b|404 client error"),
    ("server", r"^5\d\d\b|5\d\d server error"),
    (
        "network",
        r"connectionerror|proxyerror|connect(ion)?timeout|readtimeout|read timed out|name resolution|max retries"
        r"|network is unreachable|connection (refused|reset|aborted|broken)|sslerror|chunkedencodingerror"
        r"|incompleteread|remote end closed|does not match expected size|expecting value: line 1",
    ),
)

_CREATE_TOKEN = "create a new API token in your account's settings on Kaggle"

# Cause -> (what is wrong, what to do).
_MESSAGES: dict[Cause, tuple[str, str]] = {
    "forbidden": (
        "Kaggle denies this account access to the competition",
        "open the competition in a browser with the same account, join it and accept its rules, and compare slug in "
        "competitions/*.toml with the last part of the competition's address",
    ),
    "rules": (
        "the rules of this competition are not accepted",
        "open the competition in a browser with the account of these credentials, choose Join (or Late Submission), "
        "accept the rules and run the same command again",
    ),
    "slug": (
        "Kaggle has no competition of this name",
        "set slug in competitions/*.toml to the last part of the competition's address, or, if it is right, join the "
        "competition in a browser",
    ),
    "missing": (
        "Kaggle has no such file or page in this competition",
        "compare download.files in competitions/*.toml with the output of `kaggle competitions files {slug}`",
    ),
    "limit": ("the daily number of submissions is used up", "run the same command again after midnight UTC"),
    "closed": ("the competition accepts no submissions any more, and nothing was submitted", ""),
    "busy": ("Kaggle received too many requests", "wait some minutes and run the same command again"),
    "server": (
        "Kaggle's server reports an error on its own side",
        "run the same command again in a few minutes",
    ),
    "network": (
        "Kaggle cannot be reached",
        "check the network and the proxy settings, and run the same command again",
    ),
    "time": (
        "the Kaggle client did not finish within {seconds:.0f} s and was stopped",
        "run the same command again to continue",
    ),
    "stalled": (
        "Kaggle sent no data for {seconds:.0f} s",
        "run the same command again to continue where it stopped",
    ),
    "disk": ("the disk is full", "free some space and run the same command again to continue where it stopped"),
    "refused": (
        "the Kaggle client failed: {reason}",
        "correct the reason, or run the same command again",
    ),
}


class KaggleError(UserError):
    """A UserError with a cause.

    Args:
        cause: why the call failed.
        what: what is wrong.
        fix: what the user should do; empty if the message needs none.
        where: the competition's slug, or the file or variable at fault; empty if there is none.
    """

    def __init__(self, cause: Cause, what: str, fix: str = "", where: str = "") -> None:
        super().__init__(where, what, fix)
        # UserError stores its own arguments; an unpickled exception is built from these.
        self.args = (cause, what, fix, where)
        self.cause = cause
        self.retryable = cause in _RETRYABLE
        """Whether the same call may succeed a little later."""

    def with_fix(self, fix: str) -> "KaggleError":
        """Return the same error with another fix."""
        return KaggleError(self.cause, self.what, fix, self.where)


def classify_output(text: str) -> Cause:
    """Return the cause that the client's output names.

    Args:
        text: stdout and stderr of the client.
    """
    for cause, pattern in _PATTERNS:
        if re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
            return cause
    return "refused"


def kaggle_error(cause: Cause, slug: str = "", text: str = "", seconds: float = 0.0) -> KaggleError:
    """Build the error for a cause.

    Args:
        cause: why the call failed.
        slug: the competition.
        text: the client's output without credentials; its last line is quoted if the cause is "refused".
        seconds: the time limit that was exceeded, for "time" and "stalled".
    """
    if cause == "credentials":
        return _credentials_error()
    what, fix = _MESSAGES[cause]
    reason = last_line(text) or "it printed no reason"
    return KaggleError(cause, what.format(seconds=seconds, reason=reason), fix.format(slug=slug), slug)


def last_line(text: str) -> str:
    """Return the last non-empty line, cut to 300 characters. In a traceback that is the exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _credentials_error() -> KaggleError:
    sources = credential_sources()
    if sources:
        fix = f"{_CREATE_TOKEN} and replace these credentials"
        return KaggleError("credentials", "Kaggle does not accept these credentials", fix, sources[0])
    fix = f"{_CREATE_TOKEN}, save it in this file and make it readable only by you (chmod 600)"
    return KaggleError("credentials", "there are no Kaggle credentials", fix, TOKEN_FILE)
