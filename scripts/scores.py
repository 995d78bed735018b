"""Bring the ledger up to date with Kaggle's scores."""

from scripts.common import CompetitionName, run


def main(competition: CompetitionName) -> None:
    """Print all submissions to a competition, with their scores as they are now."""
    from pipeline import competition as competitions
    from pipeline.submission import ledger
    from pipeline.submission.kaggle import Kaggle
    from pipeline.submission.submit import require_slug

    chosen = competitions.load(competition)
    submissions = Kaggle(require_slug(chosen)).submissions()
    entries = ledger.update(lambda lines: ledger.refresh(lines, competition, submissions))
    row = "{:16}  {:28}  {:>8}  {:>8}  {:>8}  {:9}  {}"
    print(row.format("time", "file", "OOF", "public", "private", "status", "message"))
    for entry in entries:
        if entry.competition == competition:
            scores = (entry.oof_dice or "–", entry.public or "–", entry.private or "–")
            print(row.format(entry.time[:16], entry.file[:28], *scores, entry.status, entry.reason or entry.message))
    print(ledger.LEDGER)


if __name__ == "__main__":
    run(main)
