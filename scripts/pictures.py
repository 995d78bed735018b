"""Make the pictures of README and docs from the embedded data."""

from scripts.common import run


def main() -> None:
    """Write them into docs/ and print their paths."""
    from pipeline.report.pictures import write_pictures

    for path in write_pictures():
        print(path)


if __name__ == "__main__":
    run(main)
