"""The usual way: what common UNet repositories and notebooks of the Carvana challenge do, written for comparison.

Pillow decodes the whole image and resizes it; images are float32 in memory; the network runs in float32, channels-last,
on a CPU and in fp16 autocast on a GPU, one image at a time for prediction; masks become text number by number; pandas
writes the CSV.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn


class UsualUNet(nn.Module):
    """UNet with 31 million parameters: 64 to 1024 filters, batch normalization, transposed convolutions."""

    def __init__(self, channels: int = 3, classes: int = 1) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(usual_block(a, b) for a, b in zip((channels, *widths), widths, strict=False))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, kernel_size=2, stride=2) for width in reversed(widths[:-1])
        )
        self.merge = nn.ModuleList(usual_block(2 * width, width) for width in reversed(widths[:-1]))
        self.head = nn.Conv2d(widths[0], classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 3, h, w) float32, 0 to 1, to logits (n, 1, h, w); h and w are multiples of 16."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


def usual_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build a double convolution: twice 3×3 convolution without bias, batch normalization, ReLU."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        convolution = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def read_usual_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Decode and resize an image to (3, h, w) float32, 0 to 1."""
    image = Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    return (np.asarray(image) / 255.0).transpose(2, 0, 1).astype(np.float32)


def read_usual_pair(image: Path, mask: Path, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Read a training pair, without augmentation: image (3, h, w) float32 and mask (h, w) int64."""
    label = np.asarray(Image.open(mask).resize(size, Image.Resampling.NEAREST))
    return torch.from_numpy(read_usual_image(image, size)), torch.from_numpy((label > 0).astype(np.int64))


def usual_train_step(model: nn.Module, device: torch.device) -> Callable[[Tensor, Tensor], None]:
    """Return a function that trains on images (n, 3, h, w) float32 and masks (n, h, w) int64.

    RMSprop with momentum, binary cross-entropy plus soft Dice, gradient clipping.
    """
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-5, weight_decay=1e-8, momentum=0.999, foreach=True)
    on_gpu = device.type == "cuda"
    scaler = torch.amp.GradScaler(device.type, enabled=on_gpu)

    def step(images: Tensor, masks: Tensor) -> None:
        images = images.to(device, memory_format=torch.channels_last)
        masks = masks.to(device).float()
        with torch.autocast(device.type, torch.float16, enabled=on_gpu):
            logits = model(images).squeeze(1)
            probability = torch.sigmoid(logits)
            overlap = 2 * (probability * masks).sum(dim=(1, 2))
            dice = (overlap + 1e-6) / (probability.sum(dim=(1, 2)) + masks.sum(dim=(1, 2)) + 1e-6)
            loss = F.binary_cross_entropy_with_logits(logits, masks) + 1 - dice.mean()
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        loss.item()

    return step


@torch.inference_mode()
def predict_usual_row(model: nn.Module, path: Path, size: tuple[int, int], device: torch.device) -> str:
    """Predict one image from its file to its RLE text."""
    width, height = Image.open(path).size
    image = torch.from_numpy(read_usual_image(path, size))[None]
    image = image.to(device, torch.float32, memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
        logits = model(image).float().cpu()
    logits = F.interpolate(logits, (height, width), mode="bilinear")
    return encode_usual((torch.sigmoid(logits) > 0.5)[0, 0].numpy())


def encode_usual(mask: np.ndarray) -> str:
    """Encode a mask (h, w) bool, as the notebooks do."""
    pixels = np.concatenate([[0], mask.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(number) for number in runs)


def parse_usual(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Parse RLE text to starts and lengths, as the notebooks do."""
    numbers = text.split()
    return np.asarray(numbers[0::2], dtype=int) - 1, np.asarray(numbers[1::2], dtype=int)


def write_usual_csv(path: Path, ids: Sequence[str], texts: Sequence[str]) -> None:
    """Write a compressed submission with pandas."""
    pd.DataFrame({"img": ids, "rle_mask": texts}).to_csv(path, index=False, compression="gzip")
