"""Export an ensemble as an ONNX file and as a program of torch.export, and check both against its own prediction."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data.images import read_image
from pipeline.errors import UserError
from pipeline.files import atomic_write, write_text
from pipeline.inference.ensemble import Ensemble, EnsembleMember, load_ensemble_member
from pipeline.inference.export_card import Comparison, export_card
from pipeline.inference.exported import ExportedEnsemble
from pipeline.inference.onnx_model import REQUIREMENTS, open_session
from pipeline.inference.postprocess import upsample
from pipeline.models.checkpoint import read_weights_metadata
from pipeline.models.device import choose_device
from pipeline.recipe import Flip, recipe_to_toml
from pipeline.weights import find_weights

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest mean fraction of the pixels in which the masks of an export may differ from those of the module."""


def export_model(source: Path, images: Sequence[Path], out: Path, flips: Sequence[Flip] | None = None) -> list[Path]:
    """Write an ONNX file, a torch.export program and a card; the files get their names only if they predict the same.

    Args:
        source: a weights file, a run, or a runs folder, whose folds are averaged.
        images: images to compare on.
        out: the ONNX file to write; the others have the suffixes .pt2 and .md.
        flips: views to average; those of the recipe if None.

    Returns:
        The files written.

    Raises:
        UserError: there are no weights, packages are missing, or an export predicts other masks.
    """
    weights = find_weights(source)
    recipe, metadata = read_weights_metadata(weights[0])
    member, of_folds = load_ensemble_member(weights, choose_device("float32"), recipe)
    ensemble = member.ensemble
    assert isinstance(ensemble, Ensemble)
    views = tuple(flips if flips is not None else recipe.predict.flips)
    models = [model.cpu().to(memory_format=torch.contiguous_format) for model in ensemble.models]
    module = ExportedEnsemble(models, views, ensemble.classes, recipe.model_size).eval()
    strings = {"recipe": recipe_to_toml(recipe), **asdict(metadata), "flips": json.dumps(views)}
    strings["folds"] = json.dumps([one.fold for one in of_folds])
    if ensemble.classes.image_channels != 3:
        what = f"takes {ensemble.classes.image_channels} channels, and an export takes RGB"
        raise UserError(weights[0], what, "predict with `make predict`")
    program_path, card = out.with_suffix(".pt2"), out.with_suffix(".md")
    with ExitStack() as stack:
        onnx_file, program_file = (stack.enter_context(atomic_write(path)) for path in (out, program_path))
        _write_programs(module, onnx_file, program_file, strings)
        comparisons = _compare(module, onnx_file, program_file, images, member, views)
        for comparison in comparisons[1:]:
            if comparison.from_module[0] > TOLERANCE:
                what = f"its masks differ from the model's in {comparison.from_module[0]:.1e} of the pixels"
                raise UserError(comparison.name, what, f"export with other versions of the packages of {REQUIREMENTS}")
    write_text(card, export_card(out.name, recipe, of_folds, views, len(images), comparisons))
    return [out, program_path, card]


def _write_programs(module: ExportedEnsemble, onnx_file: Path, program_file: Path, strings: Mapping[str, str]) -> None:
    """Write both programs for any batch and size; float32."""
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch needs it
    except ImportError as error:
        fix = f".venv/bin/python -m pip install -r {REQUIREMENTS}"
        raise UserError(str(error.name), "is not installed", f"install the packages of {REQUIREMENTS}: {fix}") from None
    for library in ("onnxscript", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.WARNING)  # they report every constant that they merge
    batch, height, width = (torch.export.Dim(name, min=2, max=2**16) for name in ("batch", "height", "width"))
    example = torch.zeros(2, 3, 321, 485, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(module, (example,), dynamic_shapes=({0: batch, 2: height, 3: width},))
        torch.export.save(program, program_file)
        names: dict[str, Any] = {"input_names": ["image"], "output_names": ["probability"]}
        written = torch.onnx.export(program, (example,), dynamo=True, verbose=False, **names)
    assert written is not None
    model = written.model_proto
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, dict(strings))
    onnx.save(model, str(onnx_file))


def _compare(
    module: ExportedEnsemble,
    onnx_file: Path,
    program_file: Path,
    images: Sequence[Path],
    member: EnsembleMember,
    views: Sequence[Flip],
) -> list[Comparison]:
    """Compare the module in torch, the ONNX file and the program on images; the module comes first."""
    session, program = open_session(onnx_file), torch.export.load(program_file).module()
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "torch": module,
        "onnxruntime": lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0]),
        "torch.export": program,
    }
    threshold, size = member.recipe.predict.threshold, member.recipe.model_size
    differences: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    ours = ExportedEnsemble(list(module.models), views, module.classes, size)
    with torch.inference_mode():
        for path in images:
            image = _to_tensor(read_image(path))
            small = ours(_to_tensor(read_image(path, size)))
            expected = upsample(small, image.shape[-2:]) >= threshold
            masks: dict[str, Tensor] = {}
            for name, way in ways.items():
                started = time.perf_counter()
                probability = way(image)
                seconds[name].append(time.perf_counter() - started)
                masks[name] = probability >= threshold
                pair = (masks[name] != masks["torch"]), (masks[name] != expected)
                differences[name].append((float(pair[0].float().mean()), float(pair[1].float().mean())))
    return [
        Comparison(name, _summary(pairs, 0), _summary(pairs, 1), float(np.median(seconds[name])))
        for name, pairs in differences.items()
    ]


def _summary(pairs: Sequence[tuple[float, float]], index: int) -> tuple[float, float]:
    values = [pair[index] for pair in pairs]
    return float(np.mean(values)), max(values)


def _to_tensor(image_hwc: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image_hwc.transpose(2, 0, 1)))[None]
