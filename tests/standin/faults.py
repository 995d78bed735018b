"""Faults of the stand-in: what fails, in which step, how often."""

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

KINDS = {
    "400": "answer with status 400 and no reason",
    "401": "reject the credentials",
    "403": "deny access without a reason",
    "404": "find nothing",
    "429": "answer that there are too many requests",
    "500": "answer with a server error",
    "slow": "wait `amount` seconds before the answer",
    "throttle": "send `amount` bytes per second",
    "hang": "stop sending after `amount` bytes and keep the connection open",
    "disconnect": "close the connection after `amount` bytes",
    "no_answer": "do the work, then close the connection without an answer",
    "html": "send a web page instead of the file",
    "truncate": "send a file that is `amount` bytes shorter than listed",
    "corrupt": "change a byte in the middle of the file",
    "pending": "accept the submission and never score it",
    "error": "accept the submission and fail to score it",
    "lose": "accept the submission and forget it",
}


@dataclass
class Fault:
    """One fault."""

    step: str
    """A step such as ``ListDataFiles``, ``GET train.zip``, ``REST train.zip`` or ``PUT``; may contain wildcards."""
    kind: str
    """A key of `KINDS`."""
    times: int | None = 1
    """Number of times it occurs; None for always."""
    amount: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(KINDS)}")


@dataclass
class FaultQueue:
    """Faults that are still to occur."""

    pending: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, step: str, kind: str, times: int | None = 1, amount: float = 0.0) -> None:
        """Make `step` fail the next `times` times."""
        with self._lock:
            self.pending.append(Fault(step, kind, times, amount))

    def take(self, step: str) -> Fault | None:
        """Return the first fault for this step, and count it; None if there is none."""
        with self._lock:
            for fault in self.pending:
                if fnmatchcase(step, fault.step):
                    if fault.times is not None:
                        fault.times -= 1
                        if not fault.times:
                            self.pending.remove(fault)
                    return fault
        return None
