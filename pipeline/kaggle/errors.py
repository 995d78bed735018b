"""Why Kaggle said no: one sentence per cause."""

import re
from typing import Literal

from pipeline.errors import UserError
from pipeline.kaggle.credentials import TOKEN, credential_sources

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

_PASSING = ("busy", "server", "network", "time", "stalled")

# The first that matches wins: words before status numbers, because Kaggle answers 400 and 403 to many things.
_SIGNS: tuple[tuple[Cause, str], ...] = (
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

_SENTENCES: dict[Cause, str] = {
    "forbidden": "Kaggle refuses {slug} to this account; open the competition in a browser with the same account, join "
    "it and accept its rules, and compare slug in competitions/*.toml with the last part of its address",
    "rules": "the rules of {slug} are not accepted; open the competition in a browser with the account of these "
    "credentials, choose Join (or Late Submission), accept the rules, and run the same command again",
    "slug": "Kaggle finds no competition {slug}; correct slug in competitions/*.toml to the last part of its address, "
    "or, if it is right, join the competition in a browser",
    "missing": "Kaggle has no such file or page in {slug}; compare download.files in competitions/*.toml with "
    "`kaggle competitions files {slug}`",
    "limit": "the daily number of submissions to {slug} is used up; run the same command again after midnight UTC",
    "closed": "{slug} takes no submissions any more; nothing was submitted",
    "busy": "Kaggle asks for a pause (too many requests); wait some minutes and run the same command again",
    "server": "Kaggle's server failed; this is not your fault, run the same command again in a few minutes",
    "network": "Kaggle cannot be reached; check the network and the proxy settings, then run the same command again",
    "time": "the Kaggle client did not end within {seconds:.0f} s and was stopped; run the same command again to go on",
    "stalled": "nothing arrived from Kaggle for {seconds:.0f} s; run the same command again to go on where it stopped",
    "disk": "the disk is full; free some space and run the same command again to go on where it stopped",
}


class KaggleError(UserError):
    """A UserError that knows its cause."""

    def __init__(self, cause: Cause, sentence: str) -> None:
        super().__init__("", sentence)
        self.cause = cause
        self.passing = cause in _PASSING
        """Whether trying again a little later may help."""


def classify_output(text: str) -> Cause:
    """The cause that the client's output, stdout and stderr together, speaks of."""
    for cause, sign in _SIGNS:
        if re.search(sign, text, re.IGNORECASE | re.MULTILINE):
            return cause
    return "refused"


def kaggle_error(cause: Cause, slug: str = "", text: str = "", seconds: float = 0.0) -> KaggleError:
    """The error for a cause; `text` is the client's output without credentials, quoted where the cause is not known."""
    if cause == "credentials":
        return KaggleError(cause, _about_credentials())
    if cause == "refused":
        return KaggleError(cause, f"the Kaggle client failed on {slug}: {last_line(text) or 'it said nothing'}")
    return KaggleError(cause, _SENTENCES[cause].format(slug=slug, seconds=seconds))


def last_line(text: str) -> str:
    """The last line that says something, shortened: of a traceback the exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _about_credentials() -> str:
    found = credential_sources()
    if not found:
        return (
            "no Kaggle credentials were found; in your account's settings on Kaggle create an API token, save it as "
            f"{TOKEN} and make that readable by you alone (chmod 600)"
        )
    return (
        f"Kaggle does not accept the credentials in {found[0]}; in your account's settings on Kaggle create a new API "
        "token and put it in their place"
    )
