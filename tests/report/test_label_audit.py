"""The audit finds damaged masks, and is not misled by images that are hard."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.evaluation.label_audit import COLUMNS, rank_labels
from pipeline.evaluation.observe import EXPECTED_LOSS, LOST_COLUMNS
from pipeline.paths import oof_csv, runs_folder
from pipeline.report.label_audit import write_label_audit
from pipeline.report.oof import write_oof_report
from tests.helpers import save_mask


def table_of(rows: list[tuple[str, str, float, float]]) -> pd.DataFrame:
    """Build a table of (id, group, loss, expected loss)."""
    table = pd.DataFrame(rows, columns=["id", "group", LOST_COLUMNS[0], EXPECTED_LOSS])
    return table.assign(**dict.fromkeys(LOST_COLUMNS[1:], 0.0), fold=0, area=0.2, predicted_area=0.2)


def test_expected_and_usual_losses_are_no_contradiction():
    hard = [(f"hard_{view}", "hard", 0.1, 0.02) for view in range(4)]
    unsure = [("unsure", "alone", 0.12, 0.11)]
    faulty = [(f"easy_{view}", "easy", 0.01, 0.01) for view in range(3)] + [("faulty", "easy", 0.06, 0.01)]
    ranked = rank_labels(table_of(hard + unsure + faulty))
    assert ranked.id[0] == "faulty"
    assert ranked.contradiction[0] == pytest.approx(0.05)
    assert list(ranked.columns) == list(COLUMNS)
    by_id = ranked.set_index("id")
    assert by_id.contradiction["hard_0"] == pytest.approx(0)
    assert by_id.usual_excess["hard_0"] == pytest.approx(0.08)
    assert by_id.dice["unsure"] == pytest.approx(0.88)


def test_order_does_not_depend_on_the_order_of_the_table():
    rng = np.random.default_rng(0)
    table = table_of([(f"i{n}", f"g{n % 5}", *rng.uniform(0, 0.1, 2)) for n in range(40)])
    pd.testing.assert_frame_equal(rank_labels(table), rank_labels(table.sample(frac=1, random_state=1)))


@pytest.mark.slow
def test_damaged_mask_is_first_on_table_and_sheet(competition, recipe, data, table, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = data / "train_masks" / "beta_02_mask.gif"
    mask = np.asarray(Image.open(path)) == 1
    save_mask(mask & (np.cumsum(mask, axis=1) > mask.sum(axis=1, keepdims=True) // 3), path)
    runs = runs_folder("tiny", "tiny")
    shutil.copytree(trained, runs)
    write_oof_report(competition, [recipe], data, table, [runs], [0, 1], runs)
    csv, sheet = write_label_audit(competition, "tiny", data)
    ranked = pd.read_csv(csv)
    assert ranked.id[0] == "beta_02.jpg"
    assert len(ranked) == 12
    # 12 images in two columns, each beside its errors and under a caption.
    height, width = cv2.imread(str(sheet)).shape[:2]
    assert (width, height) == (2 * 2 * 480, 6 * (26 + round(480 * 62 / 94)))

    old = pd.read_csv(oof_csv(runs)).drop(columns=EXPECTED_LOSS)
    old.to_csv(oof_csv(runs), index=False)
    with pytest.raises(UserError, match="has no column expected_loss: an older version wrote it"):
        write_label_audit(competition, "tiny", data)
