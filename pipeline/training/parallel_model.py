"""Data-parallel training: the same model on every rank, with the batch statistics and gradients of the whole batch."""

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.models.device import ComputeDevice
from pipeline.models.unet import UNet
from pipeline.models.zoo import SegmentationModel
from pipeline.training.ranks import Ranks


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """Batch normalization over the batches of all ranks, on a CPU, where `torch.nn.SyncBatchNorm` does not run.

    Every rank has a batch of the same shape. `drop` and `act` are those of timm's BatchNormAct2d, or do nothing.
    """

    ranks: Ranks
    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (n, c, h, w); in evaluation mode with the running statistics."""
        if not self.training:
            return cast(Tensor, self.act(self.drop(super().forward(input))))
        x = input.float()
        dims, shape = (0, 2, 3), (1, -1, 1, 1)
        mean = self.ranks.mean(x.mean(dim=dims))
        centered = x - mean.view(shape)
        variance = self.ranks.mean(centered.square().mean(dim=dims))
        with torch.no_grad():
            cast(Tensor, self.num_batches_tracked).add_(1)
            count = self.ranks.world_size * x.numel() / x.shape[1]
            unbiased = variance * (count / (count - 1))
            for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
                cast(Tensor, running).lerp_(value, cast(float, self.momentum))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalized: Tensor = centered * scale.view(shape) + self.bias.view(shape)
        return cast(Tensor, self.act(self.drop(normalized.to(input.dtype))))


def sync_batch_norms(model: nn.Module, device: ComputeDevice, ranks: Ranks) -> None:
    """Replace the batch normalizations of a model by ones over all ranks, with the same parameters and names."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(model, name, _sync_batch_norm(child, device, ranks))
        else:
            sync_batch_norms(child, device, ranks)


def _sync_batch_norm(norm: nn.BatchNorm2d, device: ComputeDevice, ranks: Ranks) -> nn.Module:
    if device.is_cuda:
        # Imported here: the import takes seconds. torch's function would drop the activations of timm's BatchNormAct2d.
        from timm.layers.norm_act import convert_sync_batchnorm

        on_gpu: nn.Module = convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
        return on_gpu
    synced = CpuSyncBatchNorm(norm.num_features, norm.eps, norm.momentum)
    synced.ranks = ranks
    synced.drop, synced.act = (getattr(norm, name, nn.Identity()) for name in ("drop", "act"))
    synced.weight, synced.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        setattr(synced, name, buffer)
    return synced.train(norm.training)


def parallelize(model: SegmentationModel, device: ComputeDevice, ranks: Ranks) -> nn.Module:
    """Return a module that computes the model's logits and averages its gradients over the ranks.

    Args:
        model: the model on this rank's device; all ranks then have the weights of rank 0. Its batch normalizations are
            replaced.
        device: device of the model.
        ranks: the processes.
    """
    if ranks.world_size == 1:
        return model
    sync_batch_norms(model, device, ranks)
    # The running statistics are the same on every rank and need no broadcast. The argument for it was renamed in 2.13.
    known = inspect.signature(DistributedDataParallel).parameters
    no_broadcast = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {no_broadcast: False, "gradient_as_bucket_view": True}
    # Encoders of the library may have layers that a shallow decoder does not use.
    unused = not isinstance(model.network, UNet)
    return DistributedDataParallel(model, find_unused_parameters=unused, **options)
