"""The files in competitions/, and the documentation of their keys."""

import re
from pathlib import Path

import pytest

from pipeline.competition import Competition, load_competition
from pipeline.config import known_keys

FILES = sorted(Path("competitions").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_loads_and_is_short(path):
    assert load_competition(path.stem).name == path.stem
    assert len(path.read_text().splitlines()) <= (52 if path.stem == "carvana" else 40)


def test_no_code_names_a_competition():
    """Texts may give Carvana as an example; code must not compare names."""
    names = "|".join(path.stem for path in FILES if path.stem not in ("demo", "folders"))
    for file in Path("pipeline").rglob("*.py"):
        assert not re.search(rf"""["']({names})["']""", file.read_text()), file


def test_every_key_is_documented_and_every_documented_key_exists():
    table = Path("docs/new-competition.md").read_text().split("## Every key")[1]
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", table, re.MULTILINE))
    known = {key for key in known_keys(Competition) if key != "name" and not key.startswith("download.")}
    tables = {key for key in known if any(other.startswith(f"{key}.") for other in known)}
    assert documented - {"base", "download.files"} == known - tables - {"download"}
