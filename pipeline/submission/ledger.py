"""`submissions/ledger.csv`: one line for each upload, written before it begins, completed when its score is known."""

import csv
import fcntl
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.submission.kaggle import Submission

LEDGER = Path("submissions/ledger.csv")

Status = Literal["UPLOADING", "PENDING", "COMPLETE", "ERROR", "REFUSED"]
"""On its way or lost on it; then Kaggle's own three; or never taken."""


@dataclass(frozen=True)
class Entry:
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

    def with_result(self, submission: Submission) -> "Entry":
        """The line with what Kaggle says of the submission."""
        return replace(
            self,
            reference=submission.ref,
            public=submission.public,
            private=submission.private,
            status=submission.status,
            reason=submission.reason,
        )


_COLUMNS = [field.name for field in fields(Entry)]


def read(path: Path = LEDGER) -> list[Entry]:
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
        raise UserError(f"{path}: its first line is not {','.join(_COLUMNS)}; restore it, or move the file away")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(_COLUMNS):
            raise UserError(f"{path}: line {number} has {len(row)} fields instead of {len(_COLUMNS)}; mend it")
    return [Entry(*row) for row in rows[1:]]  # type: ignore[arg-type]


def update(change: Callable[[list[Entry]], Sequence[Entry]], path: Path = LEDGER) -> list[Entry]:
    """Replace the lines by what `change` makes of them; nobody else can write in between.

    Returns:
        The new lines.
    """
    with locked(path.with_name(".ledger.lock"), wait=True):
        entries = list(change(read(path)))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([_COLUMNS, *(asdict(entry).values() for entry in entries)])
        write_text(path, text.getvalue())
    return entries


def put(entry: Entry, path: Path = LEDGER) -> Entry:
    """Write a line: in place of the one of the same upload, or at the end."""

    def change(entries: list[Entry]) -> list[Entry]:
        key = (entry.time, entry.competition, entry.sha256)
        kept = [entry if (old.time, old.competition, old.sha256) == key else old for old in entries]
        return kept if entry in kept else [*kept, entry]

    update(change, path)
    return entry


def refresh(entries: Sequence[Entry], competition: str, submissions: Sequence[Submission]) -> list[Entry]:
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


def rank(scores: Sequence[str], mine: float) -> int:
    """The place that a score would have on a leaderboard, from 1; equal scores are passed.

    Args:
        scores: the leaderboard, best first, as text; what is no number is left out.
        mine: a score of ours.
    """
    values = [float(score) for score in scores if _is_number(score)]
    # The order says whether more or less is better.
    more_is_better = not values or values[0] >= values[-1]
    return 1 + sum(value > mine if more_is_better else value < mine for value in values)


@contextmanager
def locked(path: Path, wait: bool) -> Iterator[None]:
    """Hold a lock that goes with this process.

    Raises:
        UserError: someone else holds it, and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise UserError(f"{path.parent}: another submission is under way here; wait until it is done") from None
        yield


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
