"""Turn SIGINT and SIGTERM into a request to stop after the current step, and into the usual exit code."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest(threading.Event):
    """An event that a signal sets."""

    signal = 0
    """Number of the signal; 0 as long as there was none."""

    def raise_if_set(self) -> None:
        """End the program as the signal would have: with exit code 130 for SIGINT, 143 for SIGTERM.

        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: after SIGTERM.
        """
        if self.is_set():
            raise _ending(self.signal)


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Yield an event that the first SIGINT or SIGTERM sets. A second one has its usual effect.

    Outside the main thread, where Python cannot handle signals, the event is never set.
    """
    request = StopRequest()

    def request_stop(number: int, _: FrameType | None) -> None:
        request.signal = number
        request.set()
        signal.signal(number, previous[number])

    numbers = (signal.SIGINT, signal.SIGTERM) if _in_main_thread() else ()
    previous = {int(number): signal.signal(number, request_stop) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Make SIGTERM raise SystemExit with code 143, as SIGINT raises KeyboardInterrupt, so that files are closed."""

    def end(number: int, _: FrameType | None) -> None:
        raise _ending(number)

    if not _in_main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _ending(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
