"""Update the ledger with Kaggle's scores."""

from scripts.common import CompetitionOption, run


def main(competition: CompetitionOption) -> None:
    """Print all submissions of a competition with their current scores."""
    from pipeline.competition import load_competition
    from pipeline.kaggle.scores import describe_scores

    print(describe_scores(load_competition(competition)))


if __name__ == "__main__":
    run(main, results=True)
