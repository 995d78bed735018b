"""Tensors are resized as decoded images are."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.data.images import resize_image
from pipeline.models.resize import resize_as_decoded, resize_images


@pytest.mark.parametrize(
    "shape", [(64, 48), (50, 70), (96, 128), (190, 250), (384, 512), (20, 30), (97, 131), (301, 211)]
)
def test_both_ways_resize_as_the_decoder(shape):
    smooth = F.avg_pool2d(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *shape))).float(), 3, 1, 1)
    image = smooth.to(torch.uint8)
    expected = resize_image(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), (64, 48)).astype(float)
    for resize in (resize_as_decoded, resize_images):
        resized = resize(image[None].float(), (64, 48))
        assert resized.shape == (1, 3, 48, 64)
        difference = np.abs(resized[0].permute(1, 2, 0).numpy() - expected)
        assert difference.mean() < (1 if all(side % 2 == 0 for side in shape) else 8)


def test_fast_way_is_the_exact_one_for_even_sides():
    image = torch.rand(2, 3, 128, 192) * 255
    assert torch.allclose(resize_images(image, (40, 28)), resize_as_decoded(image, (40, 28)), atol=0.01)
