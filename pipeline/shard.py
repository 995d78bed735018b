"""A part of a number of items, for one of several machines."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `count` parts."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def select(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return every `count`-th item: neighbors, which take equally long, go to different parts."""
        return items[self.number - 1 :: self.count]


def parse_shard(text: str) -> Shard | None:
    """Parse ``3/16``; an empty text is None.

    Raises:
        UserError: the text is not a part of some parts.
    """
    if not text:
        return None
    if match := re.fullmatch(r"(\d{1,6})/(\d{1,6})", text):
        shard = Shard(int(match[1]), int(match[2]))
        if 1 <= shard.number <= shard.count:
            return shard
    raise UserError(f"shard '{text}'", "is not a part such as 3/16", "count the parts from 1")
