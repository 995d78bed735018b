"""Fuse batch normalizations into the convolutions before them, for prediction."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


@torch.no_grad()
def fuse_batch_norms(model: nn.Module) -> None:
    """Fuse each convolution that a batch normalization follows in an `nn.Sequential`.

    The logits stay the same, apart from rounding. The model can no longer be trained, and its ``state_dict`` no longer
    fits the architecture.

    Args:
        model: the model in evaluation mode, changed in place.
    """
    for block in model.modules():
        if not isinstance(block, nn.Sequential) or type(block).forward is not nn.Sequential.forward:
            continue
        for (name, layer), (next_name, following) in pairwise(list(block.named_children())):
            if type(layer) is nn.Conv2d and type(following) is nn.BatchNorm2d:
                block.register_module(name, fuse_conv_bn_eval(layer, following))
                block.register_module(next_name, nn.Identity())
