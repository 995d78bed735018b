"""The competition's files, as Kaggle would offer them, made from a data folder; and how uploads are scored."""

import zipfile
from pathlib import Path

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.submission.check import expected_shapes
from pipeline.submission.score import score_submission
from tests.standin.world import Scorer


def pack(competition: Competition, data: Path, folder: Path, broken: bytes | None = None) -> dict[str, Path]:
    """Write into `folder` every file of `competition.download` whose content lies in `data`; names to paths.

    A loose file that also belongs to an archive goes into that archive as `broken`, if that is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    offered: dict[str, Path] = {}
    assert competition.download is not None
    loose = {file.to for file in competition.download.files if not file.name.endswith(".zip")}
    for file in competition.download.files:
        source, target = data / file.to, folder / file.name
        if not source.exists():
            continue
        offered[file.name] = target
        if file.to in loose:
            target.write_bytes(source.read_bytes())
            continue
        members = sorted(source.iterdir()) if source.is_dir() else [source]
        # Pictures are packed already; storing them keeps the stand-in's start short.
        method = zipfile.ZIP_STORED if source.is_dir() else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(target, "w", method) as archive:
            for member in members:
                name = member.relative_to(data).as_posix()
                content = broken if broken is not None and name in loose else member.read_bytes()
                archive.writestr(zipfile.ZipInfo(name, (2017, 7, 25, 0, 0, 0)), content, method)
    return offered


def scorer(competition: Competition, data: Path) -> Scorer:
    """Score by the solution in `data`: every fourth image for the public board and the others for the private one."""
    solution = data / str(competition.csv.solution)
    shapes = expected_shapes(competition, data, sample=solution)
    public = set(sorted(shapes)[::4])

    def scores(path: Path) -> tuple[float, float]:
        try:
            dice = score_submission(path, solution, competition, shapes)
        except UserError as error:
            raise ValueError(f"Evaluation Exception: {str(error).removeprefix(f'{path}: ')}") from None
        on_public = dice.index.isin(public)
        return float(dice[on_public].mean()), float(dice[~on_public].mean())

    return scores
