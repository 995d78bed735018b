"""Rank training masks by how much out-of-fold predictions contradict them."""

import numpy as np
import pandas as pd

from pipeline.evaluation.observe import EXPECTED_LOSS, LOST_COLUMNS

COLUMNS = (
    "id", "group", "fold", "contradiction", "dice", "expected_dice", "usual_excess", "area", "predicted_area",
)  # fmt: skip
_SMALLEST_GROUP = 3
"""Images of a group from which on the others say what is usual for it."""


def rank_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Rank images by how surprising their ground-truth masks are to models that were not trained on them.

    A low Dice alone does not accuse a mask: dark cars are hard in every photo. So the loss of Dice is reduced by what
    the probabilities expect to lose, and by the usual excess over that among the other images of the group.

    Args:
        table: one row per image, from `pipeline.evaluation.oof.evaluate_oof`.

    Returns:
        The columns `COLUMNS`, the most suspicious mask first. contradiction: loss of Dice beyond the expected and the
        usual, about -1 to 1. usual_excess: median over the other images of the group, at least 0; 0 for groups of
        fewer than three images.
    """
    loss = table[list(LOST_COLUMNS)].sum(axis=1)
    excess = loss - table[EXPECTED_LOSS]
    usual = excess.groupby(table["group"]).transform(_median_of_others).clip(lower=0)
    ranked = table.assign(
        contradiction=excess - usual, dice=1 - loss, expected_dice=1 - table[EXPECTED_LOSS], usual_excess=usual
    )
    return ranked[list(COLUMNS)].sort_values(["contradiction", "id"], ascending=[False, True], ignore_index=True)


def _median_of_others(values: pd.Series) -> np.ndarray:
    """Return, for each value, the median of all other values; 0 if there are too few."""
    if len(values) < _SMALLEST_GROUP:
        return np.zeros(len(values))
    return np.array([np.median(np.delete(values.to_numpy(), number)) for number in range(len(values))])
