"""TensorBoard shows the runs of the competition, on this computer alone."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from torch.utils.tensorboard import SummaryWriter

from pipeline.report.watch import runs_pattern

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("run", "shown"),
    [
        ("cells-cpu/fold0", True),
        ("cells-my.own/foldall", True),
        ("cells/fold0~1", True),
        ("cells-myXown/fold0", False),
        ("cells-cpu-2/fold0", False),
        ("cells-stained-cpu/fold0", False),
        ("x/cells-cpu/fold0", False),
    ],
)
def test_only_runs_of_the_competition_match(run, shown):
    """Also where the name of another competition begins with this one's."""
    assert bool(re.search(runs_pattern("cells", ["cpu", "my.own", "cells"]), run)) is shown


@pytest.mark.slow
def test_the_page_shows_runs_of_the_competition(page, tmp_path):
    for name in ("cells-cpu", "cells-best", "cars-cpu"):
        with SummaryWriter(tmp_path / "runs" / name / "fold0") as writer:
            writer.add_scalar("validation/dice", 0.9, 1)
    for folder in ("competitions", "recipes"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", START, "cells"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            assert parse_qs(urlsplit(address).query)["runFilter"] == [runs_pattern("cells", RECIPES)]
            page.goto(address)
            page.get_by_text("cells-cpu/fold0").first.wait_for()
            page.get_by_text("cells-best/fold0").first.wait_for()
            assert page.get_by_text("cars-cpu/fold0").count() == 0
            page.get_by_text("validation").first.wait_for()
        finally:
            server.terminate()


RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))
START = """
import sys, time
from pipeline.report.watch import start_tensorboard
print(start_tensorboard(sys.argv[1]), flush=True)
time.sleep(60)
"""
