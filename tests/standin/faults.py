"""Misbehaviour on demand: what goes wrong, at which step, how often."""

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatch

KINDS = {
    "400": "refuse with a bare status and no reason",
    "401": "do not accept the credentials",
    "403": "refuse without saying why",
    "404": "find nothing",
    "429": "ask for a pause",
    "500": "fail",
    "slow": "wait `amount` seconds before the answer",
    "trickle": "send `amount` bytes a second",
    "hang": "stop sending after `amount` bytes, and keep the connection open",
    "cut": "close the connection after `amount` bytes",
    "html": "send a web page instead of the file",
    "short": "send `amount` bytes less than the list says, as if that were all",
    "garble": "change a byte in the middle",
    "pending": "take the submission and never score it",
    "error": "take the submission and fail to score it",
    "swallow": "say that the submission is taken, and forget it",
    "break": "close the connection before the answer, after the work is done",
}


@dataclass
class Fault:
    """One fault: a kind of `KINDS`, at steps like `ListDataFiles`, `GET train.zip`, `REST train.zip`, `PUT`."""

    step: str
    """With * for anything."""
    kind: str
    times: int | None = 1
    """None: always."""
    amount: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(KINDS)}")


@dataclass
class Faults:
    """The faults still to come."""

    pending: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, step: str, kind: str, times: int | None = 1, amount: float = 0.0) -> None:
        """Let `step` go wrong the next `times` times."""
        with self._lock:
            self.pending.append(Fault(step, kind, times, amount))

    def clear(self) -> None:
        """Behave from now on."""
        with self._lock:
            self.pending.clear()

    def take(self, step: str) -> Fault | None:
        """The fault for this step, if one is due; it is then used up by one time."""
        with self._lock:
            for fault in self.pending:
                if fnmatch(step, fault.step):
                    if fault.times is not None:
                        fault.times -= 1
                        if not fault.times:
                            self.pending.remove(fault)
                    return fault
        return None
