"""How much of each image its mask covers."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from pipeline.competition import Competition, Sample
from pipeline.data.images import read_mask
from pipeline.host import available_cores


def measure(samples: Sequence[Sample], competition: Competition) -> list[float]:
    """The covered share of each image, 0 to 1, in the order of `samples`."""

    def area(sample: Sample) -> float:
        assert sample.mask is not None
        return float(read_mask(sample.mask, competition.masks.positive).mean())

    pool = ThreadPoolExecutor(available_cores())
    try:
        return list(tqdm(pool.map(area, samples), total=len(samples), desc="mask areas", unit="img"))
    finally:
        pool.shutdown(cancel_futures=True)  # after a broken mask, the others are not waited for
