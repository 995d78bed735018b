"""Paths of all files: the only module that contains the path of a run, fold, weights file or submission.

::

    data/<competition>/                      the competition's files
    folds/<competition>.csv                  the fold of every training image
    runs/<competition>-<recipe>/             fold0/ fold1/ ... foldall/  evaluation.json analysis.json
                                             oof.csv oof_masks.csv.gz worst.jpg
    runs/<competition>-<recipe>/fold0/       recipe.toml split.txt metrics.jsonl samples/ events* weights.safetensors
    runs/<competition>-<a>+<b>/              evaluation.json ... of an ensemble of two recipes; no runs of its own
    submissions/<competition>-<recipe>.csv.gz   and .json: how it was made, .doubts.csv: how sure its masks are
    reports/<competition>-<recipe>/          index.html, and images/ of a report with all images
    pseudo/<competition>-<recipe>/fold0.csv  masks predicted for unlabeled images, and .json: how they were made
    weights/<competition>-*.safetensors      weights that come with the repository

Standard library only: the Makefile uses it before anything is installed.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pipeline.errors import UserError

COMPETITIONS = Path("competitions")
RECIPES = Path("recipes")
DATA = Path("data")
DATA_MIRRORS = DATA / ".mirrors"
STORE_STATE = Path(".make") / "store.json"
FOLDS = Path("folds")
RUNS = Path("runs")
SUBMISSIONS = Path("submissions")
LEDGER = SUBMISSIONS / "ledger.csv"
OVERLAYS = Path("overlays")
KERNELS = Path("kernels")
REPORTS = Path("reports")
PSEUDO = Path("pseudo")
SHIPPED_WEIGHTS = Path("weights")
LABEL_CACHE = Path(".label_cache")

ALL: Final = "all"
Fold = int | Literal["all"]
"""The number of the fold that a run validates on, or "all": it trains on every image and validates on none."""

_CSV_SUFFIXES = (".csv.gz", ".csv")


def parse_fold(text: str) -> Fold:
    """Convert ``"0"`` to 0 and keep ``"all"``.

    Raises:
        UserError: any other text.
    """
    if text == ALL:
        return ALL
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"fold '{text}'", "is neither a number nor 'all'", "give a fold such as 0")
    return int(text)


def run_name(competition: str, recipe: str) -> str:
    """Return ``<competition>-<recipe>``, or the name once if both are the same."""
    return recipe if competition == recipe else f"{competition}-{recipe}"


def competition_toml(competition: str) -> Path:
    """Return ``competitions/<competition>.toml``."""
    return COMPETITIONS / f"{competition}.toml"


def recipe_toml(recipe: str) -> Path:
    """Return ``recipes/<recipe>.toml``."""
    return RECIPES / f"{recipe}.toml"


def data_folder(competition: str) -> Path:
    """Return the default data folder, ``data/<competition>``."""
    return DATA / competition


def partial_sample(data: Path) -> Path:
    """Return the file that marks a data folder whose sample submission names a part of the test images on purpose."""
    return data / ".partial-sample"


def label_cache(competition: str) -> Path:
    """Return the folder of merged masks, ``.label_cache/<competition>``; it may be deleted at any time."""
    return LABEL_CACHE / competition


def folds_csv(competition: str) -> Path:
    """Return ``folds/<competition>.csv``."""
    return FOLDS / f"{competition}.csv"


def runs_folder(competition: str, recipe: str) -> Path:
    """Return the folder of a recipe's runs, or of an ensemble's evaluation."""
    return RUNS / run_name(competition, recipe)


def runs_folders(competition: str, recipe: str, given: Path | None = None) -> list[Path]:
    """Return the runs folder of each recipe of ``cpu+baseline``, or `given` for a single recipe.

    Raises:
        UserError: one folder is given for several recipes.
    """
    names = recipe.split("+")
    if given is None:
        return [runs_folder(competition, name) for name in names]
    if len(names) > 1:
        raise UserError(given, f"is one folder for {len(names)} recipes, {recipe}", "give no folder")
    return [given]


@dataclass(frozen=True)
class Run:
    """The folder of one run (the training of one fold) and the files in it."""

    folder: Path

    @property
    def weights(self) -> Path:
        """The final weights; the file exists once the training is finished."""
        return self.folder / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The state from which an unfinished training resumes."""
        return self.folder / "checkpoint.pt"

    @property
    def coarse(self) -> "Run":
        """The run of the first stage, ``fold0-coarse``, if the recipe has a second one."""
        return Run(self.folder.with_name(f"{self.folder.name}-coarse"))

    @property
    def tiles(self) -> Path:
        """Folder of the training tiles of the second stage, below ``TILES`` if this is set; deleted at the end."""
        if not (root := os.environ.get("TILES")):
            return self.folder / "tiles"
        folder = self.folder.absolute()
        unique = hashlib.sha256(str(folder).encode()).hexdigest()[:8]  # several copies of the project may share a disk
        return Path(root) / "-".join([*folder.parts[-2:], unique])

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.folder / "recipe.toml"

    @property
    def split(self) -> Path:
        """Fingerprints of the training and validation ids."""
        return self.folder / "split.txt"

    @property
    def lock(self) -> Path:
        """The file that a training locks, next to the folder, which may be renamed."""
        return self.folder.with_name(f".{self.folder.name}.lock")

    @property
    def metrics(self) -> Path:
        """One JSON object per epoch."""
        return self.folder / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Folder of validation predictions as images, one file per validation."""
        return self.folder / "samples"

    def set_aside(self) -> Path:
        """Rename the folder to the first free ``fold0~1``, ``fold0~2``, ... and return the new path."""
        number = 1
        while (target := self.folder.with_name(f"{self.folder.name}~{number}")).exists():
            number += 1
        return self.folder.rename(target)


def fold_run(runs: Path, fold: Fold) -> Run:
    """Return the run of a fold in a runs folder: ``fold0``, or ``foldall`` for the fold "all"."""
    return Run(runs / f"fold{fold}")


def evaluation_json(runs: Path) -> Path:
    """Return the file of the out-of-fold evaluation in a runs folder."""
    return runs / "evaluation.json"


def overrides_json(runs: Path) -> Path:
    """Return the file of the overrides, SET and SEED, of the last training in a runs folder."""
    return runs / ".options"


def oof_csv(runs: Path) -> Path:
    """Return the table of out-of-fold scores, one row per image, in a runs folder."""
    return runs / "oof.csv"


def oof_masks_csv(runs: Path) -> Path:
    """Return the masks of the out-of-fold predictions, in the format of a submission, in a runs folder."""
    return runs / "oof_masks.csv.gz"


def analysis_json(runs: Path) -> Path:
    """Return the curves of the out-of-fold evaluation in a runs folder."""
    return runs / "analysis.json"


def worst_jpg(runs: Path) -> Path:
    """Return the drawing of the worst validation images in a runs folder."""
    return runs / "worst.jpg"


def submission_csv(competition: str, recipe: str) -> Path:
    """Return ``submissions/<competition>-<recipe>.csv.gz``."""
    return SUBMISSIONS / f"{run_name(competition, recipe)}.csv.gz"


def submission_metadata(submission: Path) -> Path:
    """Return the JSON file about the origin of a submission: ``x.csv.gz`` and ``x.csv`` -> ``x.json``."""
    name = next((submission.name.removesuffix(end) for end in _CSV_SUFFIXES if submission.name.endswith(end)), None)
    return submission.with_name(f"{submission.name if name is None else name}.json")


def submission_doubts(submission: Path) -> Path:
    """Return the table of how much of each mask is in doubt: ``x.csv.gz`` and ``x.csv`` -> ``x.doubts.csv``."""
    return submission_metadata(submission).with_suffix(".doubts.csv")


def rejected_submission(submission: Path) -> Path:
    """Return where a submission lies until its check has passed."""
    return submission.with_name(f"rejected-{submission.name}")


def submission_spool(submission: Path) -> Path:
    """Return where finished rows lie until the submission is complete."""
    return submission.with_name(f".{submission.name}.rows")


def submission_part(submission: Path, number: int, count: int) -> Path:
    """Return the rows of part `number` (from 1) of `count`: ``x.csv.gz`` -> ``x.part-3-of-16.rows``."""
    return submission_metadata(submission).with_suffix(f".part-{number}-of-{count}.rows")


def find_submission_parts(submission: Path) -> list[tuple[int, int]]:
    """List (number, count) of the parts of a submission that exist."""
    start = submission_metadata(submission).stem + ".part-"
    names = [path.name for path in submission.parent.glob("*.rows") if path.name.startswith(start)]
    fields = [name[len(start) : -len(".rows")].partition("-of-") for name in names]
    return [(int(number), int(count)) for number, _, count in fields]


def submission_lock(submission: Path) -> Path:
    """Return the lock file of a prediction, which exists while the prediction runs."""
    return submission.with_name(f".{submission.name}.lock")


def pseudo_csv(competition: str, recipe: str, fold: Fold | Literal["*"]) -> Path:
    """Return the pseudo-labels of a fold, ``pseudo/<competition>-<recipe>/fold0.csv``; a JSON file lies beside it.

    "*" gives the pattern of those of all folds.
    """
    return PSEUDO / run_name(competition, recipe) / f"fold{fold}.csv"


def exported_model(competition: str, recipe: str) -> Path:
    """Return ``exports/<competition>-<recipe>.onnx``; the other files of an export have other suffixes."""
    return Path("exports") / f"{run_name(competition, recipe)}.onnx"


def gpu_lock(device: str) -> Path:
    """Return the lock file of a GPU, ``.make/gpu0.lock``."""
    return Path(".make") / f"gpu{device}.lock"


def report_folder(name: str) -> Path:
    """Return ``reports/<name>``, the folder of a page ``index.html``; two names are joined with ``-vs-``."""
    return REPORTS / name


def kernel_folder(competition: str, recipe: str) -> Path:
    """Return the folder that ``kaggle kernels push`` takes."""
    return KERNELS / run_name(competition, recipe)


def inference_kernel_folder(competition: str, recipe: str) -> Path:
    """Return the folder of an inference kernel for ``kaggle kernels push``."""
    return KERNELS / f"{run_name(competition, recipe)}-inference"


def weights_dataset_folder(competition: str, recipe: str) -> Path:
    """Return the folder of the weights for ``kaggle datasets create``."""
    return KERNELS / f"{run_name(competition, recipe)}-weights"
