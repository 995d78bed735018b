"""A data folder from files that lie somewhere else and may not be written to, such as those mounted into a notebook.

They may be archives, or unpacked already, or one of each; nothing is copied that a link can stand for.
"""

from pathlib import Path

from pipeline.competition import Competition, DownloadFile
from pipeline.errors import UserError
from pipeline.kaggle.archive import BrokenArchiveError, list_members, unpack_members, verify_archive
from pipeline.kaggle.download import UNPACK_WORKERS, required_files


def find_competition_folder(competition: Competition, root: Path) -> Path:
    """The folder below `root` in which a notebook finds the competition; Kaggle has moved it before.

    Raises:
        UserError: there is none; the competition is not attached.
    """
    slug = str(competition.slug)
    for folder in (root / slug, root / "competitions" / slug, *root.glob("*"), *root.glob("*/*")):
        if folder.is_dir() and any(_source(file, folder) for file in required_files(competition)):
            return folder
    raise UserError(root, f"does not hold the files of {competition.slug}", "attach the competition to this notebook")


def link_competition_files(competition: Competition, source: Path, data: Path) -> None:
    """Fill `data` with what the competition reads, by links where `source` has it unpacked; what is there stays.

    Raises:
        UserError: something is missing in `source`, or an archive is not whole.
    """
    files = required_files(competition)
    replaced = {data / file.to: file for file in files if not file.name.endswith(".zip")}
    for file in files:
        target, found = data / file.to, _source(file, source)
        if found is None:
            if target in replaced:
                continue
            raise UserError(source, f"holds neither {file.to} nor {file.name}", "attach the competition again")
        target.parent.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            # A folder of links instead of one link: a replacement is put among them.
            target.mkdir(exist_ok=True)
            for path in found.iterdir():
                if not (target / path.name).exists() and not (
                    target / path.name in replaced and _offered(path, source)
                ):
                    (target / path.name).symlink_to(path)
        elif found.suffix == ".zip":
            try:
                members = list_members(found, target)
                verify_archive(found, UNPACK_WORKERS)
            except BrokenArchiveError as error:
                raise UserError(found, f"is not a whole archive ({error})", "attach the competition again") from None
            kept = [member for member in members if not (member.target in replaced and _offered(member.target, source))]
            unpack_members(found, kept, UNPACK_WORKERS)
        elif not target.exists():
            target.symlink_to(found)


def _source(file: DownloadFile, folder: Path) -> Path | None:
    """Where a file's content lies: unpacked, unpacked into a folder of its own, or still in its archive."""
    to = Path(file.to)
    choices = [folder / to, folder / file.name.removesuffix(".zip") / to.name, folder / file.name]
    if not file.name.endswith(".zip"):
        # The replacement is the loose file, never the one that it replaces.
        choices = [folder / file.name]
    elif (folder / to / to.name).is_dir():
        choices.insert(0, folder / to / to.name)
    return next((path for path in choices if path.exists()), None)


def _offered(path: Path, source: Path) -> bool:
    return (source / path.name).is_file()
