"""Map a function over a stream of items in several processes, in order and in constant memory."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait
from typing import TypeVar

from pipeline.errors import UserError
from pipeline.host import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

SERIAL_ITEMS = 2000
"""Items that are mapped before processes are started: a start takes about as long as 2,000 rows of a submission."""
_CHUNK_ITEMS = 64
"""Items per message between processes, about half a megabyte of rows."""
_MAX_WORKERS = 16
"""With more, the process that reads the items sets the pace."""


def map_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], serial_items: int = SERIAL_ITEMS
) -> Generator[tuple[Item, Result]]:
    """Map `function` over `items` on all cores; the first items in this process.

    Args:
        function: must survive pickling, as must items and results.
        items: read in this process, some chunks ahead of the results.
        serial_items: number of items that are mapped in this process.

    Yields:
        Each item with its result, in order. An exception of `function` is raised in place of its chunk; one of
        `items` may be raised before earlier results.

    Raises:
        UserError: a worker process was killed.
    """
    stream = iter(items)
    for item in islice(stream, serial_items):
        yield item, function(item)
    first = list(islice(stream, _CHUNK_ITEMS))
    workers = min(available_cores(), _MAX_WORKERS)
    if not first or workers == 1:
        for item in (*first, *stream):
            yield item, function(item)
        return
    pending: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    # Not forked: the calling process may have threads and a GPU.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
        try:
            chunk = first
            while chunk:
                pending.append((chunk, pool.submit(_map_chunk, function, chunk)))
                if len(pending) > 2 * workers:
                    yield from _collect(*pending.popleft())
                chunk = list(islice(stream, _CHUNK_ITEMS))
            while pending:
                yield from _collect(*pending.popleft())
        except BrokenProcessPool:
            what = "a worker process was killed, probably for lack of memory"
            raise UserError("", what, "close other programs and run it again") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _map_chunk(function: Callable[[Item], Result], chunk: list[Item]) -> list[Result]:
    return [function(item) for item in chunk]


def _collect(chunk: list[Item], future: "Future[list[Result]]") -> Iterable[tuple[Item, Result]]:
    return zip(chunk, future.result(), strict=True)


def _end_with_parent() -> None:
    """Ignore signals to the process group, and end when the parent does, however that happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
