"""Map a function over a stream of items in several threads, in order and in constant memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pipeline.host import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK_ITEMS = 32
"""Most items that are handed to a thread at once; one by one, the handing over would cost more than a row of a CSV."""
_CHUNK_SIZE = 1 << 22
"""A chunk ends with the item that reaches this size in bytes, so that few large items are in memory at once."""
_MAX_WORKERS = 16
"""With more, the thread that reads the items sets the pace."""


def map_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], size: Callable[[Item], int] = lambda _: 0
) -> Generator[tuple[Item, Result]]:
    """Map `function` over `items` on all cores.

    Args:
        function: is only faster in several threads if it mostly runs code that releases the interpreter.
        items: read in this thread, some chunks ahead of the results.
        size: returns the approximate size of an item in bytes, if some are large.

    Yields:
        Each item with its result, in order. An exception of `function` is raised in place of its chunk; one of
        `items` may be raised before earlier results.
    """
    workers = min(available_cores(), _MAX_WORKERS)
    pending: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for chunk in _split_chunks(items, size):
                pending.append((chunk, pool.submit(_map_chunk, function, chunk)))
                if len(pending) > 2 * workers:
                    yield from _collect(*pending.popleft())
            while pending:
                yield from _collect(*pending.popleft())
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


def prefetch(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Generator[Result]:
    """Map `function` over `items` in order, with up to `depth` calls running or waiting to be taken."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
