"""Text of command-line options is converted to paths, folds, numbers and assignments, or refused by its option."""

from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.options import parse_data, parse_folds, parse_numbers, parse_overrides, parse_paths, require_option


def test_data_folder_has_a_default_by_competition():
    assert parse_data("", "cars") == Path("data/cars")
    assert parse_data("my data", "cars") == Path("my data")


@pytest.mark.parametrize(
    ("texts", "seed", "assignments"),
    [
        ([], "", []),
        ([""], "", []),
        ([""], "7", ["seed=7"]),
        (["a=1 b=[1, 2]"], "", ["a=1", "b=[1, 2]"]),
        (["a=1 b='x y'", "", "c=3"], "0", ["a=1", "b='x y'", "c=3", "seed=0"]),
        (["seed=1"], "2", ["seed=1", "seed=2"]),
    ],
)
def test_overrides_are_split_and_the_seed_comes_last(texts, seed, assignments):
    assert parse_overrides(texts, seed) == assignments


class TestFolds:
    @pytest.mark.parametrize(
        ("text", "folds"),
        [
            ("", [0, 1, 2]),
            (" ", [0, 1, 2]),
            ("0", [0]),
            ("2", [2]),
            ("0 2", [0, 2]),
            ("2,0", [2, 0]),
            (" 0 , 1 ", [0, 1]),
            ("0 1 2", [0, 1, 2]),
        ],
    )
    def test_numbers_are_separated_by_spaces_or_commas(self, text, folds):
        assert parse_folds(text, 3) == folds

    @pytest.mark.parametrize("text", ["3", "0 3", "0 0", "x", "0 x", "-1", "1.0", "0;1", "all", "٣", "²", "'0'"])
    def test_other_text_is_refused(self, text):
        with pytest.raises(UserError) as caught:
            parse_folds(text, 3)
        fix = "give different numbers from 0 to 2, separated by spaces"
        assert str(caught.value) == f"--folds '{text}': is not a list of folds; {fix}"


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "numbers"),
        [
            ("", []),
            ("2", [2.0]),
            ("0.5 0.3", [0.5, 0.3]),
            ("0.5,0.3", [0.5, 0.3]),
            (" 1e3 , -1 ", [1000.0, -1.0]),
        ],
    )
    def test_numbers_are_separated_by_spaces_or_commas(self, text, numbers):
        assert parse_numbers(text, "--weights") == numbers

    @pytest.mark.parametrize("text", ["x", "0.5 x", "0.5;0.3", "1/2", "'1'", "nan", "inf", "1_0", "٣", "1e999"])
    def test_other_text_is_refused_with_its_option(self, text):
        with pytest.raises(UserError) as caught:
            parse_numbers(text, "--weights")
        assert str(caught.value) == f"--weights '{text}': is not a list of numbers; separate numbers by spaces"


class TestPaths:
    NAMES = ("a.csv", "b.csv", "my file.csv", "it's.csv", "it's mine.csv", 'a "quoted" one.csv', "$(touch x).csv")

    @pytest.fixture(autouse=True)
    def _files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in self.NAMES:
            Path(name).touch()

    @pytest.mark.parametrize("name", NAMES)
    def test_existing_file_is_one_path_as_it_is(self, name):
        assert parse_paths([name]) == [Path(name)]

    @pytest.mark.parametrize(
        ("texts", "names"),
        [
            ([], []),
            ([""], []),
            (["  "], []),
            (["a.csv b.csv"], ["a.csv", "b.csv"]),
            (["a.csv  b.csv\nc.csv"], ["a.csv", "b.csv", "c.csv"]),
            (["a.csv", "b.csv"], ["a.csv", "b.csv"]),
            (["a.csv b.csv", "my file.csv"], ["a.csv", "b.csv", "my file.csv"]),
            (["'my file.csv' a.csv"], ["my file.csv", "a.csv"]),
            (['"my file.csv" a.csv'], ["my file.csv", "a.csv"]),
            (['"it\'s mine.csv" a.csv'], ["it's mine.csv", "a.csv"]),
            (["my\\ file.csv a.csv"], ["my file.csv", "a.csv"]),
            (["it's.csv a.csv"], ["it's.csv", "a.csv"]),
            (["missing.csv"], ["missing.csv"]),
            (["a.csv;b.csv"], ["a.csv;b.csv"]),
        ],
    )
    def test_several_paths_are_split_at_spaces_outside_quotes(self, texts, names):
        assert parse_paths(texts) == [Path(name) for name in names]


def test_empty_option_is_named_with_an_example():
    require_option(["x"], "IMG", "make overlay IMG=image.jpg")
    with pytest.raises(UserError) as caught:
        require_option([], "IMG", "make overlay IMG=image.jpg")
    assert str(caught.value) == "IMG: is empty; give it, for example make overlay IMG=image.jpg"
