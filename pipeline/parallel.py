"""Map a function over a stream of items in several processes, in order and in constant memory."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing.connection import wait
from typing import TypeVar

from pipeline.errors import UserError
from pipeline.host import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

SERIAL_ITEMS = 2000
"""Items that are mapped before processes are started: a start takes about as long as 2,000 rows of a submission."""
_CHUNK_ITEMS = 64
"""Most items per message between processes, usually half a megabyte of rows."""
_CHUNK_SIZE = 1 << 22
"""A message ends with the item that reaches this size, so that few large items are in memory at once."""
_MAX_WORKERS = 16
"""With more, the process that reads the items sets the pace."""


def map_parallel(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    serial_items: int = SERIAL_ITEMS,
    size: Callable[[Item], int] = lambda _: 0,
) -> Generator[tuple[Item, Result]]:
    """Map `function` over `items` on all cores; the first items in this process.

    Args:
        function: must survive pickling, as must items and results.
        items: read in this process, some chunks ahead of the results.
        serial_items: number of items that are mapped in this process.
        size: returns the approximate size of an item in bytes, if some are large.

    Yields:
        Each item with its result, in order. An exception of `function` is raised in place of its chunk; one of
        `items` may be raised before earlier results.

    Raises:
        UserError: a worker process was killed.
    """
    stream = iter(items)
    for item in islice(stream, serial_items):
        yield item, function(item)
    chunks = _split_chunks(stream, size)
    first = next(chunks, [])
    workers = min(available_cores(), _MAX_WORKERS)
    if not first or workers == 1:
        for item in chain(first, chain.from_iterable(chunks)):
            yield item, function(item)
        return
    pending: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    # Not forked: the calling process may have threads and a GPU.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
        try:
            for chunk in chain([first], chunks):
                pending.append((chunk, pool.submit(_map_chunk, function, chunk)))
                if len(pending) > 2 * workers:
                    yield from _collect(*pending.popleft())
            while pending:
                yield from _collect(*pending.popleft())
        except BrokenProcessPool:
            what = "a worker process was killed, probably for lack of memory"
            raise UserError("", what, "close other programs and run it again") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _split_chunks(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    total = 0
    for item in items:
        chunk.append(item)
        total += size(item)
        if len(chunk) == _CHUNK_ITEMS or total >= _CHUNK_SIZE:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


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
