"""A little of ``make torture``: every stage is disturbed three times and gives the result of an undisturbed run."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.helpers import TINY
from tests.torture.disturbances import KINDS, Bench
from tests.torture.stages import NAME, Stage, build_stages

STAGES = ("train", "predict", "download", "blend")


@pytest.fixture(scope="module")
def world(untouched_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    (folder / "data").mkdir()
    shutil.copytree(untouched_data, folder / "data" / NAME)
    return folder


@pytest.fixture(scope="module")
def stages(world: Path) -> Iterator[dict[str, Stage]]:
    competition = {key: value for key, value in TINY.items() if key != "name"} | {"slug": f"{NAME}-cars"}
    with build_stages(world, competition, fork=True) as stages:
        yield stages


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("index", range(len(STAGES)), ids=STAGES)
def test_disturbed_stage_gives_the_result_of_an_undisturbed_run(stages, world, tmp_path, index):
    """Each kind disturbs two stages."""
    bench = Bench(stages[STAGES[index]], world, tmp_path, fork=True)
    random = Random(index)
    for kind in list(KINDS)[index % 2 :: 2]:
        moment = random.uniform(0, bench.seconds)
        verdict = bench.disturb(kind, moment)
        assert not verdict.faults, f"{kind} after {moment:.2f} s: {verdict}"
