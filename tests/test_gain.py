"""What one choice adds to another: paired, by groups, and refused where the two do not belong together."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.evaluation.statistics import paired_gain
from pipeline.submission.score import save_scores


@pytest.fixture
def tables(tmp_path):
    """Write scores of 20 groups of 16 images, and the same plus a difference; returns both paths."""

    def call(difference) -> tuple:
        rng = np.random.default_rng(0)
        group = np.repeat([f"car{number:02d}" for number in range(20)], 16)
        one = pd.DataFrame({"id": [f"{number:03d}.jpg" for number in range(320)], "group": group})
        one["dice"] = rng.normal(0.99, 0.005, 20).repeat(16)
        other = one.assign(dice=one.dice + difference(rng)).sample(frac=1, random_state=0)
        paths = tmp_path / "one.csv", tmp_path / "other.csv"
        for table, path in zip((one, other), paths, strict=True):
            table.to_csv(path, index=False)
        return paths

    return call


def test_a_small_gain_on_every_car_is_real(tables):
    """Far below the spread between cars: only the pairing shows it."""
    result = paired_gain(*tables(lambda rng: rng.normal(0.0003, 0.0002, 320)))
    assert result.real
    assert result.interval[0] < result.mean < result.interval[1]
    assert result.mean == pytest.approx(0.0003, abs=0.0001)
    assert (result.images, result.groups) == (320, 20)


def test_a_loss_is_real_too(tables):
    assert paired_gain(*tables(lambda rng: rng.normal(-0.0003, 0.0002, 320))).real


def test_one_lucky_car_is_chance(tables):
    """A gain on all 16 views of a single car would look real if images were drawn instead of cars."""
    lucky = np.r_[np.full(16, 0.01), np.zeros(304)]
    result = paired_gain(*tables(lambda rng: lucky + rng.normal(0, 1e-5, 320)))
    assert result.mean > 0
    assert not result.real


def test_no_difference(tables):
    result = paired_gain(*tables(lambda rng: np.zeros(320)))
    assert (result.mean, result.interval, result.real) == (0.0, (0.0, 0.0), False)


def test_tables_that_do_not_belong_together(tables, tmp_path):
    one, other = tables(lambda rng: np.zeros(320))
    short = tmp_path / "short.csv"
    pd.read_csv(one).head(300).to_csv(short, index=False)
    with pytest.raises(UserError, match=r"are not of the same images: 300\.jpg is in one alone"):
        paired_gain(one, short)
    twice = tmp_path / "twice.csv"
    pd.concat([pd.read_csv(one)] * 2).to_csv(twice, index=False)
    with pytest.raises(UserError, match=r"twice\.csv: has 000\.jpg twice"):
        paired_gain(one, twice)
    with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
        paired_gain(one, tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_text("id,group\na,b\n")
    with pytest.raises(UserError, match=r"bad\.csv: is not a table with id, group and dice"):
        paired_gain(tmp_path / "bad.csv", other)


def test_scores_of_a_submission_are_saved_with_their_groups(tmp_path):
    samples = [Sample(id=f"{name}.jpg", image=tmp_path / name, mask=None, group=name[0]) for name in ("a1", "a2", "b1")]
    scores = pd.Series({"a2.jpg": 0.5, "b1.jpg": 1.0})
    save_scores(scores, samples, tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text() == "id,group,dice\na2.jpg,a,0.500000\nb1.jpg,b,1.000000\n"
    assert paired_gain(tmp_path / "scores.csv", tmp_path / "scores.csv").groups == 2
    with pytest.raises(UserError, match=r"c1\.jpg: was scored, but its image is missing"):
        save_scores(pd.Series({"c1.jpg": 0.5}), samples, tmp_path / "scores.csv")
