"""Images in, rows of a submission out, in one pass and in constant memory.

Three things happen at once: threads read ahead, the device predicts, threads turn finished masks into text. Both queues
are bounded, so the slowest of the three sets the pace and 100,064 images need no more memory than 100.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import batched
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.competition import Order, Sample
from pipeline.data import rle
from pipeline.data.dataset import available_cores
from pipeline.data.images import decode_image, image_size, read_bytes
from pipeline.model.metrics import enlarge
from pipeline.predict.ensemble import Ensemble
from pipeline.recipe import Recipe

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[Result]:
    """Like `map`, in order, with up to `depth` calls running or waiting to be taken."""
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
