"""Describe submissions and their scores for the terminal."""

from pathlib import Path

from pipeline.competition import Competition
from pipeline.kaggle.client import KaggleClient, RetryPolicy, require_slug
from pipeline.kaggle.ledger import LedgerEntry, refresh_entries, update_ledger
from pipeline.paths import LEDGER

_UNKNOWN = "–"
_ROW = "{:16}  {:28}  {:>8}  {:>8}  {:>8}  {:9}  {}"


def describe_scores(competition: Competition, ledger: Path = LEDGER, retry: RetryPolicy | None = None) -> str:
    """Update the ledger with the scores that Kaggle lists now, and return a competition's rows as a table.

    Args:
        competition: which rows.
        ledger: the file to update.
        retry: time limits and attempts of the client.

    Raises:
        UserError: the competition has no slug, the ledger is faulty, or the client fails.
    """
    submissions = KaggleClient(require_slug(competition), retry).list_submissions()
    entries = update_ledger(lambda rows: refresh_entries(rows, competition.name, submissions), ledger)
    lines = [_ROW.format("time", "file", "OOF", "public", "private", "status", "message")]
    for entry in entries:
        if entry.competition == competition.name:
            scores = [score or _UNKNOWN for score in (entry.oof_score, entry.public, entry.private)]
            row = [entry.time[:16], entry.file[:28], *scores, entry.status, entry.reason or entry.message]
            lines.append(_ROW.format(*row))
    return "\n".join([*lines, str(ledger)])


def describe_entry(entry: LedgerEntry, file: Path, dry_run: bool = False, ledger: Path = LEDGER) -> str:
    """Describe what `pipeline.kaggle.upload.submit_file` returned.

    Args:
        entry: its result.
        file: the submitted file.
        dry_run: whether the upload was left out.
        ledger: where the entry was written, unless `dry_run`.
    """
    if dry_run and entry.status == "UPLOADING":
        size = f"{file.stat().st_size / 1e6:.1f} MB"
        lines = [f"would upload {file} ({size}) as “{entry.description}”; nothing was uploaded"]
    elif entry.status == "COMPLETE":
        lines = [f"{entry.reference}: public {entry.public or _UNKNOWN}, private {entry.private or _UNKNOWN}"]
    else:
        lines = [f"{entry.reference}: not scored yet; run make scores later"]
    for name in ("sha256", "commit", "recipe", "folds", "oof_score", "threshold"):
        lines.append(f"  {name:9} {getattr(entry, name) or _UNKNOWN}")
    return "\n".join(lines if dry_run else [*lines, str(ledger)])
