"""Pictures of a gallery: exact masks, visible errors, bounded sizes."""

import base64
import io
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import UserError
from pipeline.report.encode import GRAY_STEP, EncodeOptions, encode_image
from pipeline.report.gallery import GalleryItem, build_gallery
from pipeline.report.views import MaskNames, index_masks, list_views, outline_of, view_layers

OPTIONS = EncodeOptions(photo_width=90, quality=60, crop_width=40)
DIFFERENCE = list_views(MaskNames(), truth=True, other=False)[0]


def open_uri(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(np.full((200, 300, 3), 128, np.uint8)).save(path)
    return path


def random_masks(seed: int, classes: int, shape: tuple[int, int] = (200, 300)) -> np.ndarray:
    blocks = np.random.default_rng(seed).random((classes, shape[0] // 10, shape[1] // 10)) < 0.4
    return np.kron(blocks, np.ones((10, 10))).astype(bool)


@pytest.mark.parametrize("classes", [(), ("a", "b", "c")])
@pytest.mark.parametrize("other", [False, True])
def test_index_maps_hold_every_mask_exactly(photo, classes, other):
    masks = [random_masks(seed, max(1, len(classes))) for seed in range(3)]
    masks[2] = masks[2] if other else None
    encoded = encode_image(photo, masks, DIFFERENCE, classes, OPTIONS)
    assert [name for name, _ in encoded.maps] == list(classes or ("",))
    for number, (_, uri) in enumerate(encoded.maps):
        index = np.round(np.asarray(open_uri(uri).convert("L")) / GRAY_STEP).astype(int)
        for bit, mask in enumerate(masks):
            assert ((index >> bit & 1).astype(bool) == (mask is not None and mask[number])).all()
    truth, predicted = masks[:2]
    assert (encoded.missed, encoded.added) == ((truth & ~predicted).sum(), (predicted & ~truth).sum())


def test_a_single_wrong_pixel_is_visible_on_the_card_and_inside_the_crop(photo):
    truth = np.zeros((1, 200, 300), dtype=bool)
    truth[0, 150, 220] = True
    encoded = encode_image(photo, [truth, np.zeros_like(truth), None], DIFFERENCE, (), OPTIONS)
    x, y, width, height = encoded.box
    assert x <= 220 < x + width
    assert y <= 150 < y + height
    overlay = np.asarray(open_uri(encoded.pictures["overlay"]).convert("RGBA"))
    assert tuple(overlay[overlay[..., 3] > 0][0, :3]) == (255, 200, 0)
    crop = open_uri(encoded.pictures["crop_overlay"]).convert("RGBA")
    assert crop.size == (width, height)
    assert crop.getpixel((220 - x, 150 - y)) == (255, 200, 0, 255)
    assert open_uri(encoded.pictures["crop"]).size == (width, height)


def test_masks_may_be_empty_missing_and_of_another_size_than_the_photo(photo):
    small = np.zeros((2, 50, 75), dtype=bool)
    encoded = encode_image(photo, [small, small, None], DIFFERENCE, ("a", "b"), OPTIONS)
    assert (encoded.size, encoded.maps, encoded.missed) == ((75, 50), [], 0)
    view = list_views(MaskNames(), truth=False, other=False)[0]
    alone = encode_image(photo, [None, ~small, None], view, ("a", "b"), OPTIONS)
    assert (alone.missed, alone.added) == (0, 0)
    assert np.asarray(open_uri(alone.pictures["overlay"]).convert("RGBA"))[..., 3].min() > 0


@given(st.integers(0, 2**20 - 1))
def test_views_paint_only_the_pixels_that_they_name(bits):
    truth, predicted = (
        np.array([bits >> shift & 1 for shift in range(first, first + 10)], bool)[None] for first in (0, 10)
    )
    layers = {color: mask for mask, color, _ in view_layers(DIFFERENCE, [index_masks(truth, predicted, None)])}
    nothing = np.zeros_like(truth)
    assert (layers.get((255, 200, 0), nothing) == (truth & ~predicted)).all()
    assert (layers.get((0, 220, 255), nothing) == (predicted & ~truth)).all()


def test_an_outline_is_the_edge_inside_the_mask():
    mask = np.zeros((7, 7), dtype=bool)
    mask[1:6, 1:6] = True
    inside = np.zeros_like(mask)
    inside[2:5, 2:5] = True
    assert (outline_of(mask) == (mask & ~inside)).all()
    assert not outline_of(np.ones((5, 5), dtype=bool)).any(), "the border of the image is not an edge"


def test_quality_is_lowered_until_the_images_fit(tmp_path):
    photo = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(photo)
    items = [
        GalleryItem(
            str(number), photo, truth=partial(random_masks, number, 1), predicted=partial(random_masks, number + 1, 1)
        )
        for number in range(8)
    ]
    sizes = []
    for limit in (4_000_000, 200_000):
        gallery = build_gallery(items, tmp_path, max_bytes=limit)
        pictures = ("photo", "overlay", "crop", "crop_overlay")
        total = sum(len(card.get(name, "")) for card in gallery.cards for name in pictures)
        sizes.append(total + sum(len(uri) for item in gallery.data["items"] for _, uri in item["maps"]))
        assert sizes[-1] <= limit
    assert sizes[1] < sizes[0]
    with pytest.raises(UserError, match="8 images do not fit"):
        build_gallery(items, tmp_path, max_bytes=100)
