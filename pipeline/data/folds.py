"""Split the training images into folds by group.

The views of one car are nearly identical. A split by image would put some of them on both sides and make every score
too high, so whole groups are split, and a table in which a group is in two folds is refused.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.paths import ALL, Fold

ALWAYS_TRAIN = -1
"""The fold of an image that is never a validation image."""

_COLUMNS = ["id", "group", "fold", "area"]


def split_groups(
    groups: Sequence[str], areas: Sequence[float], folds: int, seed: int = 0, strata: Sequence[str] = ()
) -> np.ndarray:
    """Split whole groups into folds with similar mask areas, or similar frequencies of given strata.

    Args:
        groups: the group of each image.
        areas: the fraction of each image that its mask covers, 0 to 1.
        folds: number of folds, at least 2.
        seed: of the shuffle.
        strata: a value per image that should be equally frequent in all folds; empty to stratify by area.

    Returns:
        (n,) int, the fold of each image, 0 to folds − 1.

    Raises:
        ValueError: there are fewer groups than folds.
    """
    # Imported here: the import takes seconds, and whoever only reads folds does not need it.
    from sklearn.model_selection import StratifiedGroupKFold

    table = pd.DataFrame({"group": groups, "area": areas})
    rank = table.groupby("group").area.mean().rank(method="first")
    if len(rank) < folds:
        raise ValueError(f"{len(rank)} groups cannot fill {folds} folds")
    if any(strata):
        labels = np.array(strata)
    else:
        # Sort the groups by area and divide them into strata of `folds` groups: a fold with one group of each stratum
        # has the mean area of all.
        labels = table.group.map((rank - 1) // folds).clip(upper=len(rank) // folds - 1).to_numpy()
    fold_of = np.empty(len(table), dtype=int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, validation) in enumerate(splitter.split(table, labels, table.group)):
        fold_of[validation] = fold
    return fold_of


def make_folds(samples: Sequence[Sample], areas: Sequence[float], folds: int, seed: int = 0) -> pd.DataFrame:
    """Make the table of folds of a competition: columns id, group, fold, area.

    Where the competition has a val folder, its images are fold 0 and all others are always trained on.

    Raises:
        UserError: there are fewer groups than folds.
    """
    groups = [sample.group for sample in samples]
    if any(sample.val for sample in samples):
        fold_of = np.array([0 if sample.val else ALWAYS_TRAIN for sample in samples])
    else:
        try:
            fold_of = split_groups(groups, areas, folds, seed, [sample.stratum for sample in samples])
        except ValueError as error:
            fix = f"set folds in the competition's file to at most {len(set(groups))}"
            raise UserError("", str(error), fix) from None
    ids = [sample.id for sample in samples]
    return pd.DataFrame({"id": ids, "group": groups, "fold": fold_of, "area": np.round(areas, 6)})


def save_folds(table: pd.DataFrame, path: Path) -> None:
    """Write a table of folds as CSV, atomically."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def describe_folds(table: pd.DataFrame) -> str:
    """Describe a table of folds: images, groups and mean mask area of each."""
    summary = table.groupby("fold").agg(images=("id", "size"), groups=("group", "nunique"), mask_area=("area", "mean"))
    return str(summary)


def read_folds(path: Path, samples: Sequence[Sample]) -> dict[str, int]:
    """Read the fold of every sample, and check that no group is in two folds.

    Returns:
        id -> fold; `ALWAYS_TRAIN` for images that are never validation images.

    Raises:
        UserError: the file is missing or not a table of folds, a group is in two folds, or the file and the data do
            not have the same images.
    """
    again = f"delete {path} and run `make folds`"
    try:
        table = pd.read_csv(path, dtype={"id": str, "fold": int}, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(path, "no such file", "run `make folds`") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(path, f"is not a table of folds ({error})", again) from None
    if list(table.columns) != _COLUMNS:
        what = f"has the columns {', '.join(table.columns)} instead of {', '.join(_COLUMNS)}"
        raise UserError(path, what, again)
    if table.id.duplicated().any():
        raise UserError(path, f"repeats the id {table.id[table.id.duplicated()].iloc[0]}", again)
    # Groups are taken from the data, not from the file, because an edited file could hide a leak.
    group_of = {sample.id: sample.group for sample in samples}
    fold_of = dict(zip(table.id, table.fold.tolist(), strict=True))
    if group_of.keys() != fold_of.keys():
        missing, extra = sorted(group_of.keys() - fold_of.keys()), sorted(fold_of.keys() - group_of.keys())
        what = f"lacks {len(missing)} images of the data" if missing else f"has {len(extra)} images without data"
        fix = f"set DATA to the data that it was made for, or {again}"
        raise UserError(path, f"{what}, such as {(missing or extra)[0]}", fix)
    seen: dict[str, int] = {}
    for id, fold in fold_of.items():
        group = group_of[id]
        if seen.setdefault(group, fold) != fold:
            raise UserError(path, f"has the group {group} in folds {seen[group]} and {fold}, which is a leak", again)
    return fold_of


def split_samples(samples: Sequence[Sample], fold_of: dict[str, int], fold: Fold) -> tuple[list[Sample], list[Sample]]:
    """Return the training and the validation samples of a fold; for the fold "all", no validation samples.

    Raises:
        UserError: there is no such fold.
    """
    if fold == ALL:
        return list(samples), []
    validation = [sample for sample in samples if fold_of[sample.id] == fold]
    if not validation:
        known = ", ".join(map(str, sorted(set(fold_of.values()) - {ALWAYS_TRAIN})))
        raise UserError("", f"there is no fold {fold}", f"choose one of {known}")
    return [sample for sample in samples if fold_of[sample.id] != fold], validation


def fingerprint_ids(samples: Sequence[Sample]) -> str:
    """Return a short hash of the samples' ids in any order: it tells whether a model has seen them."""
    return hashlib.sha256("\n".join(sorted(sample.id for sample in samples)).encode()).hexdigest()[:16]
