"""Pack weights for an inference notebook as a Kaggle dataset, and restore them there.

A dataset is a flat folder, because Kaggle drops empty folders and unpacks archives; a manifest maps its files to their
paths in the repository.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline import paths
from pipeline.errors import UserError
from pipeline.files import atomic_write, write_text
from pipeline.kaggle.kernel.previous_version import find_in_inputs
from pipeline.stages import split_recipe_names

MANIFEST = "pipeline-files.json"
"""File of the dataset: flat name -> path in the repository."""
METADATA = "dataset-metadata.json"
_MAX_TITLE = 50


def write_weights_dataset(
    competition: str, recipe: str, folds: Sequence[int], folder: Path, user: str, wheels: Sequence[Path] = ()
) -> str:
    """Write a folder for ``kaggle datasets create``: weights, the evaluation, wheels and their manifest.

    Args:
        competition: name of the competition.
        recipe: name of a recipe, or several joined by ``+``.
        folds: the folds whose weights are packed.
        folder: replaced.
        user: the account's name on Kaggle.
        wheels: wheels of packages that Kaggle's image lacks.

    Returns:
        The dataset's address, ``user/name``.

    Raises:
        UserError: a fold is not trained, a wheel does not exist, or Kaggle would not accept the title.
    """
    files = [weights for name in split_recipe_names(recipe) for weights in _weights_files(competition, name, folds)]
    evaluation = paths.evaluation_json(paths.runs_folder(competition, recipe))
    files += [evaluation] if evaluation.exists() else []
    title = f"{re.sub('[^a-z0-9]+', ' ', paths.run_name(competition, recipe).lower()).strip()} weights"
    if len(title) > _MAX_TITLE:
        what = f"gives the dataset a title of {len(title)} characters, and Kaggle accepts {_MAX_TITLE}"
        raise UserError(f"'{recipe}'", what, "shorten the name of the recipe")
    missing = next((wheel for wheel in wheels if not wheel.is_file()), None)
    if missing is not None:
        raise UserError(missing, "no such file", "download it with `pip download --no-deps`")
    shutil.rmtree(folder, ignore_errors=True)
    manifest = {re.sub("[^A-Za-z0-9.-]+", "_", path.as_posix()): path for path in files}
    for name, path in [*manifest.items(), *((wheel.name, wheel) for wheel in wheels)]:
        with atomic_write(folder / name) as temporary:
            shutil.copyfile(path, temporary)
    write_text(folder / MANIFEST, json.dumps({name: str(path) for name, path in manifest.items()}, indent=1) + "\n")
    address = f"{user}/{title.replace(' ', '-')}"
    metadata = {"title": title, "id": address, "licenses": [{"name": "other"}]}
    write_text(folder / METADATA, json.dumps(metadata, indent=1) + "\n")
    return address


def restore_weights(inputs: Path) -> None:
    """Link the files of the attached dataset to their paths, relative to the current folder.

    Raises:
        UserError: no such dataset is attached, or a file of it is missing.
    """
    manifests = find_in_inputs(inputs, MANIFEST)
    if not manifests:
        raise UserError(inputs, f"no attached dataset has a {MANIFEST}", "attach the dataset with the weights")
    for manifest in manifests:
        for name, target in json.loads(manifest.read_text(encoding="utf-8")).items():
            source, link = manifest.with_name(name), Path(target)
            if not source.exists():
                raise UserError(source, "no such file", "upload the dataset again")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(source)


def _weights_files(competition: str, recipe: str, folds: Sequence[int]) -> list[Path]:
    runs = paths.runs_folder(competition, recipe)
    files = [paths.fold_run(runs, fold).weights for fold in folds]
    for fold, path in zip(folds, files, strict=True):
        if not path.exists():
            raise UserError(path, "no such file", f"run `make train FOLD={fold} RECIPE={recipe}`, or set FOLDS")
    return files
