"""Fetch the competition's files from Kaggle, unpack them, check them."""

from scripts.common import CompetitionName, DataFolder, run


def main(competition: CompetitionName, data: DataFolder) -> None:
    """Bring what is missing, and check it; the same command goes on where it was stopped."""
    from pipeline.competition import load_competition
    from pipeline.kaggle.download import checked_marker, download_competition
    from scripts import check

    chosen = load_competition(competition)
    fetched = download_competition(chosen, data)
    if not fetched and checked_marker(data).exists():
        print(f"{data}: everything is there and checked")
        return
    checked_marker(data).unlink(missing_ok=True)
    if fetched:
        print(f"{data}: {', '.join(fetched)}")
    try:
        check.main(competition, data)
    except SystemExit as ended:
        if ended.code:
            raise
    checked_marker(data).touch()


if __name__ == "__main__":
    run(main)
