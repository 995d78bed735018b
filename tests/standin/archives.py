"""Make the competition's files, as Kaggle offers them, from a data folder, and score uploads with its solution."""

import zipfile
from pathlib import Path

from pipeline.competition import Competition
from pipeline.errors import UserError
from pipeline.submission.score import score_submission
from pipeline.submission.shapes import expected_shapes
from tests.standin.backend import Scorer


def pack_files(
    competition: Competition, data: Path, folder: Path, replaced_content: bytes | None = None
) -> dict[str, Path]:
    """Write every file of ``[download]`` whose content is in the data folder.

    Args:
        competition: its list of files.
        data: the data folder.
        folder: where the files go.
        replaced_content: what the archives contain in place of files that are also offered separately; their true
            content if None.

    Returns:
        The files by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    offered: dict[str, Path] = {}
    assert competition.download is not None
    separate = {file.to for file in competition.download.files if not file.name.endswith(".zip")}
    for file in competition.download.files:
        source, target = data / file.to, folder / file.name
        if not source.exists():
            continue
        offered[file.name] = target
        if file.to in separate:
            target.write_bytes(source.read_bytes())
            continue
        members = sorted(source.iterdir()) if source.is_dir() else [source]
        # Images are compressed already; storing them makes the stand-in start faster.
        method = zipfile.ZIP_STORED if source.is_dir() else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(target, "w", method) as archive:
            for member in members:
                name = member.relative_to(data).as_posix()
                replace = replaced_content is not None and name in separate
                content = replaced_content if replace else member.read_bytes()
                archive.writestr(zipfile.ZipInfo(name, (2017, 7, 25, 0, 0, 0)), content or b"", method)
    return offered


def make_scorer(competition: Competition, data: Path) -> Scorer:
    """Return a function that scores a file: every fourth image for the public score, the others for the private one.

    Args:
        competition: names the solution.
        data: the data folder.
    """
    solution = data / str(competition.csv.solution)
    shapes = expected_shapes(competition, data, sample=solution)
    public = set(sorted(id for id, _ in shapes)[::4])

    def score(path: Path) -> tuple[float, float]:
        try:
            scores = score_submission(path, solution, competition, shapes)
        except UserError as error:
            raise ValueError(f"Evaluation Exception: {error.what}") from None
        is_public = scores.id.isin(public)
        return float(scores.score[is_public].mean()), float(scores.score[~is_public].mean())

    return score
