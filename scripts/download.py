"""Fetch the competition's files from Kaggle, unpack them, check them."""

from scripts.common import CompetitionName, DataFolder, run


def main(competition: CompetitionName, data: DataFolder) -> None:
    """Bring what is missing, and check it; the same command goes on where it was stopped."""
    from pipeline import competition as competitions
    from pipeline.submission.download import checked, download
    from scripts import check

    chosen = competitions.load(competition)
    fetched = download(chosen, data)
    if not fetched and checked(data).exists():
        print(f"{data}: everything is there and checked")
        return
    checked(data).unlink(missing_ok=True)
    if fetched:
        print(f"{data}: {', '.join(fetched)}")
    try:
        check.main(competition, data)
    except SystemExit as ended:
        if ended.code:
            raise
    checked(data).touch()


if __name__ == "__main__":
    run(main)
