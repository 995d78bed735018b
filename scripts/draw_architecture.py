"""Draw docs/architecture.svg from the imports of the code."""

from pathlib import Path

from scripts.common import run


def main() -> None:
    """Write the drawing and print its path."""
    from pipeline.files import write_text
    from pipeline.report.architecture import FLOORS, read_sources
    from pipeline.report.architecture_svg import DRAWING, draw_architecture

    write_text(DRAWING, draw_architecture(read_sources(Path()), FLOORS))
    print(DRAWING)


if __name__ == "__main__":
    run(main)
