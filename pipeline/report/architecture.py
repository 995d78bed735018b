"""The floors of this repository, and the imports between its rooms, read from the source code.

A room is a package or module of `pipeline/`, such as ``data`` or ``paths``, or a folder next to it, such as
``scripts``. An import goes down or stays on its floor: `tests/test_architecture.py` checks this.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path, PurePosixPath

FLOORS: Mapping[str, tuple[str, ...]] = {
    "commands": ("scripts",),
    "pages": ("report", "serve"),
    "results": ("evaluation", "kaggle"),
    "work": ("training", "inference", "submission"),
    "parts": ("models", "metrics", "data", "synthetic"),
    "settings": ("recipe", "competition", "stages", "rules", "overrides", "options", "gpu_slots"),
    "places": ("config", "paths", "storage", "weights"),
    "tools": ("files", "errors", "toml", "host", "interrupts", "parallel", "jit", "shard", "cluster"),
}
"""Name of a floor -> its rooms from left to right; the top floor first."""

Import = tuple[str, str]
"""(importer, imported): two modules or two rooms."""


def read_sources(root: Path, folders: Iterable[str] = ("pipeline", "scripts")) -> dict[str, str]:
    """Read all Python files of some folders.

    Args:
        root: the repository.
        folders: folders in it, such as ``tests/standin``.

    Returns:
        Path relative to `root`, with ``/`` -> source code, sorted by path.
    """
    files = sorted(file for folder in folders for file in (root / folder).rglob("*.py"))
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def module_name(path: str) -> str:
    """Convert a path to a module name: ``pipeline/data/rle.py`` -> ``pipeline.data.rle``."""
    return ".".join(PurePosixPath(path).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """Return the room of a module: ``pipeline.data.rle`` -> ``data``, ``scripts.train`` -> ``scripts``.

    A folder of ``tests`` keeps its prefix, ``tests.standin``, because it can have the name of a room.
    """
    first, *rest = module.split(".")
    if first == "pipeline" and rest:
        return rest[0]
    return ".".join([first, *rest[:1]]) if first == "tests" else first


def find_imports(sources: Mapping[str, str]) -> set[Import]:
    """List the imports between modules of this repository, also those inside functions.

    Args:
        sources: path -> source code, as from `read_sources`.

    Returns:
        Pairs of module names. Imports of other packages are left out.
    """
    modules = {module_name(path) for path in sources}
    tops = {module.partition(".")[0] for module in modules}
    return {
        (module_name(path), imported)
        for path, source in sources.items()
        for imported in _imported_modules(path, source, modules)
        if imported.partition(".")[0] in tops
    }


def _imported_modules(path: str, source: str, modules: set[str]) -> Iterator[str]:
    module = module_name(path)
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                # `from pipeline import paths` imports a module, `from pipeline.paths import RUNS` a name.
                full_name = f"{origin}.{alias.name}"
                yield full_name if full_name in modules else origin


def room_imports(imports: Iterable[Import]) -> set[Import]:
    """Convert imports between modules to imports between different rooms."""
    pairs = {(room_of(importer), room_of(imported)) for importer, imported in imports}
    return {(importer, imported) for importer, imported in pairs if importer != imported}


def rooms_without_floor(rooms: Iterable[str], floors: Iterable[Iterable[str]]) -> list[str]:
    """List the rooms that are on no floor, sorted."""
    return sorted(set(rooms) - {room for floor in floors for room in floor})


def climbing_imports(imports: Iterable[Import], floors: Iterable[Iterable[str]]) -> list[Import]:
    """List the imports of a room from a higher floor, sorted.

    Args:
        imports: pairs of rooms; each room is on a floor.
        floors: the rooms of each floor, the top floor first.
    """
    level = {room: number for number, floor in enumerate(floors) for room in floor}
    return sorted((importer, imported) for importer, imported in imports if level[importer] > level[imported])


def find_cycle(imports: Iterable[Import]) -> list[str]:
    """Return one cycle of imports, as modules or rooms of which each imports the next; empty if there is none."""
    try:
        TopologicalSorter(_graph(imports)).prepare()
    except CycleError as error:
        # The error lists predecessors, which are the imported ones here.
        cycle: list[str] = error.args[1]
        return cycle[::-1]
    return []


def direct_imports(imports: Iterable[Import]) -> set[Import]:
    """Leave out each import that follows from a chain of others (transitive reduction).

    Args:
        imports: pairs without a cycle.
    """
    imports = set(imports)
    graph = _graph(imports)
    reachable: dict[str, set[str]] = {}
    for node in TopologicalSorter(graph).static_order():
        reachable[node] = graph[node].union(*(reachable[imported] for imported in graph[node]))
    return {
        (importer, imported)
        for importer, imported in imports
        if not any(imported in reachable[other] for other in graph[importer])
    }


def _graph(imports: Iterable[Import]) -> defaultdict[str, set[str]]:
    """Return importer -> all that it imports."""
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for importer, imported in imports:
        graph[importer].add(imported)
    return graph
