"""Check the data: every image, mask and CSV."""

import sys

from scripts.common import CompetitionOption, DataOption, run


def main(competition: CompetitionOption, data: DataOption = "") -> None:
    """Print all findings as a table; exit code 1 if one is an error."""
    from pipeline.competition import load_competition
    from pipeline.data.check import check_data, format_findings, has_errors
    from pipeline.options import parse_data

    folder = parse_data(data, competition)
    findings = check_data(load_competition(competition), folder)
    print(format_findings(findings, folder))
    sys.exit(1 if has_errors(findings) else 0)


if __name__ == "__main__":
    run(main)
