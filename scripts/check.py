"""Check the data: every image, mask and CSV."""

import sys

from scripts.common import CompetitionName, DataFolder, run


def main(competition: CompetitionName, data: DataFolder) -> None:
    """Print all findings as a table; exit code 1 if one is an error."""
    from pipeline.competition import load_competition
    from pipeline.data.check import check_data

    findings = check_data(load_competition(competition), data)
    width = max((len(finding.file) for finding in findings), default=0)
    for finding in findings:
        print(f"{finding.level:7}  {finding.file:{width}}  {finding.what}; {finding.fix}")
    errors = sum(finding.level == "error" for finding in findings)
    print(f"{data}: {errors:,} errors, {len(findings) - errors:,} warnings")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    run(main)
