"""The doubt of a mask is its expected Dice loss, and lies beside the submission."""

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.errors import UserError
from pipeline.inference.doubt import expected_dice_loss
from pipeline.inference.submission import write_submission
from pipeline.paths import fold_run, submission_doubts
from pipeline.submission.doubts import read_doubts, write_doubts


def test_certain_probabilities_leave_no_doubt():
    masks = torch.rand(2, 30, 40) > 0.5
    masks[1] = False
    assert expected_dice_loss(masks.float(), masks).tolist() == [0, 0]


def test_doubt_is_the_dice_loss_of_masks_drawn_from_the_probabilities():
    rng = torch.Generator().manual_seed(0)
    for size in (200, 900):  # the larger one is sampled
        y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        distance = ((y - size / 2) ** 2 + (x - size / 2) ** 2).sqrt() - size / 3
        probability = torch.sigmoid(-distance / 8)[None]
        mask = probability > 0.5
        truth = torch.rand(probability.shape, generator=rng) < probability
        loss = 1 - 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        assert expected_dice_loss(probability, mask).item() == pytest.approx(loss.item(), rel=0.03)


@pytest.mark.slow
def test_prediction_writes_the_doubt_of_each_mask(competition, recipe, data, trained, tmp_path):
    out = tmp_path / "s.csv.gz"
    weights = [[fold_run(trained, fold).weights for fold in (0, 1)]]
    assert write_submission(competition, [recipe], data, weights, out)
    doubts = read_doubts(submission_doubts(out))
    assert sorted(doubts) == [(f"omega_{view:02}.jpg", 0) for view in (1, 2, 3)]
    assert all(0 < doubt < 0.5 for doubt in doubts.values())


def test_doubts_survive_the_file(tmp_path):
    doubts = {("NA", 0): 0.25, ("NA", 1): 0.0, ("007", 0): 1.0}
    write_doubts(tmp_path / "x.doubts.csv", doubts)
    assert read_doubts(tmp_path / "x.doubts.csv") == doubts
    assert read_doubts(tmp_path / "none.csv") == {}
    pd.DataFrame(np.ones((2, 2))).to_csv(tmp_path / "wrong.csv")
    with pytest.raises(UserError, match="delete it, or predict again"):
        read_doubts(tmp_path / "wrong.csv")
