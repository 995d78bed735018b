"""Download the competition's files from Kaggle, unpack them and check them."""

import sys

from scripts.common import CompetitionOption, DataOption, run


def main(competition: CompetitionOption, data: DataOption = "") -> None:
    """Download what is missing and check it; exit code 1 if the data has errors. The same command resumes."""
    from pipeline.competition import load_competition
    from pipeline.kaggle.checked_download import download_and_check
    from pipeline.options import parse_data

    result = download_and_check(load_competition(competition), parse_data(data, competition))
    print(result.description)
    sys.exit(0 if result.passed else 1)


if __name__ == "__main__":
    run(main)
