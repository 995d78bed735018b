"""Download the data of a competition, then check it."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.competition import Competition
from pipeline.data.check import check_data, format_findings, has_errors
from pipeline.kaggle.client import RetryPolicy
from pipeline.kaggle.download import download_competition
from pipeline.kaggle.records import DownloadRecords


@dataclass(frozen=True)
class DownloadResult:
    """Result of `download_and_check`."""

    downloaded: list[str]
    """Names of the files that were not complete before."""
    passed: bool
    """Whether the data has no errors."""
    description: str
    """Text for the user."""


def download_and_check(competition: Competition, data: Path, retry: RetryPolicy | None = None) -> DownloadResult:
    """Download what is missing, then check the data unless it was checked after the last download.

    Args:
        competition: its slug, its list of files and what it promises about them.
        data: the data folder.
        retry: time limits and attempts of the client.

    Raises:
        UserError: as `download_competition`.
    """
    downloaded = download_competition(competition, data, retry)
    marker = DownloadRecords(data).checked_marker
    if not downloaded and marker.exists():
        return DownloadResult([], True, f"{data}: everything is downloaded and checked")
    marker.unlink(missing_ok=True)
    findings = check_data(competition, data)
    passed = not has_errors(findings)
    if passed:
        marker.touch()
    lines = [f"{data}: downloaded {', '.join(downloaded)}"] if downloaded else []
    return DownloadResult(downloaded, passed, "\n".join([*lines, format_findings(findings, data)]))
