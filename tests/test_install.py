"""Installed packages, and the files that declare them: requirements, lock, pyproject.toml, citation."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "opencv-python-headless": "cv2",
    "axe-core-python": "axe_core_python",
    "pillow": "PIL",
    "pylibjpeg-openjpeg": "openjpeg",
    "pytest-xdist": "xdist",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
    "tomli-w": "tomli_w",
}
"""Package -> module, where the names differ."""
PROGRAMS = ("kaggle", "mypy", "ruff")
"""Packages that are used as commands. Importing kaggle would log in."""
STUBS = ("pandas-stubs", "types-tqdm")
"""Packages without a module."""


def requirements(file: str) -> dict[str, str]:
    """Read package -> version bounds from a requirements file; empty bounds are those of its constraints."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith(("#", "-"))]
    matches = [re.fullmatch(r"([a-z0-9-]+)([=<>0-9.,]*)", line) for line in lines]
    assert all(matches), lines
    return {match[1]: match[2] for match in matches if match}


def locked_versions() -> dict[str, set[str]]:
    """Read package -> pinned versions; a package can have several, for several versions of Python."""
    versions: dict[str, set[str]] = {}
    lock = (ROOT / "requirements.lock").read_text()
    for name, pinned in re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, flags=re.MULTILINE):
        versions.setdefault(name, set()).add(pinned)
    return versions


RUNTIME = requirements("requirements.txt")
DEVELOPMENT = requirements("requirements-dev.txt")
FORMATS = requirements("requirements-formats.txt")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", [name for name in RUNTIME | DEVELOPMENT if name not in PROGRAMS + STUBS])
def test_required_packages_can_be_imported(name):
    importlib.import_module(MODULES.get(name, name))


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_required_programs_start(program, tmp_path):
    """The Kaggle client writes into the home folder, so it gets another one."""
    command = [str(Path(sys.executable).with_name(program)), "--version"]
    env = {"HOME": str(tmp_path), "KAGGLE_USERNAME": "nobody", "KAGGLE_KEY": "none", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+\.\d+", done.stdout)


def test_only_one_opencv_is_installed():
    """Two OpenCV wheels overwrite the same cv2 folder."""
    names = {(each.metadata["Name"] or "").lower() for each in distributions()}
    assert [name for name in names if name.startswith("opencv")] == ["opencv-python-headless"]


def test_requirements_have_bounds_and_stand_in_one_file():
    assert len(RUNTIME) > 15
    assert not RUNTIME.keys() & DEVELOPMENT.keys()
    for name, bounds in (RUNTIME | DEVELOPMENT).items():
        assert re.fullmatch(r"==[\d.]+|>=[\d.]+,<[\d.]+", bounds) or (not bounds and name in FORMATS), f"{name}{bounds}"


def test_development_requirements_include_the_others():
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()


def test_lock_pins_every_requirement_with_hashes():
    lock = (ROOT / "requirements.lock").read_text()
    assert RUNTIME.keys() | DEVELOPMENT.keys() <= locked_versions().keys()
    assert "https://" not in lock, "the lock must work with any index"
    pins = re.split(r"^(?=[a-z])", lock, flags=re.MULTILINE)[1:]
    assert len(pins) >= len(locked_versions())
    assert all("\n    --hash=sha256:" in pin for pin in pins)


def test_lock_is_made_from_the_development_requirements():
    assert "requirements-dev.txt -o requirements.lock" in (ROOT / "requirements.lock").read_text()[:400]
    lock_rule = re.search(r"^lock:.*\n(?:\t.*\n)+", (ROOT / "tests" / "tools.mk").read_text(), flags=re.MULTILINE)
    assert lock_rule
    assert "requirements-dev.txt -o requirements.lock" in lock_rule[0]


@pytest.mark.parametrize("name", sorted(RUNTIME | DEVELOPMENT))
def test_installed_versions_are_locked(name):
    assert version(name) in locked_versions()[name]


def test_package_takes_its_dependencies_from_the_requirements():
    settings = project()
    assert settings["project"]["dynamic"] == ["dependencies"]
    assert "dependencies" not in settings["project"]
    assert "optional-dependencies" not in settings["project"]
    assert settings["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}


def test_python_bound_is_the_same_everywhere():
    settings = project()
    assert settings["project"]["requires-python"] == ">=3.11"
    assert settings["tool"]["ruff"]["target-version"] == "py311"
    assert settings["tool"]["mypy"]["python_version"] == "3.11"
    assert 'python-version: "3.11"' in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_package_has_no_console_command():
    assert not {"scripts", "gui-scripts", "entry-points"} & project()["project"].keys()


def test_version_and_license_agree():
    metadata = project()["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {metadata['version']}\n" in citation
    assert metadata["license"] == "MIT"
    assert "\nlicense: MIT\n" in citation
    license_text = (ROOT / "LICENSE").read_text()
    assert license_text.startswith("MIT License\n")
    assert "weights/*.safetensors" in license_text
    assert metadata["version"] in (ROOT / "CHANGELOG.md").read_text()


def test_checks_run_the_same_commands_everywhere():
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    assert run[-2:] == ["make lint", "make test"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.findall(r"run: (.+)", workflow) == ["make setup", "make lint", "make test"]
    hooks = re.findall(r"entry: make (\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "tests" / "tools.mk").read_text(), flags=re.MULTILINE)
    assert set(hooks) == {"lint", "test-fast"} <= set(targets)
