"""List the training masks that out-of-fold predictions contradict most."""

from scripts.common import CompetitionOption, DataOption, EnsembleOption, run


def main(competition: CompetitionOption, recipe: EnsembleOption, data: DataOption = "") -> None:
    """Write a table of all masks and a contact sheet of the most suspicious ones; print their paths."""
    from pipeline.competition import load_competition
    from pipeline.options import parse_data
    from pipeline.report.label_audit import write_label_audit

    chosen = load_competition(competition)
    chosen.require_whole_images("make audit")
    print(*write_label_audit(chosen, recipe, parse_data(data, competition)), sep="\n")


if __name__ == "__main__":
    run(main)
