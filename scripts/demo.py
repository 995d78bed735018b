"""Finish the demonstration: overlays of some test images, and a description of the result."""

from scripts.common import run


def main() -> None:
    """Write overlays/demo/ and print the scores."""
    from pipeline import paths
    from pipeline.inference.overlay import write_overlays
    from pipeline.report.demo import DEMO, describe_demo

    images = sorted((paths.data_folder(DEMO) / "test").glob("*_0[147].jpg"))
    for path in write_overlays(paths.runs_folder(DEMO, DEMO), images, paths.OVERLAYS / DEMO):
        print(path)
    print(describe_demo())


if __name__ == "__main__":
    run(main)
