"""A submission in parts is that of one machine, byte for byte; parts that do not fit together are refused."""

import json
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.inference.broken import BrokenImagesError
from pipeline.inference.shards import done_mark, part_rows
from pipeline.inference.spool import RowSpool
from pipeline.inference.submission import write_submission
from pipeline.paths import (
    fold_run,
    submission_doubts,
    submission_metadata,
    submission_spool,
)
from pipeline.shard import Shard, parse_shard


@pytest.fixture
def predict(competition, recipe, data, trained, tmp_path):
    """Predict the tiny competition with one fold; returns the submission."""

    def run(name: str, fold: int = 0, **options):
        out = tmp_path / name / "s.csv.gz"
        write_submission(competition, [recipe], data, [[fold_run(trained, fold).weights]], out, **options)
        return out

    return run


@given(st.integers(1, 40), st.integers(0, 100))
def test_shards_divide_all_items(count, size):
    items = list(range(size))
    parts = [Shard(number, count).select(items) for number in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shard_is_parsed():
    assert parse_shard("") is None
    assert parse_shard("3/16") == Shard(3, 16)
    assert str(Shard(3, 16)) == "3/16"


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "3/", "-1/4", "1/0", "a/b", "1/4/2", " 1/4"])
def test_wrong_shard_is_refused(text):
    with pytest.raises(UserError, match="is not a part such as 3/16; count the parts from 1"):
        parse_shard(text)


class TestMerge:
    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_merged_parts_equal_an_undivided_prediction(self, predict, count):
        whole = predict("whole")
        for number in range(count, 0, -1):
            out = predict("parts", shard=Shard(number, count))
            assert not out.exists()
        out = predict("parts", merge=True)
        for path in (lambda file: file, submission_doubts, submission_metadata):
            assert path(out).read_bytes() == path(whole).read_bytes()
        assert sorted(path.name for path in out.parent.iterdir()) == sorted(
            path.name for path in whole.parent.iterdir()
        )

    def test_part_that_was_stopped_resumes(self, predict, monkeypatch, caplog):
        add = RowSpool.add
        monkeypatch.setattr(RowSpool, "add", lambda *a: add(*a) or os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as caught:
            predict("parts", shard=Shard(1, 2))
        assert caught.value.code == 143
        monkeypatch.undo()
        predict("parts", shard=Shard(2, 2))
        with pytest.raises(
            UserError, match=r"s\.part-1-of-2\.rows: is not complete; run `make predict SHARD=1/2` again"
        ):
            predict("parts", merge=True)
        with caplog.at_level("INFO"):
            predict("parts", shard=Shard(1, 2))
        assert "resumes after 1 finished rows" in caplog.text
        assert predict("parts", merge=True).read_bytes() == predict("whole").read_bytes()

    def test_gap_is_refused(self, predict, tmp_path):
        with pytest.raises(UserError, match=r"s\.csv\.gz: has no parts to join"):
            predict("parts", merge=True)
        out = predict("parts", shard=Shard(1, 3))
        predict("parts", shard=Shard(3, 3))
        with pytest.raises(UserError, match=r"s\.part-2-of-3\.rows: is missing; run `make predict SHARD=2/3`"):
            predict("parts", merge=True)
        assert not out.exists()
        assert not submission_spool(out).exists()

    def test_parts_of_two_divisions_are_refused(self, predict):
        for shard in (Shard(1, 2), Shard(2, 2), Shard(1, 3)):
            predict("parts", shard=shard)
        with pytest.raises(UserError, match="has parts of 2 and of 3 parts; delete those"):
            predict("parts", merge=True)

    def test_overlap_is_refused(self, predict):
        out = predict("parts", shard=Shard(1, 2))
        part_rows(out, Shard(2, 2)).write_bytes(part_rows(out, Shard(1, 2)).read_bytes())
        done_mark(out, Shard(2, 2)).write_bytes(done_mark(out, Shard(1, 2)).read_bytes())
        with pytest.raises(UserError, match=r"has a row for omega_0\d\.jpg, which belongs to another part"):
            predict("parts", merge=True)

    def test_part_of_other_weights_is_refused(self, predict):
        predict("parts", shard=Shard(1, 2))
        predict("parts", shard=Shard(2, 2), fold=1)
        with pytest.raises(
            UserError, match=r"part-2-of-2\.rows: was made with other weights, flips, thresholds or images"
        ):
            predict("parts", merge=True)

    def test_damaged_part_is_refused(self, predict):
        out = predict("parts", shard=Shard(1, 2))
        predict("parts", shard=Shard(2, 2))
        part = part_rows(out, Shard(1, 2))
        part.write_bytes(part.read_bytes()[:-9])
        with pytest.raises(UserError, match=r"part-1-of-2\.rows: has no row for omega_0\d\.jpg; run `make predict"):
            predict("parts", merge=True)
        done_mark(out, Shard(2, 2)).write_text("[]")
        with pytest.raises(UserError, match=r"part-2-of-2\.done\.json: is damaged"):
            predict("parts", merge=True)
        assert predict("parts", shard=Shard(1, 2)) == predict("parts", shard=Shard(2, 2))
        assert predict("parts", merge=True).read_bytes() == predict("whole").read_bytes()

    def test_broken_image_costs_its_own_row(self, predict, data, tmp_path):
        (data / "test" / "omega_02.jpg").write_bytes(b"\xff\xd8 nothing")
        for name, options in (("parts", {"merge": True}), ("whole", {})):
            if name == "parts":
                for number in (1, 2):
                    predict(name, shard=Shard(number, 2))
            with pytest.raises(BrokenImagesError):
                predict(name, **options)
            assert not (tmp_path / name / "s.csv.gz").exists()
        for number in (1, 2):
            predict("parts", shard=Shard(number, 2))
        merged, whole = predict("parts", merge=True, allow_broken=True), predict("whole", allow_broken=True)
        assert merged.read_bytes() == whole.read_bytes()
        assert json.loads(submission_metadata(merged).read_text())["filled"] == ["omega_02.jpg"]
