"""The table beside a submission of how much of each mask is in doubt, by the probabilities it was made from."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pipeline.data.samples import RowKey
from pipeline.errors import UserError
from pipeline.files import write_text

_COLUMNS = ["id", "class_index", "doubt"]


def write_doubts(path: Path, doubts: Mapping[RowKey, float]) -> None:
    """Write columns id, class_index, doubt.

    Args:
        path: from `pipeline.paths.submission_doubts`.
        doubts: (id, index of the class) -> `pipeline.inference.doubt.expected_dice_loss`.
    """
    table = pd.DataFrame([(*key, doubt) for key, doubt in doubts.items()], columns=_COLUMNS)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_doubts(path: Path) -> dict[RowKey, float]:
    """Read (id, index of the class) -> doubt; nothing if the file does not exist.

    Raises:
        UserError: the file is damaged.
    """
    try:
        table = pd.read_csv(path, dtype={"id": str, "class_index": int, "doubt": float}, keep_default_na=False)
        return {(id, number): doubt for id, number, doubt in table[_COLUMNS].itertuples(index=False)}
    except FileNotFoundError:
        return {}
    except (OSError, KeyError, ValueError) as error:
        raise UserError(path, f"cannot be read ({str(error)[:120]})", "delete it, or predict again") from None
