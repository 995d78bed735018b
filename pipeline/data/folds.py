"""Folds: which images a network never sees while it is trained, so that its score on them means something.

Views of one car are nearly the same picture. A split by image would put some of them on both sides, and every number
that follows would be too good; so the split is by group, and a file in which a group stands on two sides is refused.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.files import write_text

NEVER_HELD_OUT = -1
"""The fold of an image that is always trained on."""

_COLUMNS = ["id", "group", "fold", "area"]


def split_groups(groups: Sequence[str], areas: Sequence[float], count: int, seed: int = 0) -> np.ndarray:
    """Deal whole groups to folds so that the mask areas of all folds are alike.

    Args:
        groups: the group of each image.
        areas: the share of each image that its mask covers, 0 to 1.
        count: how many folds, at least 2.
        seed: of the shuffle.

    Returns:
        (n,) int, the fold of each image, 0 to count − 1.

    Raises:
        ValueError: there are fewer groups than folds.
    """
    # Imported here: it takes seconds, and everything that only reads folds would wait for it.
    from sklearn.model_selection import StratifiedGroupKFold

    table = pd.DataFrame({"group": groups, "area": areas})
    rank = table.groupby("group").area.mean().rank(method="first")
    if len(rank) < count:
        raise ValueError(f"{len(rank)} groups cannot fill {count} folds")
    # Groups sorted by area and cut into strata of `count`: a fold that takes one of each has the mean of all.
    strata = table.group.map((rank - 1) // count).clip(upper=len(rank) // count - 1)
    folds = np.empty(len(table), dtype=int)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(table, strata, table.group)):
        folds[held_out] = fold
    return folds


def make_folds(samples: Sequence[Sample], areas: Sequence[float], count: int, seed: int = 0) -> pd.DataFrame:
    """The table of folds of a competition: columns id, group, fold, area.

    Where the competition has a val folder, that is fold 0 and all else is always trained on.

    Raises:
        UserError: there are fewer groups than folds.
    """
    groups = [sample.group for sample in samples]
    if any(sample.val for sample in samples):
        folds = np.array([0 if sample.val else NEVER_HELD_OUT for sample in samples])
    else:
        try:
            folds = split_groups(groups, areas, count, seed)
        except ValueError as error:
            raise UserError("", error, f"set `folds` in the competition's file to at most {len(set(groups))}") from None
    ids = [sample.id for sample in samples]
    return pd.DataFrame({"id": ids, "group": groups, "fold": folds, "area": np.round(areas, 6)})


def save_folds(table: pd.DataFrame, path: Path) -> None:
    """Write a table of folds as CSV, whole or not at all."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_folds(path: Path, samples: Sequence[Sample]) -> dict[str, int]:
    """Read the fold of every sample and prove that none leaks.

    Returns:
        id → fold, `NEVER` for images that are always trained on.

    Raises:
        UserError: the file is missing or not such a table, a group stands in two folds, or the file and the data do
            not hold the same images.
    """
    again = f"delete {path} and run `make folds`"
    try:
        table = pd.read_csv(path, dtype={"id": str, "group": str, "fold": int}, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(path, "no such file", "run `make folds`") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(path, f"is not a table of folds ({error})", again) from None
    if list(table.columns) != _COLUMNS:
        raise UserError(path, f"has columns {', '.join(table.columns)}; expected {', '.join(_COLUMNS)}", again)
    if table.id.duplicated().any():
        raise UserError(path, f"{table.id[table.id.duplicated()].iloc[0]} stands in it twice", again)
    # The groups are asked of the data, not of the file: a file that was edited could hide a leak.
    group_of = {sample.id: sample.group for sample in samples}
    fold_of = dict(zip(table.id, table.fold.tolist(), strict=True))
    if group_of.keys() != fold_of.keys():
        missing, extra = sorted(group_of.keys() - fold_of.keys()), sorted(fold_of.keys() - group_of.keys())
        what = f"{len(missing)} images are not in it" if missing else f"{len(extra)} of its images are not in the data"
        raise UserError(
            path, f"{what}, such as {(missing or extra)[0]}", f"set DATA to the data it was made for, or {again}"
        )
    seen: dict[str, int] = {}
    for name, fold in fold_of.items():
        group = group_of[name]
        if seen.setdefault(group, fold) != fold:
            raise UserError(path, f"group {group} stands in folds {seen[group]} and {fold}, which leaks", again)
    return fold_of


def split_samples(
    samples: Sequence[Sample], fold_of: dict[str, int], fold: int | None
) -> tuple[list[Sample], list[Sample]]:
    """Samples to train on, and samples held out by `fold`: none if it is None.

    Raises:
        UserError: there is no such fold.
    """
    held_out = [sample for sample in samples if fold_of[sample.id] == fold]
    if not held_out and fold is not None:
        known = sorted(set(fold_of.values()) - {NEVER_HELD_OUT})
        raise UserError("", f"there is no fold {fold}", f"folds are {', '.join(map(str, known))}")
    return [sample for sample in samples if fold_of[sample.id] != fold], held_out


def fingerprint_ids(samples: Sequence[Sample]) -> str:
    """A short hash of the ids of samples, in any order: tells whether weights have seen an image."""
    return hashlib.sha256("\n".join(sorted(sample.id for sample in samples)).encode()).hexdigest()[:16]
