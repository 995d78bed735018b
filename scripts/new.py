"""Write a first TOML file for a new competition, guessed from its data."""

from typing import Annotated

import typer

from scripts.common import DataOption, run


def main(
    competition: Annotated[str, typer.Option("--competition", help="Name of the new file in competitions/.")],
    data: DataOption = "",
) -> None:
    """Write competitions/<competition>.toml with guesses as comments, and print what the files do not tell."""
    from pipeline.data.guess.draft import write_draft
    from pipeline.options import parse_data

    folder = parse_data(data, competition)
    path, unknown = write_draft(competition, folder)
    print(f"{path}: a first draft; check every line (docs/new-competition.md)")
    for sentence in unknown:
        print(f"unknown: {sentence}")
    print(f"next: make check COMPETITION={competition} DATA={folder}")


if __name__ == "__main__":
    run(main)
