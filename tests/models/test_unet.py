"""The UNet is the one of the paper, with padded convolutions and bilinear upsampling between pixel centers."""

import pytest
import torch
from torch import nn

from pipeline.models.unet import UNet, UpBlock, double_conv, norm_layer, pad_to_multiple
from pipeline.models.zoo import count_parameters
from pipeline.recipe import UNetConfig


def test_the_paper_s_unet_has_the_known_number_of_parameters():
    """64-1024 with transposed convolutions; convolutions before a normalization have no bias."""
    model = UNet(UNetConfig(name="unet", width=64, depth=4, up="transpose"))
    assert count_parameters(model) == 31_037_633


def test_up_block_upsamples_between_pixel_centers_and_puts_the_skip_first():
    """Bilinear upsampling by 2 with pixel centers as corners are not aligned: weights 3/4 and 1/4."""
    block = UpBlock(1, 1, "bilinear", "none")
    with torch.no_grad():
        block.upsample[0].weight.fill_(1.0)
        block.upsample[0].bias.zero_()
    x = torch.tensor([[[[0.0, 4.0]]]])
    assert block.upsample(x).tolist() == [[[[0.0, 1.0, 3.0, 4.0]] * 2]]
    block.conv = nn.Identity()
    merged = block(x, torch.full((1, 1, 2, 4), 7.0))
    assert merged[0, 0].unique().tolist() == [7.0]
    assert merged[0, 1, 0].tolist() == [0.0, 1.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("size", "multiple", "padded"), [((5, 7), 4, (8, 8)), ((8, 8), 4, (8, 8)), ((1, 9), 8, (8, 16))]
)
def test_padding_replicates_the_last_row_and_column(size, multiple, padded):
    image = torch.rand(1, 2, *size)
    result = pad_to_multiple(image, multiple)
    assert result.shape[2:] == padded
    assert torch.equal(result[..., : size[0], : size[1]], image)
    assert torch.equal(result[..., -1, -1], image[..., -1, -1])


def test_nothing_is_padded_where_the_size_fits():
    image = torch.rand(1, 2, 8, 12)
    assert pad_to_multiple(image, 4) is image


def test_padding_does_not_change_the_logits_inside():
    """An image of a multiple of the stride gives the same logits as part of a replicated larger one."""
    torch.manual_seed(0)
    model = UNet(UNetConfig(name="unet", width=4, depth=1, norm="none")).eval()
    image = torch.rand(1, 3, 15, 16)
    assert torch.allclose(model(image), model(pad_to_multiple(image, 2))[..., :15, :])


CONFIGS = {
    "bilinear": UNetConfig(name="unet", width=4, depth=2),
    "transpose": UNetConfig(name="unet", width=4, depth=2, up="transpose", norm="none"),
    "capped": UNetConfig(name="unet", width=6, depth=2, norm="group", max_width=10),
    "stem": UNetConfig(name="unet", width=4, depth=3, stem=2),
}


def space_to_depth(image: torch.Tensor, block: int) -> torch.Tensor:
    """Put the pixels of each block into channels, channel by channel."""
    parts = [image[:, c, y::block, x::block] for c in range(image.shape[1]) for y in range(block) for x in range(block)]
    return torch.stack(parts, dim=1)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_logits_equal_those_of_the_drawing(config):
    """Down with the maximum of 2×2 pixels, up with the skip connections, all of them used once."""
    torch.manual_seed(0)
    model = UNet(config, 3, 2).eval()
    image = torch.rand(2, 3, 15, 22)
    padded = pad_to_multiple(image, config.stem * 2**config.depth)
    levels = [model.encoder[0](space_to_depth(padded, config.stem))]
    for block in model.encoder[1:]:
        n, c, h, w = levels[-1].shape
        levels.append(block(levels[-1].reshape(n, c, h // 2, 2, w // 2, 2).amax(dim=(3, 5))))
    y = levels.pop()
    for block in model.decoder:
        y = block(y, levels.pop())
    assert not levels
    logits = model(image)
    assert logits.shape == (2, 2, 15, 22)
    whole = torch.nn.functional.pad(logits, (0, padded.shape[3] - 22, 0, padded.shape[2] - 15))
    inside = space_to_depth(
        torch.nn.functional.pad(torch.ones(2, 2, 15, 22), (0, padded.shape[3] - 22, 0, padded.shape[2] - 15)),
        config.stem,
    )
    assert torch.allclose(space_to_depth(whole, config.stem), model.head(y) * inside, atol=1e-5)


def test_filters_double_with_every_level_up_to_the_maximum():
    model = UNet(UNetConfig(name="unet", width=4, depth=3, max_width=10), in_channels=5, out_channels=2)
    shapes = [tuple(block[0].weight.shape[:2]) for block in model.encoder]
    assert shapes == [(4, 5), (8, 4), (10, 8), (10, 10)]
    assert [tuple(block.conv[0].weight.shape[:2]) for block in model.decoder] == [(10, 20), (8, 16), (4, 8)]
    assert tuple(model.head.weight.shape) == (2, 4, 1, 1)
    assert tuple(UNet(UNetConfig(name="unet", width=4, depth=1, stem=2)).head.weight.shape) == (4, 4, 1, 1)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_double_convolution_normalizes_and_rectifies_twice(norm):
    """A convolution has a bias exactly where no normalization follows."""
    first, normalize, relu, second, *rest = double_conv(3, 8, norm)
    kind = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm, "none": nn.Identity}[norm]
    assert [type(layer) for layer in (normalize, relu, *rest)] == [kind, nn.ReLU, kind, nn.ReLU]
    for conv, channels in ((first, 3), (second, 8)):
        assert tuple(conv.weight.shape) == (8, channels, 3, 3)
        assert conv.padding == (1, 1)
        assert (conv.bias is not None) == (norm == "none")
    assert all(layer.inplace for layer in (relu, rest[1])), "activations would need twice the memory"


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (6, 6), (20, 5), (9, 3), (11, 1), (1, 1), (14, 7)])
def test_group_normalization_has_the_most_groups_up_to_eight(channels, groups):
    layer = norm_layer("group", channels)
    assert (layer.num_groups, layer.num_channels) == (groups, channels)
    assert norm_layer("batch", channels).num_features == channels


def test_transposed_convolution_upsamples_without_overlap():
    up = UpBlock(6, 4, "transpose", "none").upsample
    assert (tuple(up.weight.shape), up.stride, up.padding) == ((6, 4, 2, 2), (2, 2), (0, 0))
