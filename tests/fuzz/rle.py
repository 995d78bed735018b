"""RLE texts: parsed to runs that can be written again, or a ValueError."""

import contextlib

import numpy as np

from pipeline.data.rle import RleFormat, mask_to_runs, parse_rle, rle_to_mask, runs_to_rle

SEEDS = [b"\0", b"\x003 2 9 1", b"\x051 1 0 5", b"\x02-1", b"\x0012 89", b"\x001 99999999999999999999", b"\x00 7\t1\n"]
FORMATS = [
    RleFormat(order, offsets, base, empty)  # type: ignore[arg-type] # literals
    for order in ("row", "column")
    for offsets in ("absolute", "relative")
    for base in (0, 1)
    for empty in ("", "-1")
]


def check(data: bytes) -> None:
    """Parse the text after the first byte, which chooses the format."""
    format = FORMATS[data[0] % len(FORMATS)] if data else FORMATS[0]
    text = data[1:].decode("utf-8", "surrogateescape")
    with contextlib.suppress(ValueError):
        runs = parse_rle(text, 100, format)
        assert runs.shape[1:] == (2,)
        assert np.array_equal(parse_rle(runs_to_rle(runs, format), 100, format), runs)
        mask = rle_to_mask(text, (5, 20), format)
        assert mask.sum() == runs[:, 1].sum() == mask_to_runs(mask, format.order)[:, 1].sum()
