"""CSV files of masks, plain and packed: rows or a UserError."""

import contextlib
import gzip

from pipeline.data.mask_csv import read_mask_csv
from pipeline.data.row_format import RowFormat
from pipeline.errors import UserError
from tests.fuzz.files import write

TEXTS = [
    b"img,rle_mask\na.jpg,1 2\n",
    b'img,rle_mask\r\n"a,b",""\r\n',
    b"x,rle_mask,img\n1,1 1,a\n",
    b"\xef\xbb\xbfimg,rle_mask\n",
]
SEEDS = [*TEXTS, *map(gzip.compress, TEXTS)]
FORMATS = [
    RowFormat({"img": "{id}", "rle_mask": "{rle}"}),
    RowFormat({"img": "{id}_{class}", "rle_mask": "{rle}"}, ["a", "b"]),
]


def check(data: bytes) -> None:
    """Read the file under both suffixes, with each format."""
    for path in (write("a.csv", data), write("a.csv.gz", data)):
        for format in FORMATS:
            for extra in (False, True):
                with contextlib.suppress(UserError):
                    for row in read_mask_csv(path, format, extra_columns=extra):
                        format.render(row.id, row.class_index, row.rle)
