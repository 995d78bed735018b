"""A gallery of images with masks: what it consists of, and its files and values for the page."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from tqdm import tqdm

from pipeline.data.rle import RleFormat, rle_to_mask
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.parallel import map_parallel
from pipeline.report.encode import EncodedImage, EncodeOptions, encode_image
from pipeline.report.views import MaskNames, View, list_views

MaskLoader = Callable[[], np.ndarray]
"""Returns masks (classes, h, w) bool. It is called in another process, so it must survive pickling."""

MAX_EMBEDDED = 300
"""Most images in the page itself."""
MAX_BYTES = 4_300_000
"""Most bytes of them, which leaves room for the rest of a page of 5 MB."""
PART_IMAGES = 16
"""Images in each file beside the page."""

QUALITIES = (
    EncodeOptions(photo_width=640, quality=70),
    EncodeOptions(photo_width=480, quality=60),
    EncodeOptions(photo_width=360, quality=50),
    EncodeOptions(photo_width=320, quality=40, crop_width=128),
    EncodeOptions(photo_width=320, quality=35, crop_width=128, map_pixels=1_000_000),
    EncodeOptions(photo_width=240, quality=30, crop_width=96, map_pixels=250_000),
)
"""From good to small; the first with which all images fit is used."""
THUMBNAIL = EncodeOptions(photo_width=320, quality=45, crop_width=0, map_pixels=700_000, effort=2)
"""For the images beside the page."""


@dataclass(frozen=True)
class GalleryItem:
    """One image of a gallery."""

    id: str
    image: Path
    """The file of the photo."""
    group: str = ""
    fold: int | None = None
    score: float | None = None
    """0 to 1, higher is better."""
    truth: MaskLoader | None = None
    predicted: MaskLoader | None = None
    other: MaskLoader | None = None
    """Masks of a second submission or recipe."""
    notes: tuple[str, ...] = ()
    """Short texts, such as reasons why the image is here."""
    sets: tuple[str, ...] = ()
    """Names of the choices it belongs to, such as "Worst"."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Column -> value, to filter by."""


@dataclass(frozen=True)
class Gallery:
    """The values of a gallery for its template, ``gallery.html``."""

    cards: tuple[dict[str, Any], ...]
    """The images in the page."""
    data: dict[str, Any]
    """All that the script needs: items, views, names."""
    view: View
    """The view of the cards."""
    missed: int
    added: int
    """Wrong pixels of the images in the page."""


def decode_masks(
    rows: Sequence[tuple[int, str]], num_classes: int, shape: tuple[int, int], format: RleFormat
) -> np.ndarray:
    """Decode the rows of one image; `partial` makes it a `MaskLoader`.

    Args:
        rows: (index of the class, RLE) of each row; several rows of a class are merged.
        num_classes: number of classes.
        shape: (h, w) of the masks.
        format: format of the RLE.

    Returns:
        (classes, h, w) bool.
    """
    masks = np.zeros((num_classes, *shape), dtype=bool)
    for class_index, rle in rows:
        masks[class_index] |= rle_to_mask(rle, shape, format)
    return masks


def build_gallery(
    items: Sequence[GalleryItem],
    folder: Path,
    *,
    classes: Sequence[str] = (),
    names: MaskNames | None = None,
    views: Sequence[View] = (),
    more: Sequence[GalleryItem] = (),
    max_bytes: int = MAX_BYTES,
    score_label: str = "score",
    order_label: str = "",
) -> Gallery:
    """Encode the images of a gallery on all cores.

    Args:
        items: the images in the page, in the order to show them; at most `MAX_EMBEDDED`.
        folder: the folder of the page, for links to the photos and for the files of `more`.
        classes: names of the classes; empty for a single class.
        names: names of the masks.
        views: ways to look at an image, that of the cards first; those of `list_views` if empty.
        more: further images, as thumbnails in files beside the page that the browser loads when they are scrolled to.
        max_bytes: most bytes of the images in the page and of the descriptions of `more`; the quality is lowered until
            they fit.
        score_label: name of the score.
        order_label: name of the order of `items`, such as "most suspicious first"; empty if it is that of the scores.

    Raises:
        UserError: a photo or a mask cannot be read, or the images do not fit even at the lowest quality.
    """
    assert len(items) <= MAX_EMBEDDED
    every = [*items, *more]
    truth, other = (any(getattr(item, name) for item in every) for name in ("truth", "other"))
    views = views or list_views(names or MaskNames(), truth=truth, other=other)
    rows = [_describe_item(item, folder) for item in every]
    described = len(json.dumps(rows[len(items) :], ensure_ascii=False))
    encoded = _encode_to_fit(items, views[0], classes, max(max_bytes - described, max_bytes // 2))
    _write_parts(more, views[0], classes, folder)
    for row, image in zip(rows, encoded, strict=False):
        row |= {"size": image.size, "box": image.box, "maps": image.maps}
    for number, row in enumerate(rows[len(items) :]):
        row["part"] = number // PART_IMAGES
    data = {"items": rows, "views": [view.to_json() for view in views], "scoreLabel": score_label}
    data["orderLabel"] = order_label
    cards = tuple({**row, **image.pictures} for row, image in zip(rows, encoded, strict=False))
    missed, added = (sum(getattr(image, name) for image in encoded) for name in ("missed", "added"))
    return Gallery(cards, data, views[0], missed, added)


def _describe_item(item: GalleryItem, folder: Path) -> dict[str, Any]:
    """Return the values of an item for the page, without pictures."""
    return {
        "id": item.id,
        "group": item.group,
        "fold": item.fold,
        "score": None if item.score is None else round(item.score, 6),
        "notes": item.notes,
        "sets": item.sets,
        "attributes": dict(item.attributes),
        "link": quote(os.path.relpath(item.image.absolute(), folder.absolute())),
    }


def _encode_to_fit(
    items: Sequence[GalleryItem], view: View, classes: Sequence[str], max_bytes: int
) -> list[EncodedImage]:
    """Encode images at the best quality with which all of them fit; some of them show which one that is."""
    some = items[:: max(1, len(items) // 12)]
    for options in QUALITIES:
        encode = partial(_encode, view=view, classes=classes, options=options)
        # Worst images come first and are larger, so a few images are a fair guess but no proof.
        if sum(encode(item).bytes for item in some) * len(items) > 1.05 * max_bytes * len(some):
            continue
        encoded = list(_map_images(encode, items))
        if sum(image.bytes for image in encoded) <= max_bytes:
            return encoded
    fix = "show fewer of them"
    raise UserError("gallery", f"{len(items)} images do not fit into {max_bytes / 1e6:.1f} MB", fix)


def _write_parts(items: Sequence[GalleryItem], view: View, classes: Sequence[str], folder: Path) -> None:
    """Write thumbnails into ``images/part<n>.js``.

    They are scripts, because a page that was opened from disk may not read other files.
    """
    for old in (folder / "images").glob("part*.js"):
        old.unlink()
    encode = partial(_encode, view=view, classes=classes, options=THUMBNAIL)
    images = _map_images(encode, items)
    for number in range(-(-len(items) // PART_IMAGES)):
        part = [{**image.pictures, "size": image.size, "maps": image.maps} for image in islice(images, PART_IMAGES)]
        write_text(folder / "images" / f"part{number}.js", f"addPart({number},{json.dumps(part)})\n")


def _map_images(encode: Callable[[GalleryItem], EncodedImage], items: Sequence[GalleryItem]) -> Iterator[EncodedImage]:
    """Encode images in several threads, each 8 images at once. Nearly all of it runs in libraries."""
    pairs = map_parallel(encode, items, lambda _: 1 << 19)
    for _, image in tqdm(pairs, total=len(items), desc="gallery", unit="img", disable=len(items) < 24):
        yield image


def _encode(item: GalleryItem, view: View, classes: Sequence[str], options: EncodeOptions) -> EncodedImage:
    loaders = (item.truth, item.predicted, item.other)
    masks = [loader() if loader else None for loader in loaders]
    return encode_image(item.image, masks, view, classes, options)
