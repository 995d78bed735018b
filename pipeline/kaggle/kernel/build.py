"""Write a folder for ``kaggle kernels push``: the pipeline in one code file, for Kaggle's GPUs without internet."""

import base64
import importlib.util
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import tomli_w

from pipeline import paths
from pipeline.competition import Competition
from pipeline.config import Config
from pipeline.data.corrections import correction_files
from pipeline.errors import UserError
from pipeline.evaluation.oof import require_trained
from pipeline.files import write_text
from pipeline.host import git_commit
from pipeline.kaggle.client import require_slug
from pipeline.kaggle.kernel.runner import KernelSettings
from pipeline.recipe import Recipe, ensemble_name
from pipeline.training.fold_data import require_no_second_stage

DEFAULT_MINUTES = 675.0
"""Minutes of a training kernel; Kaggle allows 720. The rest is for unpacking 8 GB, for the step and the batch that are
under way at the deadline, and for saving the output."""
INFERENCE_SHARE = 0.9
"""Fraction of a notebook's time limit after which an inference kernel stops predicting."""
DEFAULT_INFERENCE_MINUTES = 540.0
"""Time limit of most code competitions, for a competition whose file states none."""

_ROOT = Path(__file__).resolve().parents[3]
_MAIN = Path(__file__).with_name("main.py")
_SOURCE_FOLDERS = ("pipeline", "scripts")
_PURE_PACKAGES = ("segmentation_models_pytorch", "tomli_w")
"""Pure Python packages that the pipeline needs and Kaggle's image may lack."""
_FALLBACK_FILES = {
    "simplejpeg/simplejpeg.py": "simplejpeg_fallback.py",
    "isal/isal/__init__.py": "__init__.py",
    "isal/isal/igzip.py": "isal_fallback.py",
    "isal/isal/igzip_lib.py": "isal_fallback.py",
}
"""File in the pack -> file in this folder, for packages with compiled parts."""
_MAX_TITLE = 50
_MAX_CODE = 1_000_000
"""Characters of a code file that Kaggle refuses, as users of its interface have reported."""
_LINE_LENGTH = 100


def write_kernel(
    competition: Competition,
    recipes: Sequence[Recipe],
    folder: Path,
    user: str,
    *,
    folds: Sequence[int] | None = None,
    minutes: float | None = None,
    predict: bool = False,
    resume: bool = False,
    datasets: Sequence[str] = (),
) -> list[Path]:
    """Write ``kernel.py`` and ``kernel-metadata.json``.

    Args:
        competition: the competition to attach.
        recipes: the recipe to train, or the recipes to predict with.
        folder: created if missing; its two files are replaced.
        user: the account's name on Kaggle.
        folds: the folds to train or to predict with; all if None.
        minutes: when to stop: of a training 675 by default, of a prediction 90 % of the competition's limit.
        predict: write an inference kernel; `datasets` must contain that of the weights.
        resume: attach the output of the kernel's previous version, which must exist.
        datasets: other datasets to attach, as ``owner/name``; their wheels are installed.

    Returns:
        The two files.

    Raises:
        UserError: the competition has no slug, Kaggle does not accept a name or would not accept the length of the
            code, a recipe needs files that a kernel does not have, or the weights to predict with are of another one.
    """
    for recipe in recipes:
        require_no_second_stage(competition, recipe)
        if not predict:
            _require_no_other_files(recipe)
            continue
        for fold in range(competition.folds) if folds is None else folds:
            require_trained(paths.fold_run(paths.runs_folder(competition.name, recipe.name), fold), recipe)
    name = ensemble_name(recipes)
    title = _kernel_title(paths.run_name(competition.name, name), "inference" if predict else "pipeline")
    settings = KernelSettings(
        competition=competition.name,
        recipe=name,
        folds=list(range(competition.folds) if folds is None else folds),
        minutes=minutes or (_inference_minutes(competition) if predict else DEFAULT_MINUTES),
        commit=git_commit(),
        predict=predict,
    )
    address = f"{_require_account(user)}/{title.replace(' ', '-')}"
    metadata = {
        "id": address,
        "title": title,
        "code_file": "kernel.py",
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": False,
        # Two T4. The alternative is one P100, for which the image's torch has no kernels any more.
        "machine_shape": "NvidiaTeslaT4",
        "competition_sources": [require_slug(competition)],
        "dataset_sources": list(datasets),
        "kernel_sources": [address] if resume else [],
        "model_sources": [],
    }
    code = _MAIN.read_text(encoding="utf-8")
    code = code.replace('PACKED = ""', f'PACKED = """\n{_pack(_collect_files(competition, recipes))}\n"""', 1)
    code = code.replace('SETTINGS = "{}"', f"SETTINGS = {json.dumps(json.dumps(asdict(settings)))}", 1)
    if len(code) >= _MAX_CODE:
        what = f"would have {len(code) / 1e6:.2f} MB, and Kaggle accepts less than {_MAX_CODE / 1e6:g}"
        fix = f"leave {paths.folds_csv(competition.name)} or repaired masks out, or train elsewhere"
        raise UserError(folder / "kernel.py", what, fix)
    files = [folder / "kernel-metadata.json", folder / "kernel.py"]
    for path, text in zip(files, (json.dumps(metadata, indent=2) + "\n", code), strict=True):
        write_text(path, text)
    return files


def _require_no_other_files(recipe: Recipe) -> None:
    """Refuse a training that needs files that are not packed."""
    key = "train.pseudo" if recipe.train.pseudo else None
    for network in filter(None, (recipe.network, recipe.refine and recipe.refine.network)):
        if getattr(network, "encoder_weights", None):
            key = "network.encoder_weights"
    if key:
        raise UserError(key, "names a file that a kernel does not have", "train this recipe elsewhere")


def _inference_minutes(competition: Competition) -> float:
    limit = competition.notebook.minutes if competition.notebook else DEFAULT_INFERENCE_MINUTES
    return INFERENCE_SHARE * limit


def _kernel_title(name: str, kind: str) -> str:
    """Return a title from which Kaggle makes the same address as `write_kernel`."""
    title = re.sub(r"[^a-z0-9]+", " ", f"{name} {kind}".lower()).strip()
    if len(title) > _MAX_TITLE:
        what = f"gives the kernel a title of {len(title)} characters, and Kaggle accepts {_MAX_TITLE}"
        raise UserError(f"'{name}'", what, "shorten the name of the recipe")
    return title


def _require_account(user: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+", user):
        raise UserError(f"--user '{user}'", "is not a name of a Kaggle account", "copy it from your profile's address")
    return user


def _collect_files(competition: Competition, recipes: Sequence[Recipe]) -> dict[str, bytes]:
    """Return what is packed, by path: source, resolved configuration, table of folds and fallback packages."""
    files = {path.relative_to(_ROOT): path for name in _SOURCE_FOLDERS for path in (_ROOT / name).rglob("*.py")}
    # With the same folds, runs of this machine and of Kaggle fit together.
    folds_csv = paths.folds_csv(competition.name)
    if folds_csv.exists():
        files[folds_csv] = folds_csv
    fallback = Path("fallback")
    for name in _PURE_PACKAGES:
        package = _package_folder(name)
        files |= {fallback / name / path.relative_to(package.parent): path for path in package.rglob("*.py")}
    files |= {fallback / inside: Path(__file__).with_name(name) for inside, name in _FALLBACK_FILES.items()}
    files |= {path: path for path in correction_files(competition)}
    contents = {inside.as_posix(): path.read_bytes() for inside, path in files.items()}
    contents[paths.competition_toml(competition.name).as_posix()] = _to_toml(competition)
    for recipe in recipes:
        contents[paths.recipe_toml(recipe.name).as_posix()] = _to_toml(recipe)
    return contents


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(name, "is not installed", "run make setup")
    return Path(next(iter(spec.submodule_search_locations)))


def _to_toml(config: Config) -> bytes:
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)).encode()


def _pack(contents: Mapping[str, bytes]) -> str:
    """Pack files as lines of base85 text.

    Times and owners are left out: the same content gives the same text, and the text tells nothing about the machine.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as packed:
        for inside, content in sorted(contents.items()):
            entry = tarfile.TarInfo(inside)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    text = base64.b85encode(buffer.getvalue()).decode()
    return "\n".join(text[start : start + _LINE_LENGTH] for start in range(0, len(text), _LINE_LENGTH))
