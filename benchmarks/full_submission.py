"""Check and upload a submission of all 100,064 rows to the stand-in: time and memory.

    python -m benchmarks.full_submission --data DIR

DIR is the practice data: `sample_submission_full.csv` gives the ids, `train_masks.csv` the masks, each used many times.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline.data.mask_csv import read_mask_csv, write_mask_csv
from scripts.common import DataFolder, run
from tests.standin.server import Standin
from tests.standin.world import World

_SUBMIT = """
import json, resource, sys, time
from pathlib import Path
from pipeline import competition
from pipeline.submission import submit, table
carvana = competition.load("carvana")
data, file = Path(sys.argv[1]), Path(sys.argv[2])
started = time.perf_counter()
wanted = table.expected(carvana, data)
table.check(file, carvana, list(wanted), wanted).raise_if_bad()
checked = time.perf_counter()
submit.table.check = lambda *_: table.Report(file)
entry = submit.submit(carvana, data, file, "full", path=file.parent / "ledger.csv")
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
client = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({
    "check_s": round(checked - started, 1), "submit_s": round(time.perf_counter() - checked, 1),
    "own_peak_mb": own // 1024, "client_peak_mb": client // 1024, "status": entry.status,
}))
"""


def main(data: DataFolder, rows: Annotated[int, typer.Option(help="Fewer rows, for a quick look.")] = 0) -> None:
    """Print the figures as JSON."""
    with tempfile.TemporaryDirectory(prefix="full-submission-") as scratch:
        folder = Path(scratch)
        figures: dict[str, object] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
        ids = [row.id for row in read_mask_csv(data / "sample_submission_full.csv")][: rows or None]
        write_mask_csv(folder / "sample_submission.csv", ("img", "rle_mask"), ((id, "1 1") for id in ids))
        masks = [row.rle for row in read_mask_csv(data / "train_masks.csv")]
        started = time.perf_counter()
        file = folder / "full.csv.gz"
        write_mask_csv(file, ("img", "rle_mask"), ((id, masks[number % len(masks)]) for number, id in enumerate(ids)))
        figures |= {"rows": len(ids), "megabytes": round(file.stat().st_size / 1e6)}
        figures["write_s"] = round(time.perf_counter() - started, 1)

        world = World("carvana-image-masking-challenge", {}, lambda _: (0.5, 0.5), folder / "uploads")
        with Standin(world) as standin:
            environment = {**os.environ, **standin.environment(), "HOME": scratch, "KAGGLE_CONFIG_DIR": scratch}
            command = [sys.executable, "-c", _SUBMIT, str(folder), str(file)]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        figures |= json.loads(done.stdout)
        assert world.entries[0].path.stat().st_size == file.stat().st_size
        figures["standin_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run(main)
