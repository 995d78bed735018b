"""The ledger, ``submissions/ledger.csv``: one row per upload, written before it starts, completed with its score."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.files import lock, write_text
from pipeline.kaggle.client import KaggleSubmission
from pipeline.paths import LEDGER, submission_metadata

EntryStatus = Literal["UPLOADING", "PENDING", "COMPLETE", "ERROR", "REFUSED"]
"""UPLOADING: under way or interrupted. REFUSED: not accepted by Kaggle. The others are Kaggle's own."""


@dataclass(frozen=True)
class LedgerEntry:
    """One row of the ledger. All values are text as in the file; empty if unknown."""

    time: str
    """Start of the upload: UTC, ISO 8601."""
    competition: str
    """Name of a file in competitions/, without its suffix."""
    file: str
    sha256: str
    message: str
    commit: str = ""
    recipe: str = ""
    folds: str = ""
    oof_score: str = ""
    threshold: str = ""
    reference: str = ""
    """Kaggle's number of the submission."""
    public: str = ""
    """Public score."""
    private: str = ""
    """Private score."""
    status: EntryStatus = "UPLOADING"
    reason: str = ""
    """Why there is no score."""

    @property
    def tag(self) -> str:
        """A tag in Kaggle's list of submissions that identifies the file's content, from whatever machine it came."""
        return f"[{self.sha256[:12]}]"

    @property
    def description(self) -> str:
        """The message that Kaggle gets. The tag comes first, so that a length limit cannot remove it."""
        return f"{self.tag} {self.message}".strip()

    def is_same_upload(self, other: "LedgerEntry") -> bool:
        """Return whether both rows describe the same upload."""
        return (self.time, self.competition, self.sha256) == (other.time, other.competition, other.sha256)

    def with_result(self, submission: KaggleSubmission) -> "LedgerEntry":
        """Return the row with reference, scores and status of the submission."""
        return replace(
            self,
            reference=submission.ref,
            public=submission.public,
            private=submission.private,
            status=submission.status,
            reason=submission.reason,
        )


_COLUMNS = [field.name for field in fields(LedgerEntry)]
_ENTRY = TypeAdapter(LedgerEntry)


def new_entry(competition: Competition, file: Path, message: str = "") -> LedgerEntry:
    """Build the row of a file that is not uploaded yet.

    Args:
        competition: where it will be submitted.
        file: a submission; how it was made is read from `submission_metadata(file)`, if that exists.
        message: the recipe's name if empty.

    Raises:
        UserError: the file does not exist, or its metadata is not JSON.
    """
    try:
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(file, "no such file", "run make predict first") from None
    metadata = _read_metadata(file)
    return LedgerEntry(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        competition=competition.name,
        file=file.name,
        sha256=sha256,
        message=message or str(metadata.get("recipe") or ""),
        commit=str(metadata.get("commit") or ""),
        recipe=str(metadata.get("recipe") or ""),
        folds=" ".join(map(str, metadata.get("folds") or ())),
        oof_score=_format_number(metadata.get("oof_score")),
        threshold=_format_number(metadata.get("threshold")),
    )


def _read_metadata(file: Path) -> dict[str, Any]:
    """Return how a submission was made; nothing if that file is missing."""
    path = submission_metadata(file)
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(path, "is not valid JSON", "run make predict again, or delete it") from None
    return metadata if isinstance(metadata, dict) else {}


def _format_number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else ""


def read_ledger(path: Path = LEDGER) -> list[LedgerEntry]:
    """Read all rows, oldest first; none if the file does not exist.

    Raises:
        UserError: the file has other columns, or a row is faulty.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError:
        return []
    if not rows or rows[0] != _COLUMNS:
        raise UserError(path, f"its first line is not {','.join(_COLUMNS)}", "restore it, or move the file away")
    return [_parse_row(path, number, row) for number, row in enumerate(rows[1:], 2)]


def _parse_row(path: Path, number: int, row: Sequence[str]) -> LedgerEntry:
    if len(row) != len(_COLUMNS):
        raise UserError(path, f"row {number} has {len(row)} fields instead of {len(_COLUMNS)}", "correct it")
    values = dict(zip(_COLUMNS, row, strict=True))
    try:
        return _ENTRY.validate_python(values)
    except ValidationError:
        what = f"row {number} has the unknown status '{values['status']}'"
        raise UserError(path, what, f"set it to one of {', '.join(get_args(EntryStatus))}") from None


def update_ledger(
    change: Callable[[list[LedgerEntry]], Sequence[LedgerEntry]], path: Path = LEDGER
) -> list[LedgerEntry]:
    """Replace the rows by ``change(rows)``. A lock keeps other processes from writing in between.

    Returns:
        The new rows.
    """
    with lock(path.with_name(".ledger.lock")):
        entries = list(change(read_ledger(path)))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([_COLUMNS, *(asdict(entry).values() for entry in entries)])
        write_text(path, text.getvalue())
    return entries


def write_entry(entry: LedgerEntry, path: Path = LEDGER) -> LedgerEntry:
    """Replace the row of the same upload, or append the row; return `entry`."""

    def change(entries: list[LedgerEntry]) -> list[LedgerEntry]:
        if not any(entry.is_same_upload(old) for old in entries):
            return [*entries, entry]
        return [entry if entry.is_same_upload(old) else old for old in entries]

    update_ledger(change, path)
    return entry


def refresh_entries(
    entries: Sequence[LedgerEntry], competition: str, submissions: Sequence[KaggleSubmission]
) -> list[LedgerEntry]:
    """Update the rows of a competition with Kaggle's list of submissions.

    Args:
        entries: the rows of the ledger. One with the status UPLOADING is found in the list by its tag.
        competition: rows of other competitions stay as they are.
        submissions: the submissions to this competition.
    """
    by_reference = {submission.ref: submission for submission in submissions}
    recorded = {entry.reference for entry in entries}
    result = []
    for entry in entries:
        found = None
        if entry.competition == competition and entry.status == "UPLOADING":
            new = (submission for submission in submissions if submission.ref not in recorded)
            found = next((submission for submission in new if entry.tag in submission.message), None)
        elif entry.competition == competition:
            found = by_reference.get(entry.reference)
        if found is not None:
            recorded.add(found.ref)
            entry = entry.with_result(found)
        result.append(entry)
    return result
