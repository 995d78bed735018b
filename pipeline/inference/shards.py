"""Predict a submission in parts, on several machines, and join the parts.

A part is the spool of finished rows that an undivided prediction would keep (see `pipeline.inference.spool`), so the
joined submission is that of one machine, byte for byte.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import atomic_write, write_text
from pipeline.inference.spool import RowSpool, first_line
from pipeline.paths import find_submission_parts, submission_part
from pipeline.shard import Shard


def part_rows(out: Path, shard: Shard) -> Path:
    """Return the file of the rows of a part of the submission `out`."""
    return submission_part(out, shard.number, shard.count)


def done_mark(out: Path, shard: Shard) -> Path:
    """Return the file that marks a part as complete."""
    return part_rows(out, shard).with_suffix(".done.json")


def mark_done(out: Path, shard: Shard, unreadable: Sequence[str]) -> None:
    """Mark a part as complete.

    Args:
        out: the submission.
        shard: the part.
        unreadable: ids of the images that cannot be predicted.
    """
    write_text(done_mark(out, shard), json.dumps({"unreadable": list(unreadable)}))


def join_parts(out: Path, spool: Path, made_by: Mapping[str, object], ids: Sequence[str]) -> list[Path]:
    """Write the rows of all parts to one spool.

    Args:
        out: the submission.
        spool: the file to write; rows that it holds are replaced.
        made_by: what the rows must be made by, see `RowSpool`.
        ids: all images, in order.

    Returns:
        The files of the parts, to be deleted when the submission is complete.

    Raises:
        UserError: a part is missing, incomplete, damaged, of another division, or made by something else; or an image
            is in two parts.
    """
    shards = _complete_division(out)
    wanted = {id: shard for shard in shards for id in shard.select(ids)}
    with atomic_write(spool) as temporary, temporary.open("wb") as file:
        file.write(first_line(made_by))
        for shard in shards:
            file.writelines(_rows(out, shard, made_by, wanted))
    if wanted:
        id, shard = next(iter(wanted.items()))
        part = part_rows(out, shard)
        what = f"has no row for {id}" + (f" and {len(wanted) - 1} other images" if len(wanted) > 1 else "")
        raise UserError(part, what, f"run `make predict SHARD={shard}` again")
    return [path(out, shard) for shard in shards for path in (part_rows, done_mark)]


def _complete_division(out: Path) -> list[Shard]:
    """List the parts that lie beside a submission, in order."""
    found = {Shard(number, count) for number, count in find_submission_parts(out)}
    counts = sorted({shard.count for shard in found})
    if not found:
        raise UserError(out, "has no parts to join", "predict them with `make predict SHARD=1/2` and so on")
    if len(counts) > 1:
        what = f"has parts of {' and of '.join(map(str, counts))} parts"
        raise UserError(out, what, "delete those of the division that you do not use")
    shards = [Shard(number, counts[0]) for number in range(1, counts[0] + 1)]
    for shard in shards:
        part = part_rows(out, shard)
        if shard not in found:
            raise UserError(part, "is missing", f"run `make predict SHARD={shard}`, or copy it here")
        if not done_mark(out, shard).exists():
            raise UserError(part, "is not complete", f"run `make predict SHARD={shard}` again: it resumes")
    return shards


def _rows(out: Path, shard: Shard, made_by: Mapping[str, object], wanted: dict[str, Shard]) -> Iterator[bytes]:
    """Yield the lines of a part, and remove its images from `wanted`."""
    path = part_rows(out, shard)
    try:
        broken = json.loads(done_mark(out, shard).read_text())["unreadable"]
    except (ValueError, KeyError, TypeError):
        done = done_mark(out, shard)
        raise UserError(done, "is damaged", f"run `make predict SHARD={shard}` again") from None
    with path.open("rb") as file:
        if file.readline() != first_line(made_by):
            what = "was made with other weights, flips, thresholds or images than this prediction"
            raise UserError(path, what, f"delete it and run `make predict SHARD={shard}` again")
        spool = RowSpool(path, made_by)  # of several lines for one image, the last one counts
        for id, position in spool.done.items():
            if wanted.get(id) != shard:
                raise UserError(path, f"has a row for {id}, which belongs to another part", "delete the wrong file")
            file.seek(position)
            del wanted[id]
            yield file.readline()
    for id in broken:
        wanted.pop(id, None)
