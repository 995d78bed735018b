"""`submissions/ledger.csv`: one line for each upload, written before it begins, completed when its score is known."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from pipeline.errors import UserError
from pipeline.files import lock, write_text
from pipeline.kaggle.client import KaggleSubmission

LEDGER = Path("submissions/ledger.csv")

Status = Literal["UPLOADING", "PENDING", "COMPLETE", "ERROR", "REFUSED"]
"""On its way or lost on it; then Kaggle's own three; or never taken."""


@dataclass(frozen=True)
class LedgerEntry:
    """One line; everything is text as in the file, empty where it is not known."""

    time: str
    """When the upload began: UTC, ISO 8601."""
    competition: str
    """A file in competitions/, without its ending."""
    file: str
    sha256: str
    message: str
    commit: str = ""
    recipe: str = ""
    folds: str = ""
    oof_dice: str = ""
    threshold: str = ""
    reference: str = ""
    """Kaggle's number of the submission."""
    public: str = ""
    private: str = ""
    status: Status = "UPLOADING"
    reason: str = ""
    """Why it was not scored."""

    @property
    def tag(self) -> str:
        """What marks the file in Kaggle's list of submissions, whatever machine sent it."""
        return f"[{self.sha256[:12]}]"

    @property
    def description(self) -> str:
        """The message as Kaggle gets it; the tag comes first, where no limit of length cuts it off."""
        return f"{self.tag} {self.message}".strip()

    def with_result(self, submission: KaggleSubmission) -> "LedgerEntry":
        """The line with what Kaggle says of the submission."""
        return replace(
            self,
            reference=submission.ref,
            public=submission.public,
            private=submission.private,
            status=submission.status,
            reason=submission.reason,
        )


_COLUMNS = [field.name for field in fields(LedgerEntry)]


def read_ledger(path: Path = LEDGER) -> list[LedgerEntry]:
    """All lines, oldest first; none where there is no file yet.

    Raises:
        UserError: the file has other columns, or a line of another length.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError:
        return []
    if not rows or rows[0] != _COLUMNS:
        raise UserError(path, f"its first line is not {','.join(_COLUMNS)}", "restore it, or move the file away")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(_COLUMNS):
            raise UserError(path, f"line {number} has {len(row)} fields instead of {len(_COLUMNS)}", "mend it")
    return [LedgerEntry(*row) for row in rows[1:]]  # type: ignore[arg-type]


def update_ledger(
    change: Callable[[list[LedgerEntry]], Sequence[LedgerEntry]], path: Path = LEDGER
) -> list[LedgerEntry]:
    """Replace the lines by what `change` makes of them; nobody else can write in between.

    Returns:
        The new lines.
    """
    with lock(path.with_name(".ledger.lock")):
        entries = list(change(read_ledger(path)))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([_COLUMNS, *(asdict(entry).values() for entry in entries)])
        write_text(path, text.getvalue())
    return entries


def write_entry(entry: LedgerEntry, path: Path = LEDGER) -> LedgerEntry:
    """Write a line: in place of the one of the same upload, or at the end."""

    def change(entries: list[LedgerEntry]) -> list[LedgerEntry]:
        key = (entry.time, entry.competition, entry.sha256)
        kept = [entry if (old.time, old.competition, old.sha256) == key else old for old in entries]
        return kept if entry in kept else [*kept, entry]

    update_ledger(change, path)
    return entry


def refresh_entries(
    entries: Sequence[LedgerEntry], competition: str, submissions: Sequence[KaggleSubmission]
) -> list[LedgerEntry]:
    """The lines with Kaggle's newest word on each; one that was left at UPLOADING is found again by its tag."""
    by_ref = {submission.ref: submission for submission in submissions}
    taken = {entry.reference for entry in entries}
    result = []
    for entry in entries:
        found = by_ref.get(entry.reference)
        if entry.status == "UPLOADING" and entry.competition == competition:
            found = next((one for one in submissions if entry.tag in one.message and one.ref not in taken), None)
        if found is not None and entry.competition == competition:
            taken.add(found.ref)
            entry = entry.with_result(found)
        result.append(entry)
    return result


def leaderboard_rank(scores: Sequence[str], mine: float) -> int:
    """The place that a score would have on a leaderboard, from 1; equal scores are passed.

    Args:
        scores: the leaderboard, best first, as text; what is no number is left out.
        mine: a score of ours.
    """
    values = [float(score) for score in scores if _is_number(score)]
    # The order says whether more or less is better.
    more_is_better = not values or values[0] >= values[-1]
    return 1 + sum(value > mine if more_is_better else value < mine for value in values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
