"""Turn SIGINT and SIGTERM into a request to stop after the current step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def catch_stop_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets. A second one has its usual effect.

    Outside the main thread, where Python cannot handle signals, the event is never set.
    """
    event = threading.Event()

    def request_stop(number: int, _: FrameType | None) -> None:
        event.set()
        signal.signal(number, previous[number])

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    previous = {int(number): signal.signal(number, request_stop) for number in numbers}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
