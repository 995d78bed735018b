"""TOML files are parsed, merged, overridden and validated; every fault names the file, the key and the fix."""

import contextlib
import pickle
from datetime import date
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.config import Config, known_keys, validate_config
from pipeline.errors import UserError
from pipeline.toml import apply_overrides, merge_tables, read_toml, read_toml_with_base, split_assignments

PATH = Path("some/file.toml")


class Inner(Config):
    rate: float = Field(default=0.5, gt=0, le=1)
    momentum: float = Field(default=0.5, ge=0, lt=1)
    kind: Literal["fast", "slow"] = "fast"


class Outer(Config):
    title: str
    count: int = Field(ge=1)
    flag: bool = False
    weights: Path | None = None
    names: tuple[str, ...] = Field(default=("a",), min_length=1)
    options: dict[str, int] = Field(default={})
    inner: Inner = Inner()
    stages: tuple[Inner, ...] = ()
    size: tuple[int, int] = (1, 2)

    @field_validator("title")
    @classmethod
    def _check_title(cls, title: str) -> str:
        if title == "bad":
            raise ValueError("expected a good title")
        return title

    @model_validator(mode="after")
    def _check_names(self) -> "Outer":
        if self.title in self.names:
            raise ValueError("expected another title than names")
        return self


def fault(renamed: dict[str, str] | None = None, **values: object) -> str:
    """Return the message about values that replace or extend valid ones; ``...`` removes a key."""
    merged = {key: value for key, value in ({"title": "t", "count": 1} | values).items() if value is not ...}
    with pytest.raises(UserError) as caught:
        validate_config(Outer, merged, PATH, renamed)
    assert caught.value.where == str(PATH)
    return str(caught.value).removeprefix(f"{PATH}: ")


class TestUserError:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("a.csv", "is empty", "delete it"), "a.csv: is empty; delete it"),
            ((Path("a.csv"), "is empty"), "a.csv: is empty"),
            (("", "no GPU", "use a CPU"), "no GPU; use a CPU"),
            (("", "no GPU"), "no GPU"),
        ],
    )
    def test_sentence_is_where_what_and_fix(self, arguments, sentence):
        assert str(UserError(*arguments)) == sentence

    def test_survives_pickling_between_processes(self):
        error = pickle.loads(pickle.dumps(UserError(Path("a.csv"), "is empty", "delete it")))
        assert (error.where, error.what, error.fix) == ("a.csv", "is empty", "delete it")
        assert str(error) == "a.csv: is empty; delete it"


class TestReadToml:
    def test_missing_file_lists_the_files_of_its_folder(self, tmp_path):
        with pytest.raises(UserError, match=r"c\.toml: no such file; files in .*/ are: none$"):
            read_toml(tmp_path / "c.toml")
        for name in ("b.toml", "a.toml", "notes.txt"):
            (tmp_path / name).touch()
        with pytest.raises(UserError, match=r"c\.toml: no such file; files in .*/ are: a, b$"):
            read_toml(tmp_path / "c.toml")

    @pytest.mark.parametrize("content", [b"[train", b"a = 1\na = 2", b"\xff\xfe"])
    def test_file_that_is_not_toml_is_named(self, tmp_path, content):
        (tmp_path / "x.toml").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.toml: is not valid TOML \(.+\); correct it"):
            read_toml(tmp_path / "x.toml")

    def test_base_is_extended_key_by_key(self, tmp_path):
        (tmp_path / "base.toml").write_text('title = "b"\nsize = [1, 2]\n[csv]\norder = "row"\nbase = 1\n')
        (tmp_path / "x.toml").write_text('base = "base"\nsize = [3]\n[csv]\nbase = 0\n[masks]\narea = 1\n')
        assert read_toml_with_base(tmp_path / "x.toml") == {
            "title": "b",
            "size": [3],
            "csv": {"order": "row", "base": 0},
            "masks": {"area": 1},
        }
        assert read_toml_with_base(tmp_path / "base.toml")["title"] == "b"

    def test_missing_base_is_named(self, tmp_path):
        (tmp_path / "x.toml").write_text('base = "other"')
        with pytest.raises(UserError, match=r"other\.toml: no such file; files in .*/ are: x"):
            read_toml_with_base(tmp_path / "x.toml")

    @pytest.mark.parametrize(
        "content",
        ["a = " + "[" * 5000 + "]" * 5000, ".".join("a" * 5000) + " = 1", "a = " + "9" * 5000, "a = 0x" + "f" * 5000],
    )
    def test_deep_tables_and_huge_numbers_are_not_toml(self, tmp_path, content):
        (tmp_path / "x.toml").write_text(content)
        with pytest.raises(UserError, match=r"x\.toml: is not valid TOML \(.+\); correct it"):
            read_toml(tmp_path / "x.toml")

    def test_huge_file_and_impossible_names_are_refused(self, tmp_path):
        (tmp_path / "x.toml").write_text("#" * (1 << 20) + "\n")
        with pytest.raises(UserError, match=r"x\.toml: has more than 1024 kB; correct the path"):
            read_toml(tmp_path / "x.toml")
        with pytest.raises(UserError, match="cannot be read"):
            read_toml(tmp_path / f"{'x' * 300}.toml")
        with pytest.raises(UserError, match="is not a path"):
            read_toml(tmp_path / "\0.toml")

    @pytest.mark.parametrize("base", [r"\u0000", "../x", "a/b", "..", "/etc/x", r"a\nb", "", "x y", "a" * 300 + "/"])
    def test_base_is_a_file_of_the_same_folder(self, tmp_path, base):
        (tmp_path / "x.toml").write_text(f'base = "{base}"')
        with pytest.raises(UserError, match=r"x\.toml: base is '.*'; name a file of .*/ without its suffix"):
            read_toml_with_base(tmp_path / "x.toml")

    @pytest.mark.parametrize("base", ["1", "[]", "{}", "true"])
    def test_base_is_text(self, tmp_path, base):
        (tmp_path / "x.toml").write_text(f"base = {base}")
        with pytest.raises(UserError, match=r"x\.toml: base is "):
            read_toml_with_base(tmp_path / "x.toml")


class TestMergeTables:
    def test_tables_merge_and_other_values_are_replaced(self):
        base = {"a": {"x": 1, "y": {"z": 1, "w": 2}}, "b": [1], "c": {"x": 1}, "d": 1}
        changes = {"a": {"y": {"z": 5}}, "b": [2], "c": 3, "d": {"x": 1}, "e": 4}
        merged = {"a": {"x": 1, "y": {"z": 5, "w": 2}}, "b": [2], "c": 3, "d": {"x": 1}, "e": 4}
        assert merge_tables(base, changes) == merged
        assert base["a"] == {"x": 1, "y": {"z": 1, "w": 2}}, "the base is unchanged"


class TestSplitAssignments:
    @pytest.mark.parametrize(
        ("text", "assignments"),
        [
            ("", []),
            ("  \n", []),
            ("a.b=1", ["a.b=1"]),
            (" a=1  b=2\tc=3\nd=4 ", ["a=1", "b=2", "c=3", "d=4"]),
            ("a=[1, 2] b={x = [1, 2], y = 3} c=4", ["a=[1, 2]", "b={x = [1, 2], y = 3}", "c=4"]),
            ("a='x y' b=\"x y\" c=1", ["a='x y'", 'b="x y"', "c=1"]),
            ('a="it\'s [" b=2', ['a="it\'s ["', "b=2"]),
            ("a='[' b=']' c=1", ["a='['", "b=']'", "c=1"]),
            ("a=] b=2", ["a=]", "b=2"]),
            ("a=[1 b=2", ["a=[1 b=2"]),
            ("a=$(x) b=`y;z`", ["a=$(x)", "b=`y;z`"]),
        ],
    )
    def test_spaces_split_outside_brackets_and_quotes(self, text, assignments):
        assert split_assignments(text) == assignments


class TestApplyOverrides:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("7", 7),
            ("6e-3", 0.006),
            ("true", True),
            ("group", "group"),
            ('"7"', "7"),
            ("['none', 'both']", ["none", "both"]),
            ("{bce = 1, dice = 0.5}", {"bce": 1, "dice": 0.5}),
            ("a=b", "a=b"),
            ("two words", "two words"),
            ("", ""),
            (" 7 ", 7),
        ],
    )
    def test_values_are_toml_or_bare_words(self, text, value):
        changed = apply_overrides({"train": {"key": 0, "other": 1}}, [f"train.key={text}"])
        assert changed == {"train": {"key": value, "other": 1}}
        assert type(changed["train"]["key"]) is type(value)

    def test_tables_are_created_and_the_last_assignment_counts(self):
        values = {"train": {"epochs": 1}}
        changed = apply_overrides(values, ["seed=1", "a.b.c=2", "train.epochs=3", " train.epochs = 4"])
        assert changed == {"train": {"epochs": 4}, "seed": 1, "a": {"b": {"c": 2}}}
        assert values == {"train": {"epochs": 1}}, "the argument is unchanged"

    @pytest.mark.parametrize(
        ("assignment", "reason"),
        [
            ("train.epochs", "--set train.epochs: is not an assignment; write table.key=value: train.epochs=3"),
            ("=3", "--set =3: is not an assignment; write table.key=value: train.epochs=3"),
            (".epochs=3", "--set .epochs=3: is not an assignment; write table.key=value: train.epochs=3"),
            ("train.=3", "--set train.=3: is not an assignment; write table.key=value: train.epochs=3"),
            ("train.epochs.x=3", "--set train.epochs.x=3: epochs is a value, not a table; correct the key"),
            ("train.epochs.x.y=3", "--set train.epochs.x.y=3: epochs is a value, not a table; correct the key"),
        ],
    )
    def test_wrong_assignment_is_named(self, assignment, reason):
        with pytest.raises(UserError) as caught:
            apply_overrides({"train": {"epochs": 1}}, ["seed=1", assignment])
        assert str(caught.value) == reason

    @pytest.mark.parametrize(
        ("assignment", "reason"),
        [
            ("a=" + "[" * 5000 + "]" * 5000, r"is not a value \(it is nested more than 20 deep\); correct it"),
            (".".join("a" * 5000) + "=1", "is more than 20 tables deep; correct the key"),
            ("a=" + "9" * 5000, r"is not a value \(.+\); correct it"),
        ],
    )
    def test_deep_and_huge_values_are_refused_briefly(self, assignment, reason):
        with pytest.raises(UserError, match=reason) as caught:
            apply_overrides({}, [assignment])
        assert len(str(caught.value)) < 400

    def test_a_value_cannot_set_other_keys(self):
        assert apply_overrides({}, ["a=1\nb=2"]) == {"a": "1\nb=2"}


class TestAnyText:
    """Whatever a file or an option holds, it is read or refused with a sentence."""

    PIECES = st.sampled_from(
        ["a", ".", "=", "[", "]", "{", "}", '"', "'", '"""', "\n", " ", "#", "1", "-", "_", "0x", "e9", "inf", "nan", ",", "true"]
        + ["2026-11-22", "10:00", "\\", "\\u0000", "\0", "ü", "train", "epochs", "base", "\udcff", "[" * 400, "a." * 400, "9" * 5000]
    )  # fmt: skip
    TEXT = st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join))

    @pytest.mark.slow
    @settings(deadline=2000, max_examples=300)
    @given(text=TEXT)
    def test_file(self, tmp_path_factory, text):
        path = tmp_path_factory.getbasetemp() / "any.toml"
        path.write_bytes(text.encode("utf-8", "surrogateescape" if "\udcff" in text else "replace"))
        with contextlib.suppress(UserError):
            validate_config(Outer, read_toml_with_base(path), path)

    @pytest.mark.slow
    @settings(deadline=2000, max_examples=300)
    @given(text=TEXT)
    def test_overrides(self, text):
        with contextlib.suppress(UserError):
            values = apply_overrides({"title": "t", "inner": {"rate": 1.0}}, split_assignments(text))
            validate_config(Outer, values, PATH)


class TestValidateConfig:
    def test_valid_values_give_a_frozen_config(self):
        config = validate_config(Outer, {"title": "t", "count": 2, "inner": {"rate": 1}}, PATH)
        assert (config.title, config.count, config.inner.rate, config.names) == ("t", 2, 1.0, ("a",))
        with pytest.raises(ValidationError):
            config.count = 3

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"count": ...}, "count is missing; add it"),
            ({"title": 3}, "title is 3; expected a text in quotes"),
            ({"title": "bad"}, "title is 'bad'; expected a good title"),
            ({"count": "many"}, "count is 'many'; expected a whole number"),
            ({"count": 1.5}, "count is 1.5; expected a whole number"),
            ({"count": 0}, "count is 0; expected 1 or more"),
            ({"flag": "perhaps"}, "flag is 'perhaps'; expected true or false"),
            ({"weights": 3}, "weights is 3; expected a text in quotes"),
            ({"names": "a"}, "names is 'a'; expected a list in brackets"),
            ({"names": []}, "names is []; expected 1 or more values"),
            ({"size": [1]}, "size.1 is missing; add it"),
            ({"size": [1, 2, 3]}, "size is [1, 2, 3]; expected 2 or fewer values"),
            ({"count": True}, "count is True; expected a whole number"),
            ({"count": "1"}, "count is '1'; expected a whole number"),
            ({"count": 1.0}, "count is 1.0; expected a whole number"),
            ({"flag": "yes"}, "flag is 'yes'; expected true or false"),
            ({"flag": 1}, "flag is 1; expected true or false"),
            ({"inner": {"rate": True}}, "inner.rate is True; expected a number"),
            ({"inner": {"rate": "0.01"}}, "inner.rate is '0.01'; expected a number"),
            ({"inner": {"rate": float("inf")}}, "inner.rate is inf; expected a finite number"),
            ({"inner": {"rate": float("nan")}}, "inner.rate is nan; expected a finite number"),
            ({"count": date(2026, 1, 2)}, "count is '2026-01-02'; expected a whole number"),
            ({"title": "t", "names": ["t"]}, "its keys contradict each other; expected another title than names"),
            ({"options": 3}, "options is 3; expected a table"),
            ({"options": {"x": "y"}}, "options.x is 'y'; expected a whole number"),
            ({"inner": 3}, "inner is 3; expected a table"),
            ({"inner": {"rate": "x"}}, "inner.rate is 'x'; expected a number"),
            ({"inner": {"rate": 0}}, "inner.rate is 0; expected more than 0"),
            ({"inner": {"rate": 1.01}}, "inner.rate is 1.01; expected 1 or less"),
            ({"inner": {"momentum": -0.01}}, "inner.momentum is -0.01; expected 0 or more"),
            ({"inner": {"momentum": 1}}, "inner.momentum is 1; expected less than 1"),
            ({"inner": {"kind": "medium"}}, "inner.kind is 'medium'; expected 'fast' or 'slow'"),
            ({"stages": [{}, {"rate": 2}]}, "stages.1.rate is 2; expected 1 or less"),
        ],
    )
    def test_wrong_value_is_named_with_what_is_expected(self, values, reason):
        assert fault(**values) == reason

    @pytest.mark.parametrize(
        ("values", "suggestion"),
        [
            ({"cuont": 1}, "cuont is not a known key; did you mean count?"),
            ({"inner": {"rat": 1}}, "inner.rat is not a known key; did you mean inner.rate?"),
            ({"innr": {"rate": 1}}, "innr is not a known key; did you mean inner?"),
            ({"rate": 1}, "rate is not a known key; did you mean inner.rate?"),
            ({"inner": {"count": 1}}, "inner.count is not a known key; did you mean count?"),
            ({"momentun": 1}, "momentun is not a known key; did you mean inner.momentum?"),
            ({"zzzz": 1}, "zzzz is not a known key; remove it or correct its name"),
        ],
    )
    def test_unknown_key_gets_a_suggestion(self, values, suggestion):
        assert fault(**values) == suggestion

    def test_all_faults_are_reported_at_once(self):
        sentence = fault(title=..., count=0, cuont=1, inner={"rate": 2, "kind": "x"})
        first, *lines = sentence.splitlines()
        assert first == "has 5 faults:"
        assert sorted(lines) == [
            "  count is 0; expected 1 or more",
            "  cuont is not a known key; did you mean count?",
            "  inner.kind is 'x'; expected 'fast' or 'slow'",
            "  inner.rate is 2; expected 1 or less",
            "  title is missing; add it",
        ]

    def test_renamed_key_is_one_fault_with_the_new_name(self):
        renamed = {"number": "count", "inner.speed": "inner.rate"}
        assert fault(renamed, number=1, count=...) == "number is now called count; rename it"
        assert fault(renamed, number=1) == "number is now called count; rename it"
        assert fault(renamed, inner={"speed": 1}) == "inner.speed is now called inner.rate; rename it"
        assert fault(renamed, number=1, title=...).splitlines()[0] == "has 2 faults:", "a missing key is still a fault"
        assert fault(renamed, speed=1) == "speed is not a known key; remove it or correct its name"

    @pytest.mark.parametrize(("length", "shown"), [(78, "'" + "x" * 78 + "'"), (79, "'" + "x" * 79 + "...")])
    def test_long_value_is_shortened_to_80_characters(self, length, shown):
        assert fault(count="x" * length) == f"count is {shown}; expected a whole number"

    def test_known_keys_include_nested_tables(self):
        inner = ["rate", "momentum", "kind"]
        assert known_keys(Outer) == [
            "title",
            "count",
            "flag",
            "weights",
            "names",
            "options",
            "inner",
            *(f"inner.{name}" for name in inner),
            "stages",
            *(f"stages.{name}" for name in inner),
            "size",
        ]
        assert known_keys(Inner, "x.") == ["x.rate", "x.momentum", "x.kind"]
