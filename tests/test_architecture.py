"""The floors of the repository: which room imports which, the size of files, silent modules, and the drawing."""

import ast
import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.architecture import (
    FLOORS,
    climbing_imports,
    direct_imports,
    find_cycle,
    find_imports,
    module_name,
    read_sources,
    room_imports,
    room_of,
    rooms_without_floor,
)
from pipeline.report.architecture_svg import DRAWING, draw_architecture

ROOT = Path(__file__).resolve().parents[1]
ALL_FLOORS = [("benchmarks",), ("tests.standin",), *FLOORS.values()]
"""The floors that are drawn, below two folders that use the scripts."""

CHILD_PROGRAMS = {f"pipeline/kaggle/{name}.py" for name in ("client_process", "kernel/main", "kernel/run")}
"""Programs that run in child processes or in a notebook."""

FEW_NODES = st.integers(0, 6).map(lambda number: f"m{number}")


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return read_sources(ROOT, ("pipeline", "scripts", "tests/standin", "benchmarks"))


def test_imports_go_down_the_floors(sources):
    imports = room_imports(find_imports(sources))
    assert len(imports) > 50
    assert not rooms_without_floor({room for pair in imports for room in pair}, ALL_FLOORS)
    assert not climbing_imports(imports, ALL_FLOORS)


def test_rooms_and_modules_never_import_each_other_in_a_cycle(sources):
    imports = find_imports(sources)
    assert not find_cycle(room_imports(imports))
    assert not find_cycle(imports)


def test_every_room_on_a_floor_exists(sources):
    rooms = [room for floor in ALL_FLOORS for room in floor]
    assert len(set(rooms)) == len(rooms)
    assert set(rooms) == {room_of(module_name(path)) for path in sources} - {"pipeline"}


def test_files_are_short(sources):
    limits = {"pipeline/": 320, "scripts/": 60}
    lengths = {path: len(source.splitlines()) for path, source in sources.items() if path != "scripts/common.py"}
    too_long = {
        path: length
        for path, length in lengths.items()
        for folder, limit in limits.items()
        if path.startswith(folder) and length > limit
    }
    assert not too_long


def console_uses(source: str) -> list[str]:
    """List the uses of sys.argv, sys.stdout and print as ``line: name``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="sys"), attr="argv" | "stdout" as name) | ast.Name(id="print" as name):
                found.append(f"{node.lineno}: {name}")
            case ast.ImportFrom(module="sys", names=names):
                found += [f"{node.lineno}: {each.name}" for each in names if each.name in ("argv", "stdout")]
    return found


def test_pipeline_never_reads_arguments_and_never_prints(sources):
    modules = {path: source for path, source in sources.items() if path.startswith("pipeline/")}
    uses = {path: found for path in modules.keys() - CHILD_PROGRAMS if (found := console_uses(modules[path]))}
    assert not uses


def test_console_uses_are_found():
    assert console_uses("import sys\nx = sys.argv[1]\nprint(x)\n") == ["2: argv", "3: print"]
    assert console_uses("from sys import argv, path\nprint_all = f(callback=print)\n") == ["1: argv", "2: print"]
    assert console_uses("done = run()\ndone.stdout\npprint(done)\nsys.stderr\n") == []


def test_drawing_is_up_to_date():
    assert (ROOT / DRAWING).read_text() == draw_architecture(read_sources(ROOT), FLOORS), "run `make architecture`"


def test_sources_are_read_by_relative_path(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.py").write_text("é = 1\n", encoding="utf-8")
    (tmp_path / "a" / "notes.txt").write_text("")
    (tmp_path / "other.py").write_text("")
    assert read_sources(tmp_path, ("a",)) == {"a/b/c.py": "é = 1\n"}


@pytest.mark.parametrize(
    ("path", "module", "room"),
    [
        ("pipeline/data/rle.py", "pipeline.data.rle", "data"),
        ("pipeline/kaggle/kernel/main.py", "pipeline.kaggle.kernel.main", "kaggle"),
        ("pipeline/metrics/__init__.py", "pipeline.metrics", "metrics"),
        ("pipeline/paths.py", "pipeline.paths", "paths"),
        ("pipeline/__init__.py", "pipeline", "pipeline"),
        ("scripts/train.py", "scripts.train", "scripts"),
        ("tests/kaggle/helpers.py", "tests.kaggle.helpers", "tests.kaggle"),
        ("benchmarks/full_submission.py", "benchmarks.full_submission", "benchmarks"),
    ],
)
def test_modules_and_rooms_follow_from_paths(path, module, room):
    assert module_name(path) == module
    assert room_of(module) == room


def test_imports_of_all_kinds_are_found():
    sources = {
        "pipeline/__init__.py": "",
        "pipeline/paths.py": "import os\nfrom collections import abc\n",
        "pipeline/data/__init__.py": "from . import rle\n",
        "pipeline/data/rle.py": "from ..paths import RUNS\n",
        "pipeline/data/masks.py": "from .rle import mask_to_rle\n",
        "scripts/train.py": (
            "from pipeline import paths\n"
            "import pipeline.data.masks\n"
            "def main():\n    from pipeline.data import rle, other_name\n"
        ),
    }
    assert find_imports(sources) == {
        ("pipeline.data", "pipeline.data.rle"),
        ("pipeline.data.rle", "pipeline.paths"),
        ("pipeline.data.masks", "pipeline.data.rle"),
        ("scripts.train", "pipeline.paths"),
        ("scripts.train", "pipeline.data.masks"),
        ("scripts.train", "pipeline.data.rle"),
        ("scripts.train", "pipeline.data"),
    }
    assert room_imports(find_imports(sources)) == {("data", "paths"), ("scripts", "paths"), ("scripts", "data")}


def test_an_import_from_a_higher_floor_climbs():
    floors = [("roof",), ("left", "right"), ("cellar",)]
    fine = {("roof", "cellar"), ("left", "right"), ("right", "cellar")}
    assert climbing_imports(fine, floors) == []
    assert climbing_imports(fine | {("right", "roof"), ("cellar", "left")}, floors) == [
        ("cellar", "left"),
        ("right", "roof"),
    ]
    assert rooms_without_floor(["garden", "left", "attic"], floors) == ["attic", "garden"]


def test_a_cycle_is_listed_in_the_order_of_imports():
    imports = {("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")}
    cycle = find_cycle(imports)
    assert cycle[0] == cycle[-1]
    assert set(cycle) == {"a", "b", "c"}
    assert set(itertools.pairwise(cycle)) <= imports
    assert find_cycle(imports - {("c", "a")}) == []


def reachable(imports: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return all pairs that are connected by a chain, by joining pairs until nothing is added."""
    closure = set(imports)
    while more := {(a, d) for a, b in closure for c, d in closure if b == c} - closure:
        closure |= more
    return closure


def test_imports_that_follow_from_others_are_left_out():
    assert direct_imports({("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}) == {("a", "b"), ("b", "c"), ("a", "d")}


@given(st.sets(st.tuples(FEW_NODES, FEW_NODES).filter(lambda pair: pair[0] < pair[1])))
def test_direct_imports_are_the_fewest_that_reach_the_same(imports):
    direct = direct_imports(imports)
    assert direct <= imports
    assert reachable(direct) == reachable(imports)
    for one in direct:
        assert reachable(direct - {one}) != reachable(imports)


HOUSE = {
    "scripts/a.py": "import pipeline.top.x\nimport pipeline.low\nimport pipeline.side\n",
    "pipeline/top/__init__.py": "",
    "pipeline/top/x.py": "import pipeline.middle\n",
    "pipeline/top/y/z.py": "",
    "pipeline/top/y/__init__.py": "",
    "pipeline/side.py": "",
    "pipeline/middle.py": "import pipeline.end\n",
    "pipeline/between.py": "",
    "pipeline/end.py": "import pipeline.low\n",
    "pipeline/low.py": "",
}
HOUSE_FLOORS = {
    "roof": ("scripts",),
    "first": ("top",),
    "ground": ("middle", "between", "end", "side"),
    "cellar": ("low",),
}


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}"))


def test_drawing_shows_rooms_floors_files_and_direct_imports():
    svg = draw_architecture(HOUSE, HOUSE_FLOORS)
    texts = [element.text for element in elements(svg, "text")]
    assert {"scripts/", "top/", "middle.py", "low.py", "roof", "first", "ground", "cellar"} <= set(texts)
    assert "x y/" in texts
    arrows = {element.text for element in elements(svg, "title")}
    assert arrows == {
        "scripts imports top",
        "scripts imports side",
        "top imports middle",
        "middle imports end",
        "end imports low",
    }


def boxes_in(svg: str) -> list[tuple[float, float, float, float]]:
    """Return (left, top, right, bottom) of the rooms."""
    rooms = [element.attrib for element in elements(svg, "rect") if "stroke" in element.attrib]
    corners = [[float(room[key]) for key in ("x", "y", "width", "height")] for room in rooms]
    return [(x, y, x + width, y + height) for x, y, width, height in corners]


@pytest.mark.parametrize("house", [(HOUSE, HOUSE_FLOORS), (read_sources(ROOT), FLOORS)])
def test_drawn_boxes_do_not_overlap_and_lie_inside(house):
    svg = draw_architecture(*house)
    boxes = boxes_in(svg)
    width, height = (float(ElementTree.fromstring(svg).attrib[key]) for key in ("width", "height"))
    assert len(boxes) == sum(map(len, house[1].values()))
    assert all(0 < x < right < width and 0 < y < bottom < height for x, y, right, bottom in boxes)
    for one, other in itertools.combinations(boxes, 2):
        assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


def test_drawn_arrows_pass_between_boxes():
    """The vertical parts of an arrow, which cross a floor, lie between the boxes of that floor."""
    svg = draw_architecture(read_sources(ROOT), FLOORS)
    boxes = boxes_in(svg)
    crossings = 0
    for element in elements(svg, "path"):
        for x, y, to_y in re.findall(r"([\d.]+),([\d.]+)V([\d.]+)", element.attrib["d"]):
            crossings += 1
            for left, top, right, bottom in boxes:
                assert not (left <= float(x) <= right and float(y) <= bottom and top <= float(to_y))
    assert crossings > 5
