"""What is installed is whole, and the house stands: every direct need imports, imports go down the floors."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "tomli-w": "tomli_w",
}
# Importing kaggle logs in; its command is asked for its version instead. ruff is a program only.
PROGRAMS = ("kaggle", "ruff")

FLOORS = [
    {"scripts"},
    {"report"},
    {"evaluate", "evaluation"},
    {"predict"},
    {"submission", "train"},
    {"data", "model", "preflight"},
    {"competition", "recipe"},
    {"config", "errors", "files", "fit", "host", "runs"},
]


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [re.match(r"[a-z0-9-]+", line).group() for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", [name for name in requirements() if name not in PROGRAMS])
def test_direct_needs_import(name):
    importlib.import_module(MODULES.get(name, name))


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_start(program, tmp_path):
    """With a home of its own: the client writes into it."""
    command = [str(Path(sys.executable).with_name(program)), "--version"]
    env = {"HOME": str(tmp_path), "KAGGLE_USERNAME": "nobody", "KAGGLE_KEY": "none", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+\.\d+", done.stdout)


def test_one_opencv():
    """Two wheels write over the same cv2 folder."""
    from importlib.metadata import distributions

    names = {(each.metadata["Name"] or "").lower() for each in distributions()}
    assert [name for name in names if name.startswith("opencv")] == ["opencv-python-headless"]


def test_lock_covers_the_requirements():
    lock = (ROOT / "requirements.lock").read_text()
    pinned = set(re.findall(r"^([a-z0-9-]+)==", lock, flags=re.MULTILINE))
    assert set(requirements()) <= pinned
    assert "https://" not in lock, "the lock must work with any index"


def test_python_bound_is_stated():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"] == ">=3.11"


def room(module: str) -> str:
    """pipeline.data.rle → data; scripts.train → scripts."""
    first, _, rest = module.partition(".")
    return first if first == "scripts" else rest.partition(".")[0]


def imports() -> list[tuple[str, str]]:
    """(room, imported room) of every import in the code."""
    found = []
    for path in sorted([*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]):
        here = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.split(".")[0] in ("pipeline", "scripts")
            ):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [(room(here), room(name)) for name in names]
            elif isinstance(node, ast.Import):
                found += [(room(here), room(a.name)) for a in node.names if a.name.startswith("pipeline.")]
    return found


def test_imports_go_down_the_floors():
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    pairs = imports()
    assert len(pairs) > 50
    assert not {name for pair in pairs for name in pair} - floor.keys(), "a room that stands on no floor"
    climbing = {(here, there) for here, there in pairs if here != there and floor[here] > floor[there]}
    assert not climbing
    beside = {(here, there) for here, there in pairs if here != there and floor[here] == floor[there]}
    assert not any((there, here) in beside for here, there in beside), "two rooms import each other"


def test_files_are_short():
    for path in [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        lines = len(path.read_text().splitlines())
        assert lines <= (60 if path.parent.name == "scripts" and path.stem != "common" else 350), (
            f"{path}: {lines} lines"
        )


def test_pipeline_is_silent_and_scripts_are_thin():
    # Not imported: the programs that a child process, and a notebook of Kaggle's, run.
    programs = {ROOT / "pipeline" / "submission" / name for name in ("client.py", "kernel_main.py")}
    for path in set((ROOT / "pipeline").rglob("*.py")) - programs:
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert called != "print", f"{path}:{node.lineno}: prints"
            assert not (isinstance(node, ast.Attribute) and node.attr == "argv"), (
                f"{path}:{node.lineno}: reads sys.argv"
            )
