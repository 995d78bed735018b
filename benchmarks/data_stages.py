"""Stages of the data: decode an image, read a training pair, masks to text and back."""

import io
from collections.abc import Iterator

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image
from pycocotools import mask as coco

from benchmarks.stage import OURS, BenchData, Stage, Target
from benchmarks.usual import encode_usual, parse_usual, read_usual_image, read_usual_pair
from pipeline.data.augment import Augmentation
from pipeline.data.dataset import TrainDataset
from pipeline.data.gif import decode_gif
from pipeline.data.images import read_image
from pipeline.data.labels import LabelReader
from pipeline.data.rle import mask_to_rle, parse_rle
from pipeline.data.samples import load_training_samples
from pipeline.recipe import load_recipe

SIZES = {(640, 416): 5, (960, 640): 8}
"""Input size -> times as fast as the usual way that decoding must be."""


def decode_stages(data: BenchData) -> Iterator[Stage]:
    """Decode JPEGs of 1918×1280 to the input size, on one thread."""
    cv2.setNumThreads(1)
    paths = sorted((data.folder / "train").glob("*.jpg"))[:4]
    encoded = [path.read_bytes() for path in paths]
    for (width, height), factor in SIZES.items():
        ways = {
            OURS: lambda size=(width, height): [read_image(path, size) for path in paths],
            "usual": lambda size=(width, height): [read_usual_image(path, size) for path in paths],
            "limit": lambda: [simplejpeg.decode_jpeg(jpeg, min_width=959, min_height=640) for jpeg in encoded],
        }
        limit = "libjpeg-turbo's decoding at half scale, without the resize"
        yield Stage(f"decode to {width}×{height}", len(paths), "image", ways, Target(at_least=factor), limit)


def pair_stages(data: BenchData) -> Iterator[Stage]:
    """Read training pairs at 960×640: ours with the augmentation of the recipe `baseline`, the usual one without."""
    cv2.setNumThreads(1)
    recipe, size = load_recipe("baseline"), (960, 640)
    samples = load_training_samples(data.competition, data.folder)[:4]
    labels, augmentation = LabelReader(data.competition), Augmentation(recipe.augment, seed=0)
    dataset = TrainDataset(samples, labels, size, augmentation)
    masks = [sample.masks[0][1] for sample in samples]

    def limit() -> None:
        for sample, mask in zip(samples, masks, strict=True):
            simplejpeg.decode_jpeg(sample.image.read_bytes(), min_width=959, min_height=640)
            data = mask.read_bytes()
            decode_gif(data, Image.open(io.BytesIO(data)))

    ways = {
        OURS: lambda: [dataset[0, index] for index in range(len(samples))],
        "usual": lambda: [
            read_usual_pair(sample.image, mask, size) for sample, mask in zip(samples, masks, strict=True)
        ],
        "limit": limit,
    }
    name = "training pair at 960×640, augmented"
    yield Stage(name, len(samples), "pair", ways, Target(at_least=3), "decoding of both files")


def text_stages(data: BenchData) -> Iterator[Stage]:
    """Masks of 1280×1918 to RLE text, and RLE text to runs, on one thread."""
    samples = load_training_samples(data.competition, data.folder)[:4]
    reader = LabelReader(data.competition)
    masks = [np.ascontiguousarray(reader.read_masks(sample)[0]) for sample in samples]
    texts = [mask_to_rle(mask) for mask in masks]
    columns = [np.asfortranarray(mask.T.astype(np.uint8)) for mask in masks]
    yield Stage(
        "mask → text",
        len(masks),
        "mask",
        {
            OURS: lambda: [mask_to_rle(mask) for mask in masks],
            "usual": lambda: [encode_usual(mask) for mask in masks],
            "pycocotools": lambda: [coco.encode(mask) for mask in columns],
            "limit": lambda: [np.count_nonzero(mask) for mask in masks],
        },
        Target(at_least=4),
        "one read of the pixels",
    )
    pixels = masks[0].size
    yield Stage(
        "text → runs",
        len(texts),
        "mask",
        {
            OURS: lambda: [parse_rle(text, pixels) for text in texts],
            "usual": lambda: [parse_usual(text) for text in texts],
            "limit": lambda: [np.fromstring(text, dtype=np.int64, sep=" ") for text in texts],
        },
        None,
        "NumPy's reader of numbers, without any check",
    )


def set_threads(count: int) -> None:
    """Limit torch and OpenCV to this many threads."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
