"""Split the test images for several GPUs, and join the submissions of the parts."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.competition import Competition
from pipeline.data.folds import fingerprint_ids
from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from pipeline.data.row_format import submission_format
from pipeline.data.samples import load_submission_samples
from pipeline.files import write_text
from pipeline.paths import partial_sample, submission_doubts, submission_metadata
from pipeline.submission.doubts import read_doubts, write_doubts


def split_test_images(competition: Competition, data: Path, count: int) -> list[Path]:
    """Make `count` data folders, each with a part of the sample CSV and links to everything else.

    Args:
        competition: names the sample CSV.
        data: the data folder.
        count: number of parts.

    Returns:
        The new folders, next to `data`, at most one per image; `data` itself if there is one part or no sample CSV.
    """
    sample = competition.csv.sample
    if count < 2 or sample is None or not (data / sample).exists():
        return [data]
    format = submission_format(competition)
    rows = [(row.id, row.class_index, row.rle) for row in read_mask_csv(data / sample, format)]
    ids = list(dict.fromkeys(id for id, _, _ in rows))
    count = min(count, len(ids))
    if count < 2:
        return [data]
    # All rows of an image go to the same part.
    part_of = {id: number % count for number, id in enumerate(ids)}
    folders = []
    for number in range(count):
        folder = data.with_name(f"{data.name}{number}")
        folder.mkdir(exist_ok=True)
        for path in data.iterdir():
            if path.name != sample and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
        write_mask_csv(folder / sample, format, [row for row in rows if part_of[row[0]] == number])
        partial_sample(folder).touch()
        folders.append(folder)
    return folders


def shard_path(submission: Path, number: int, count: int) -> Path:
    """Return the path of one of `count` parts of a submission; the submission itself if it is the only part."""
    return submission if count == 1 else submission.with_name(f"part{number}-{submission.name}")


def join_submissions(competition: Competition, data: Path, parts: Sequence[Path], out: Path, commit: str) -> None:
    """Join the parts to one submission, write its metadata and delete the parts.

    Args:
        competition: names the columns.
        data: the data folder with all test images.
        parts: the submissions of the parts, or `out` only.
        out: the submission.
        commit: written into the metadata if there is no commit in it.
    """
    metadata = json.loads(submission_metadata(parts[0]).read_text(encoding="utf-8"))
    if list(parts) != [out]:
        format = submission_format(competition)
        rows = (row for part in parts for row in read_mask_csv(part, format))
        write_mask_csv(out, format, ((row.id, row.class_index, row.rle) for row in rows))
        filled = [json.loads(submission_metadata(part).read_text(encoding="utf-8")).get("filled", []) for part in parts]
        metadata["filled"] = sorted(id for ids in filled for id in ids)
        metadata["images"] = fingerprint_ids(load_submission_samples(competition, data))
        if doubts := {key: doubt for part in parts for key, doubt in read_doubts(submission_doubts(part)).items()}:
            write_doubts(submission_doubts(out), doubts)
    metadata["commit"] = metadata.get("commit") or commit
    write_text(submission_metadata(out), json.dumps(metadata, indent=1) + "\n")
    for part in parts:
        if part != out:
            part.unlink()
            submission_metadata(part).unlink()
            submission_doubts(part).unlink(missing_ok=True)
