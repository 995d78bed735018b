"""Folds never separate a group, are balanced, and broken tables are refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sklearn.model_selection  # noqa: F401  the import takes seconds: once for all tests of a process
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.data.folds import (
    ALWAYS_TRAIN,
    describe_folds,
    fingerprint_ids,
    make_folds,
    read_folds,
    save_folds,
    split_groups,
    split_samples,
)
from pipeline.data.samples import load_training_samples
from pipeline.errors import UserError


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=5, max_size=20), folds=st.integers(2, 5), seed=st.integers(0, 9))
@example(sizes=[1, 2, 1, 2, 1], folds=5, seed=0)
def test_groups_stay_together_and_every_fold_is_filled(sizes, folds, seed):
    groups = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    areas = np.random.default_rng(seed).random(len(groups))
    result = split_groups(groups, areas, folds, seed)
    assert set(result) == set(range(folds))
    assert pd.DataFrame({"group": groups, "fold": result}).groupby("group").fold.nunique().max() == 1


def test_mask_areas_are_balanced():
    rng = np.random.default_rng(0)
    centers = rng.uniform(0.05, 0.5, 60)
    groups = np.repeat([f"car{number}" for number in range(60)], 16)
    areas = np.repeat(centers, 16) + rng.normal(0, 0.01, 960)

    def spread(result):
        means = pd.Series(areas).groupby(result).mean()
        return means.max() - means.min()

    unstratified = np.median([spread(rng.permutation(60).repeat(16) % 5) for _ in range(50)])
    assert spread(split_groups(groups, areas, 5)) < unstratified / 4


@pytest.mark.filterwarnings("error")
def test_every_fold_gets_a_group_of_each_stratum():
    """No stratum has fewer groups than folds, of which scikit-learn warns."""
    areas = np.r_[np.full(5, 0.1), np.full(9, 0.5)]
    result = split_groups([str(number) for number in range(14)], areas, 5)
    assert sorted(result[:5]) == [0, 1, 2, 3, 4]
    assert result.dtype.kind == "i"


def test_given_strata_are_balanced():
    groups = [f"g{number}" for number in range(30)]
    strata = ["rare" if number % 3 == 0 else "common" for number in range(30)]
    result = split_groups(groups, [0.1] * 30, 5, strata=strata)
    rare = pd.Series(strata).eq("rare").groupby(result).sum()
    assert rare.tolist() == [2] * 5


def test_same_seed_gives_the_same_folds():
    groups, areas = [str(number // 2) for number in range(40)], np.linspace(0.1, 0.9, 40)
    assert np.array_equal(split_groups(groups, areas, 4), split_groups(groups, areas, 4, seed=0))
    first = split_groups(groups, areas, 4, seed=1)
    assert not np.array_equal(first, split_groups(groups, areas, 4))
    assert np.array_equal(first, split_groups(groups, areas, 4, seed=1))
    assert not np.array_equal(first, split_groups(groups, areas, 4, seed=2))


@pytest.fixture
def samples(competition, data):
    return load_training_samples(competition, data)


@pytest.fixture
def saved(tmp_path, samples):
    save_folds(make_folds(samples, [0.2] * len(samples), 2), tmp_path / "folds.csv")
    return tmp_path / "folds.csv"


def test_too_few_groups_are_refused(samples):
    with pytest.raises(UserError) as error:
        make_folds(samples, [0.2] * len(samples), 9)
    assert str(error.value) == "folds: 4 groups cannot fill 9 folds; set folds in the competition's file to at most 4"


def test_table_reads_back(saved, samples):
    fold_of = read_folds(saved, samples)
    assert fold_of.keys() == {sample.id for sample in samples}
    assert set(fold_of.values()) == {0, 1}


@pytest.mark.parametrize("ids", [("01", "1", "NA", ""), ("01", "1", "02", "2")])
def test_ids_are_texts(samples, tmp_path, ids):
    """Neither 01 nor NA is a number."""
    odd = [replace(sample, id=id, group=id) for sample, id in zip(samples, ids, strict=False)]
    table = make_folds(odd, [0.2] * 4, 2)
    save_folds(table, tmp_path / "odd.csv")
    assert read_folds(tmp_path / "odd.csv", odd) == dict(zip(table.id, table.fold, strict=True))


def test_the_val_folder_is_fold_0_and_the_rest_is_always_trained_on(samples):
    marked = [replace(sample, val=number < 2) for number, sample in enumerate(samples)]
    assert make_folds(marked, [0.2] * len(samples), 5).fold.tolist() == [0, 0] + [ALWAYS_TRAIN] * (len(samples) - 2)


def test_folds_follow_the_stratum_column(samples):
    """Areas would put the two rare groups, which are the smallest, in one fold of two or not; the column never does."""
    many = [
        replace(samples[0], id=str(n), group=str(n), stratum="rare" if n % 10 == 0 else "common") for n in range(40)
    ]
    areas = np.random.default_rng(0).random(40)
    for seed in range(4):
        table = make_folds(many, areas, 4, seed)
        assert table.fold[::10].nunique() == 4


def test_table_has_rounded_areas_and_the_same_folds_in_every_call(samples):
    many = [replace(samples[0], id=str(number), group=str(number)) for number in range(40)]
    areas = np.linspace(0.1, 0.9, 40) + 1e-9
    table = make_folds(many, areas, 4)
    assert table.area.tolist() == [round(area, 6) for area in areas.tolist()]
    assert table.fold.tolist() == make_folds(many, areas, 4, seed=0).fold.tolist()
    assert table.fold.tolist() != make_folds(many, areas, 4, seed=1).fold.tolist()


def test_description_counts_images_and_groups_of_each_fold():
    table = pd.DataFrame(
        {"id": list("abcd"), "group": list("xxyz"), "fold": [0, 0, 0, 1], "area": [0.1, 0.2, 0.6, 0.5]}
    )
    header, _, *rows = (line.split() for line in describe_folds(table).splitlines())
    assert header == ["images", "groups", "mask_area"]
    assert rows == [["0", "3", "2", "0.3"], ["1", "1", "1", "0.5"]]


def test_split_by_fold(saved, samples):
    fold_of = read_folds(saved, samples)
    for fold in (0, 1):
        train, validation = split_samples(samples, fold_of, fold)
        assert {fold_of[sample.id] for sample in validation} == {fold}
        assert {fold_of[sample.id] for sample in train} == {1 - fold}
        assert len(train) + len(validation) == len(samples)
    assert split_samples(samples, fold_of, "all") == (samples, [])
    with pytest.raises(UserError) as error:
        split_samples(samples, fold_of | {"train only": ALWAYS_TRAIN}, 7)
    assert str(error.value) == "folds: there is no fold 7; choose one of 0, 1"


def test_images_that_are_always_trained_on_are_never_validated(samples):
    fold_of = {sample.id: ALWAYS_TRAIN for sample in samples} | {samples[0].id: 0}
    train, validation = split_samples(samples, fold_of, 0)
    assert (train, validation) == (samples[1:], samples[:1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.assign(fold=[1 - t.fold[0], *t.fold[1:]]), "group alpha in folds . and ., which is a leak"),
        (lambda t: t.iloc[1:], r"lacks 1 images of the data, such as alpha_01\.jpg"),
        (lambda t: pd.concat([t, t.tail(1).assign(id="zeta_01.jpg")]), "has 1 images without data"),
        (lambda t: pd.concat([t, t.tail(1)]), "repeats the id"),
        (lambda t: t.drop(columns="area"), "has the columns id, group, fold instead of id, group, fold, area"),
        (lambda t: t.assign(fold="x"), "is not a table of folds"),
    ],
)
def test_broken_tables_are_refused(saved, samples, change, reason):
    change(pd.read_csv(saved)).to_csv(saved, index=False)
    with pytest.raises(UserError, match=reason) as error:
        read_folds(saved, samples)
    assert error.value.where == str(saved)
    assert error.value.fix.endswith(f"delete {saved} and run `make folds`")
    assert error.value.fix.startswith("set DATA") == ("images" in reason)


def test_a_leak_hidden_by_an_edited_group_is_found(saved, samples):
    table = pd.read_csv(saved)
    table.loc[0, ["group", "fold"]] = ["other", 1 - table.fold[0]]
    table.to_csv(saved, index=False)
    with pytest.raises(UserError, match="leak"):
        read_folds(saved, samples)


def test_missing_table_names_the_command(tmp_path):
    with pytest.raises(UserError) as error:
        read_folds(tmp_path / "none.csv", [])
    assert str(error.value) == f"{tmp_path / 'none.csv'}: no such file; run `make folds`"


def test_fingerprint_depends_on_ids_and_not_on_their_order(samples):
    assert fingerprint_ids(samples) == fingerprint_ids(samples[::-1])
    assert fingerprint_ids(samples) != fingerprint_ids(samples[1:])
    # Files of weights hold it, so it must not change.
    assert fingerprint_ids([replace(samples[0], id=id) for id in "ba"]) == "7e18f737311b2dc3"
