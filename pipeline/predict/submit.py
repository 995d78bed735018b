"""From finished runs to a checked submission file."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pipeline.competition import Competition, Sample, test_samples
from pipeline.data.folds import fingerprint as fingerprint_ids
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.model import checkpoint
from pipeline.predict.ensemble import device_for, load_member
from pipeline.predict.stream import rows
from pipeline.recipe import Recipe, joined
from pipeline.submission import table

log = logging.getLogger(__name__)


def write_submission(
    competition: Competition,
    recipes: Sequence[Recipe],
    data: Path,
    weights: Sequence[Sequence[Path]],
    out: Path,
    *,
    shares: Sequence[float] | None = None,
    threshold: float | None = None,
    facts: dict[str, object] | None = None,
    minutes: float | None = None,
) -> bool:
    """Predict the test set with the mean of several recipes' networks, write the rows, check the file.

    Finished rows are kept beside `out` until the file is whole, so an interrupted call goes on where it stopped.

    Args:
        competition: what the data is.
        recipes: by which the weights were trained; their flips may have changed since.
        data: the folder that holds the competition's files.
        weights: of each recipe, one file for each network.
        out: a .csv or .csv.gz; `<name>.json` beside it says how it was made.
        shares: of the recipes in the mean, which add up to 1; equal if None. One of share 0 is not asked.
        threshold: of the probability; the first recipe's if None.
        facts: what else to say in that JSON file.
        minutes: stop after this time, with the finished rows kept.

    Returns:
        Whether the file is finished.

    Raises:
        UserError: weights or images are missing or damaged, or the file that came out is not a valid submission.
    """
    samples = wanted_samples(competition, data)
    shares = list(shares or [1 / len(recipes)] * len(recipes))
    threshold = recipes[0].predict.threshold if threshold is None else threshold
    device = device_for(recipes)
    asked = [each for each in zip(recipes, weights, shares, strict=True) if each[-1] > 0]
    members = [load_member(files, device, recipe)[0] for recipe, files, _ in asked]
    made_by = {
        "competition": competition.name,
        "recipe": joined(recipes),
        "weights": [[fingerprint_file(path) for path in files] for files in weights],
        "flips": [list(recipe.predict.flips) for recipe in recipes],
        "shares": shares,
        "threshold": threshold,
        "images": fingerprint_ids(samples),
    }
    spool = Spool(out, made_by)
    left = [sample for sample in samples if sample.id not in spool.done]
    if spool.done:
        log.info("%s: goes on after %d finished rows", out, len(spool.done))
    deadline = time.monotonic() + 60 * minutes if minutes is not None else None
    bar = tqdm(total=len(samples), initial=len(spool.done), desc="predict", unit="img")
    with spool, bar:
        for row in rows(members, left, competition, threshold, [share for *_, share in asked]):
            spool.add(row)
            bar.update()
            if deadline and time.monotonic() > deadline:
                break
    if len(spool.done) < len(samples):
        log.info("%s: stopped at %d of %d rows; the same command goes on", out, len(spool.done), len(samples))
        return False
    # The name is given only to a file that was found good: until then an older one keeps it.
    candidate = out.with_name(f"rejected-{out.name}")
    table.write(candidate, competition.csv.columns, spool.rows())
    shapes = table.shapes(competition, samples)
    table.check(candidate, competition, [sample.id for sample in samples], shapes).raise_if_bad()
    write_text(beside(out), json.dumps(made_by | {"commit": checkpoint.commit()} | (facts or {}), indent=1) + "\n")
    candidate.replace(out)
    spool.remove()
    return True


def wanted_samples(competition: Competition, data: Path) -> list[Sample]:
    """The test images in the order of the sample submission, or all there are where there is no sample file.

    Raises:
        UserError: the sample file names an image that is not there, or is not a CSV with the right columns.
    """
    samples = test_samples(competition, data)
    if competition.csv.sample is None or not (path := data / competition.csv.sample).exists():
        return samples
    try:
        column = pd.read_csv(path, dtype=str, usecols=[competition.csv.columns[0]], keep_default_na=False).iloc[:, 0]
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: is not a sample submission ({error}); fetch it again") from None
    if column.duplicated().any():
        raise UserError(f"{path}: has {column[column.duplicated()].iloc[0]} twice; fetch it again")
    names = column.tolist()
    by_id = {sample.id: sample for sample in samples}
    unknown = [name for name in names if name not in by_id]
    if unknown:
        raise UserError(
            f"{path}: names {len(unknown)} images that are not in {samples[0].image.parent}, such as {unknown[0]}; "
            "fetch what is missing, or take the sample file that belongs to this data"
        )
    return [by_id[name] for name in names]


def beside(out: Path) -> Path:
    """The JSON file that says how a submission was made: `x.csv.gz` → `x.json`."""
    return out.with_name(out.name.removesuffix(".gz").removesuffix(".csv") + ".json")


def fingerprint_file(path: Path) -> str:
    """A short hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Spool:
    """Finished rows on the disk, until a submission is whole; a context that holds the file open.

    Its first line says what made the rows. Rows of other weights, flips, shares or thresholds are thrown away, and so
    is a last line that was cut off.
    """

    def __init__(self, out: Path, made_by: dict[str, object]) -> None:
        self.path = out.with_name(f".{out.name}.rows")
        self.done: set[str] = set()
        first = "# " + json.dumps(made_by) + "\n"
        if self.path.exists() and (whole := self._whole_bytes(first.encode())):
            with self.path.open("rb+") as file:
                file.truncate(whole)
            self.done = {name for name, _ in self.rows()}
        else:
            write_text(self.path, first)

    def __enter__(self) -> "Spool":
        self._file = self.path.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: tuple[str, str]) -> None:
        """Append one row."""
        self._file.write(f"{row[0]},{row[1]}\n")
        self.done.add(row[0])

    def rows(self) -> Iterator[tuple[str, str]]:
        """Read the rows back."""
        with self.path.open(encoding="utf-8", newline="") as file:
            next(file)
            # An id has no comma, and a ragged mask can be longer than the csv module's longest field.
            for line in file:
                name, _, text = line.rstrip("\n").partition(",")
                yield name, text

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink()

    def _whole_bytes(self, first: bytes) -> int:
        """Length up to the last complete line; 0 if something else made these rows."""
        with self.path.open("rb") as file:
            if file.readline() != first:
                return 0
            end = file.tell()
            for line in file:
                if line.endswith(b"\n"):
                    end += len(line)
            return end
