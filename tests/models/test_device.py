"""The precision suits the device, and the reason is logged."""

import pytest
import torch

from pipeline.errors import UserError
from pipeline.models.device import choose_device, to_device


def test_old_gpus_get_fp16_with_gradient_scaling(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    chosen = choose_device()
    assert (chosen.precision, chosen.needs_grad_scaler, chosen.is_cuda) == ("fp16", True, True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert choose_device().precision == "bf16"
    assert not choose_device().needs_grad_scaler
    assert choose_device("float32").precision == "float32"


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bf16"),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, "bf16"),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel(R) Xeon(R)"}, "float32"),
        ({}, "float32"),
    ],
)
def test_processors_get_bf16_only_with_fast_instructions_for_it(monkeypatch, capabilities, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_device().precision == precision


def test_reason_is_logged(caplog):
    with caplog.at_level("INFO"):
        choose_device("float32")
    assert "set by the recipe" in caplog.text or "no fast bf16" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_fp16_needs_a_gpu():
    with pytest.raises(UserError, match=r"train.precision: fp16 needs a CUDA device, and this is \w+; use auto"):
        choose_device("fp16")


def test_images_are_channels_last_on_the_device():
    images = to_device(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), choose_device("float32"))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == torch.uint8
