"""The card of an export: what it is, how to run it, and how it compares with the model in this pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.models.checkpoint import WeightsMetadata
from pipeline.recipe import Recipe

_CARD = """# {file}

| | |
|---|---|
| competition | {competition} |
| recipe, folds | {recipe}, {folds} |
| flips | {flips}, averaged as probabilities |
| input | `image`: (n, 3, h, w) uint8 RGB, any batch and size; resized inside to {width}×{height} |
| output | `probability`: (n, {classes}, h, w) float32, 0 to 1{names} |
| threshold | {threshold} |
| score on the validation images of each fold | {scores} |
| commit, torch | {commit}, {torch} |
| license | MIT, like the code that wrote it |

```python
import numpy, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{file}")
image = numpy.asarray(Image.open("photo.jpg").convert("RGB")).transpose(2, 0, 1)[None]
(probability,) = session.run(None, {{"image": image}})
mask = probability[0, 0] >= {threshold}
```

Checked on {images} images. Differing pixels of the masks: mean (highest) over the images.

| | from torch, same pixels in | from the pipeline, which decodes at the network's scale | ms per image |
|---|---|---|---|
{rows}
"""


@dataclass(frozen=True)
class Comparison:
    """One way to predict, compared with the pipeline's on the same images."""

    name: str
    from_module: tuple[float, float]
    """Fraction of the pixels of the masks that differ from the module's with the same pixels in: mean and highest."""
    from_pipeline: tuple[float, float]
    """The same from the pipeline's prediction in float32, which decodes an image at the scale of the network."""
    seconds: float
    """Median time of an image, decoding excluded."""


def export_card(
    file: str,
    recipe: Recipe,
    metadata: Sequence[WeightsMetadata],
    flips: Sequence[str],
    images: int,
    comparisons: Sequence[Comparison],
) -> str:
    """Return the card as Markdown.

    Args:
        file: name of the ONNX file.
        recipe: recipe of the models.
        metadata: metadata of each fold's weights.
        flips: views that are averaged.
        images: number of images of the comparison.
        comparisons: the ways to predict.
    """
    first, (width, height) = metadata[0], recipe.model_size
    classes = first.model_classes()
    return _CARD.format(
        file=file,
        competition=first.competition,
        recipe=recipe.name,
        folds=", ".join(f"fold {one.fold}" for one in metadata),
        flips=", ".join(flips),
        width=width,
        height=height,
        classes=classes.count,
        names=f"; classes: {', '.join(classes.names)}" if classes.names else "",
        threshold=recipe.predict.threshold,
        scores=", ".join(one.score or "not validated" for one in metadata),
        commit=first.commit or "unknown",
        torch=first.torch,
        images=images,
        rows="\n".join(
            f"| {one.name} | {_differences(one.from_module)} | {_differences(one.from_pipeline)} "
            f"| {1000 * one.seconds:.0f} |"
            for one in comparisons
        ),
    )


def _differences(values: tuple[float, float]) -> str:
    return f"{values[0]:.1e} ({values[1]:.1e})"
