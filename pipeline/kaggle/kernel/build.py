"""A folder that `kaggle kernels push` takes: this pipeline as it is, for Kaggle's own GPUs, without internet."""

import base64
import importlib.util
import io
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import tomli_w

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.host import git_commit
from pipeline.kaggle.upload import require_slug
from pipeline.paths import run_name
from pipeline.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
MAIN = Path(__file__).with_name("kernel_main.py")

MINUTES = 675.0
"""Of the 720 that a run may take: the rest is for unpacking 8 GB, for the step and the batch that are under way, and
for saving the output."""

_SOURCE = ("pipeline", "scripts")
_PACKAGES = ("segmentation_models_pytorch", "tomli_w")
"""Needs of ours that Kaggle's image does not promise to have, and that are nothing but Python."""
_SIMPLEJPEG = Path(__file__).with_name("kernel_simplejpeg.py")
_LINE = 100


def write_kernel(
    competition: Competition,
    recipe: Recipe,
    folder: Path,
    user: str,
    *,
    folds: Sequence[int] | None = None,
    minutes: float = MINUTES,
    resume: bool = False,
    datasets: Sequence[str] = (),
) -> Path:
    """Write `kernel-metadata.json` and the one code file.

    Args:
        competition: is attached to the kernel.
        recipe: by which it trains.
        folder: is created; its two files are replaced.
        user: the account's name on Kaggle.
        folds: which to train; None trains all.
        minutes: after which it stops with all state kept.
        resume: attach the output of the kernel's last version; there must be one.
        datasets: further datasets to attach, such as one of wheels: owner/name.

    Returns:
        The folder.

    Raises:
        UserError: the competition is not Kaggle's, or a name is none that Kaggle takes.
    """
    slug = require_slug(competition)
    name = run_name(competition.name, recipe.name)
    # Kaggle makes the address from the title, and wants them to agree.
    title = re.sub(r"[^a-z0-9]+", " ", f"{name} pipeline".lower()).strip()
    address = f"{user}/{title.replace(' ', '-')}"
    if not re.fullmatch(r"[A-Za-z0-9-]+", user):
        raise UserError("", f"{user!r} is no account on Kaggle", "give the name that stands in your profile's address")
    if len(title) > 50:
        raise UserError(
            "", f"the title {title!r} is longer than the 50 characters that Kaggle takes", "rename the recipe"
        )
    settings = {
        "competition": competition.name,
        "recipe": recipe.name,
        "name": name,
        "folds": list(range(competition.folds) if folds is None else folds),
        "minutes": minutes,
        "commit": git_commit(),
    }
    metadata = {
        "id": address,
        "title": title,
        "code_file": "kernel.py",
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": False,
        # Two T4. The other choice, one P100, has no kernels in the image's own torch any more.
        "machine_shape": "NvidiaTeslaT4",
        "competition_sources": [slug],
        "dataset_sources": list(datasets),
        "kernel_sources": [address] if resume else [],
        "model_sources": [],
    }
    code = MAIN.read_text(encoding="utf-8")
    code = code.replace('PACKED = ""', f'PACKED = """\n{_pack(competition, recipe)}\n"""', 1)
    code = code.replace('SETTINGS = "{}"', f"SETTINGS = {json.dumps(json.dumps(settings))}", 1)
    write_text(folder / "kernel.py", code)
    write_text(folder / "kernel-metadata.json", json.dumps(metadata, indent=2) + "\n")
    return folder


def _pack(competition: Competition, recipe: Recipe) -> str:
    """The source, the two settings as they are resolved here, and the spare packages, as text."""
    files = {path.relative_to(ROOT).as_posix(): path for folder in _SOURCE for path in (ROOT / folder).rglob("*.py")}
    # The same split as here, where there is one, so that folds trained here and there go together.
    split = Path("folds") / f"{competition.name}.csv"
    if split.exists():
        files[split.as_posix()] = split
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise UserError("", f"{name} is not installed here", "run make setup")
        package = Path(next(iter(spec.submodule_search_locations)))
        files |= {f"spare/{name}/{path.relative_to(package.parent)}": path for path in package.rglob("*.py")}
    files["spare/simplejpeg/simplejpeg.py"] = _SIMPLEJPEG
    contents = {inside: path.read_bytes() for inside, path in files.items()}
    for folder, settings in (("competitions", competition), ("recipes", recipe)):
        text = tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
        contents[f"{folder}/{settings.name}.toml"] = text.encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as packed:
        for inside, content in sorted(contents.items()):
            # Without times and owners: the same source gives the same file, and tells nothing else.
            entry = tarfile.TarInfo(inside)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    text = base64.b85encode(buffer.getvalue()).decode()
    return "\n".join(text[start : start + _LINE] for start in range(0, len(text), _LINE))
