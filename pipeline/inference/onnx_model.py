"""Predict with an ONNX file that `pipeline.inference.export` has written, through onnxruntime."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.models.checkpoint import parse_metadata
from pipeline.models.device import ComputeDevice
from pipeline.recipe import Flip

REQUIREMENTS = "requirements-export.txt"


class OnnxEnsemble:
    """The models and flips of an ONNX file, in the place of `pipeline.inference.ensemble.Ensemble`.

    Args:
        path: the file.

    Raises:
        UserError: it is missing, damaged or not an export of this pipeline; or onnxruntime is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.session = open_session(path)
        strings = self.session.get_modelmeta().custom_metadata_map
        if "flips" not in strings:
            raise UserError(path, "was not exported by this pipeline", "write it with `make export`")
        self.recipe, self.metadata = parse_metadata(strings, path)
        self.flips: Sequence[Flip] = json.loads(strings["flips"])
        self.classes = self.metadata.model_classes()
        self.device = ComputeDevice(torch.device("cpu"), "float32", "onnxruntime")

    def __call__(self, images: Tensor) -> Tensor:
        """Return the probabilities, see `predict`."""
        return self.predict(images)[0]

    def predict(self, images: Tensor) -> tuple[Tensor, None]:
        """Predict images (n, 3, h, w) uint8 RGB.

        Returns:
            (n, classes, h, w) float32, 0 to 1; and None, because the views without flips are not known.
        """
        (probability,) = self.session.run(None, {"image": images.contiguous().numpy()})
        return torch.from_numpy(probability), None


def open_session(path: Path) -> Any:
    """Open an ONNX file in onnxruntime, on a GPU if there is one.

    Raises:
        UserError: the file is missing or damaged, or onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        fix = f"install the packages of {REQUIREMENTS}: .venv/bin/python -m pip install -r {REQUIREMENTS}"
        raise UserError("onnxruntime", "is not installed", fix) from None
    if not path.exists():
        raise UserError(path, "no such file", "write it with `make export`, or name another file")
    try:
        return onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise UserError(path, f"cannot be read ({str(error)[:120]})", "export it again") from None
