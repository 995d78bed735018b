"""The result of checking a submission: problems and warnings."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import UserError

MAX_PROBLEMS = 100
"""Problems that a report lists; further ones are only counted."""
_MAX_ID_LENGTH = 80


@dataclass(frozen=True)
class SubmissionProblem:
    """One problem of a submission."""

    reason: str
    line: int | None = None
    """From 1, the header being 1; None if it is not about one line."""
    id: str | None = None

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else ""
        if self.id is not None:
            readable = self.id.isprintable() and len(self.id) <= _MAX_ID_LENGTH
            id = self.id if readable else repr(self.id[:_MAX_ID_LENGTH])
            place = f"{place} ({id})" if place else id
        return f"{place}: {self.reason}" if place else self.reason


@dataclass
class SubmissionReport:
    """The result of the check of a submission."""

    path: Path
    rows: int = 0
    problems: list[SubmissionProblem] = field(default_factory=list)
    """The first `MAX_PROBLEMS` reasons to refuse the file."""
    count: int = 0
    """Number of all problems."""
    warnings: list[SubmissionProblem] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the file may be uploaded."""
        return self.count == 0

    def add(self, reason: str, line: int | None = None, id: str | None = None) -> None:
        """Count a problem, and list it if it is among the first."""
        self.count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(SubmissionProblem(reason, line, id))

    def raise_if_bad(self) -> None:
        """Raise a UserError with the first problem and the number of the others."""
        if not self.good:
            others = f" ({self.count - 1:,} more problems)" if self.count > 1 else ""
            raise UserError(self.path, f"{self.problems[0]}{others}", "correct the file, or predict again")

    def describe(self) -> str:
        """Return warnings and problems as lines of text, with a last line that counts them."""
        lines = [f"warning  {warning}" for warning in self.warnings]
        lines += [f"error    {problem}" for problem in self.problems]
        counts = f"{self.rows:,} rows, {self.count:,} errors, {len(self.warnings):,} warnings"
        return "\n".join([*lines, f"{self.path}: {counts}"])
