"""Items are mapped in order, with a bounded number ahead."""

import threading
from itertools import count, islice

import pytest

from pipeline.errors import UserError
from pipeline.host import available_cores
from pipeline.parallel import map_parallel


def square(number: int) -> int:
    if number < 0:
        raise UserError("x", f"{number} is negative", "square it yourself")
    return number**2


@pytest.mark.parametrize("items", [0, 1, 31, 32, 33, 300])
def test_results_come_in_order(items):
    assert list(map_parallel(square, range(items))) == [(number, number**2) for number in range(items)]


def test_items_are_mapped_at_once(monkeypatch):
    monkeypatch.setattr("pipeline.parallel.available_cores", lambda: 2)
    both = threading.Barrier(2)
    # Each item waits for one of another thread.
    assert len(list(map_parallel(lambda _: both.wait(10), range(2), lambda _: 1 << 30))) == 2


def test_few_large_items_are_read_ahead():
    taken = []
    numbers = (taken.append(number) or number for number in range(500))
    stream = map_parallel(square, numbers, lambda _: 1 << 30)
    assert next(stream) == (0, 0)
    assert len(taken) <= 2 * min(available_cores(), 16) + 2
    assert list(stream) == [(number, number**2) for number in range(1, 500)]


def test_an_endless_stream_is_read_a_few_chunks_ahead():
    taken = []
    stream = map_parallel(square, (taken.append(number) or number for number in count()))
    assert list(islice(stream, 3)) == [(0, 0), (1, 1), (2, 4)]
    stream.close()
    assert len(taken) < 32 * (2 * min(available_cores(), 16) + 2)
    assert threading.active_count() < 50


def test_the_error_of_an_item_is_raised_after_the_results_before_its_chunk():
    stream = map_parallel(square, [*range(50), -1])
    assert [result for _, result in islice(stream, 32)] == [number**2 for number in range(32)]
    with pytest.raises(UserError, match="x: -1 is negative; square it yourself"):
        next(stream)
