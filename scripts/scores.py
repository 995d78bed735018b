"""Bring the ledger up to date with Kaggle's scores."""

from scripts.common import CompetitionName, run


def main(competition: CompetitionName) -> None:
    """Print all submissions to a competition, with their scores as they are now."""
    from pipeline.competition import load_competition
    from pipeline.kaggle.client import KaggleClient
    from pipeline.kaggle.ledger import refresh_entries, update_ledger
    from pipeline.kaggle.upload import require_slug
    from pipeline.paths import LEDGER

    chosen = load_competition(competition)
    submissions = KaggleClient(require_slug(chosen)).submissions()
    entries = update_ledger(lambda lines: refresh_entries(lines, competition, submissions))
    row = "{:16}  {:28}  {:>8}  {:>8}  {:>8}  {:9}  {}"
    print(row.format("time", "file", "OOF", "public", "private", "status", "message"))
    for entry in entries:
        if entry.competition == competition:
            scores = (entry.oof_dice or "–", entry.public or "–", entry.private or "–")
            print(row.format(entry.time[:16], entry.file[:28], *scores, entry.status, entry.reason or entry.message))
    print(LEDGER)


if __name__ == "__main__":
    run(main)
