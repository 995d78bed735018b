"""Measure how much of each image its masks cover, in all threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from pipeline.competition import Competition
from pipeline.data.labels import LabelReader
from pipeline.data.samples import Sample
from pipeline.data.window_reader import WindowReader
from pipeline.host import available_cores
from pipeline.paths import label_cache


def measure_mask_areas(samples: Sequence[Sample], competition: Competition) -> list[float]:
    """Measure the fraction of each image that its masks cover, 0 to 1, in the order of `samples`."""
    reader = LabelReader(competition, label_cache(competition.name))
    area = WindowReader(competition, reader).area if competition.windows else reader.area
    pool = ThreadPoolExecutor(available_cores())
    try:
        return list(tqdm(pool.map(area, samples), total=len(samples), desc="mask areas", unit="img"))
    finally:
        pool.shutdown(cancel_futures=True)  # after a broken mask, do not read the others
