"""Read the headers of many images: their sizes, and which files cannot be opened."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tqdm import tqdm

from pipeline.data.masks import Size
from pipeline.data.readers import ImageReader
from pipeline.data.samples import Sample
from pipeline.errors import UserError
from pipeline.host import available_cores

_NAMED = 3
"""Number of sizes in a description."""


@dataclass(frozen=True)
class Headers:
    """Sizes and errors that were read from the headers of images."""

    sizes: dict[str, Size]
    """Id -> size, for the images that can be opened."""
    errors: dict[str, UserError]
    """Id -> why, for the others."""

    def usual_size(self) -> Size:
        """Return the most frequent size.

        Raises:
            UserError: no image can be opened.
        """
        if not self.sizes:
            raise next(iter(self.errors.values()))
        return Counter(self.sizes.values()).most_common(1)[0][0]

    def describe(self) -> str:
        """Describe the number of images, their sizes and the unreadable headers in one line."""
        counts = Counter(self.sizes.values()).most_common()
        sizes = ", ".join(f"{count:,} of {width}×{height}" for (width, height), count in counts[:_NAMED])
        if len(counts) > _NAMED:
            sizes += f" and {len(counts) - _NAMED:,} other sizes"
        text = f"{len(self.sizes) + len(self.errors):,} images: {sizes or 'none can be opened'}"
        if self.errors:
            text += f"; {len(self.errors):,} headers cannot be read, such as {next(iter(self.errors.values())).where}"
        return text


def require_size(sample: Sample, size: Size, expected: Size) -> None:
    """Refuse an image of another size: RLE depends on the size, and a mismatch scores near 0 without any error.

    Raises:
        UserError: `size` is not `expected`.
    """
    if size != expected:
        what = f"is {size[0]}×{size[1]}, but all images of this competition are {expected[0]}×{expected[1]}"
        raise UserError(sample.image, what, "download it again, or correct images.size in the competition's file")


def read_headers(samples: Sequence[Sample], images: ImageReader) -> Headers:
    """Read the header of each image, or of its replacement if that of the image cannot be read.

    Args:
        samples: the samples.
        images: reads them.
    """

    def read(sample: Sample) -> Size | UserError:
        try:
            return images.size(sample)
        except UserError as error:
            if sample.replacement is None:
                return error
            return read(sample.replaced())

    with ThreadPoolExecutor(2 * available_cores()) as pool:  # more than cores: network disks answer late
        results = list(tqdm(pool.map(read, samples), desc="headers", total=len(samples), unit=" images", delay=2))
    headers = Headers({}, {})
    for sample, result in zip(samples, results, strict=True):
        if isinstance(result, UserError):
            headers.errors[sample.id] = result
        else:
            headers.sizes[sample.id] = result
    return headers
