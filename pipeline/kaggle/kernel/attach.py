"""Build a data folder from read-only files elsewhere, such as a competition that is mounted into a notebook.

The files may be archives, or unpacked, or some of each. Links are used where possible, so nothing is copied.
"""

from pathlib import Path

from pipeline.competition import Competition, DownloadFile
from pipeline.data.patterns import fixed_part
from pipeline.errors import UserError
from pipeline.kaggle.archive import BrokenArchiveError, list_members, unpack_members, verify_archive
from pipeline.kaggle.download import UNPACK_WORKERS, required_files
from pipeline.kaggle.records import is_archive

_ATTACH_AGAIN = "attach the competition again"


def find_competition_folder(competition: Competition, root: Path) -> Path:
    """Find the folder of a competition below `root`. Kaggle has changed this place before, so several are searched.

    Raises:
        UserError: the competition is not attached.
    """
    slug = str(competition.slug)
    for folder in (root / slug, root / "competitions" / slug, *root.glob("*"), *root.glob("*/*")):
        if folder.is_dir() and any(_find_source(file, folder) for file in required_files(competition)):
            return folder
    raise UserError(root, f"does not contain the files of {slug}", "attach the competition to this notebook")


def link_mounted_data(competition: Competition, inputs: Path, data: Path) -> None:
    """Fill `data` with links to the top-level files and folders of a competition that is mounted unpacked.

    Inputs are read-only, and the data folders of several GPUs are made next to `data`.

    Raises:
        UserError: no input has the folder of the test images, or else the sample submission: where the test set is
            hidden, its folder may be missing until the notebook is scored.
    """
    place = fixed_part(str(competition.images.test))
    folders = [folder for depth in ("*", "*/*", "*/*/*") for folder in sorted(inputs.glob(depth))]
    for name in filter(None, (place, competition.csv.sample)):
        for folder in folders:
            if (folder / name).exists():
                data.mkdir(parents=True, exist_ok=True)
                for path in folder.iterdir():
                    if not (data / path.name).exists():
                        (data / path.name).symlink_to(path)
                return
    raise UserError(inputs, f"no input has the folder {place}", "attach the competition to this notebook")


def link_competition_files(competition: Competition, source: Path, data: Path) -> None:
    """Fill `data` with the files that the competition needs; files that exist there stay.

    Args:
        competition: its list of files.
        source: the mounted folder. Unpacked files are linked, archives are unpacked.
        data: the data folder; created if missing.

    Raises:
        UserError: a file is missing in `source`, or an archive is damaged.
    """
    files = required_files(competition)
    replacements = {data / file.to for file in files if not is_archive(file) and _find_source(file, source)}
    for file in files:
        target, found = data / file.to, _find_source(file, source)
        if found is None:
            if is_archive(file):
                raise UserError(source, f"contains neither {file.to} nor {file.name}", _ATTACH_AGAIN)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            _link_folder(found, target, replacements)
        elif found.suffix == ".zip":
            _unpack(found, target, replacements)
        elif not target.exists():
            target.symlink_to(found)


def _link_folder(source: Path, target: Path, replacements: set[Path]) -> None:
    """Link every file of a folder. A link to the folder itself would leave no place for replacements."""
    target.mkdir(exist_ok=True)
    for path in source.iterdir():
        link = target / path.name
        if link not in replacements and not link.exists():
            link.symlink_to(path)


def _unpack(archive: Path, target: Path, replacements: set[Path]) -> None:
    try:
        members = list_members(archive, target)
        verify_archive(archive, UNPACK_WORKERS)
    except BrokenArchiveError as error:
        raise UserError(archive, f"is damaged ({error})", _ATTACH_AGAIN) from None
    unpack_members(archive, [member for member in members if member.target not in replacements], UNPACK_WORKERS)


def _find_source(file: DownloadFile, folder: Path) -> Path | None:
    """Return where the content of a file is: unpacked, unpacked into another folder, or in its archive."""
    if not is_archive(file):
        # Only the loose file is the replacement; `file.to` is the file that it replaces.
        choices = [folder / file.name]
    else:
        to = Path(file.to)
        choices = [folder / to, folder / file.name.removesuffix(".zip") / to.name, folder / file.name]
        if (folder / to / to.name).is_dir():
            choices.insert(0, folder / to / to.name)
    return next((path for path in choices if path.exists()), None)
