"""Number formats: what a GPU may round."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from snn_delays.errors import UserError
from snn_delays.runtime.device import check_precision, tensor_cores


@pytest.mark.parametrize(
    ("precision", "rounds"), [("float32", False), ("tf32", True), ("mixed", True)]
)
def test_tensor_cores_are_used_where_asked_for(precision, rounds) -> None:
    def now() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = now()
    with tensor_cores(precision):
        assert now() == (rounds, rounds)
    assert now() == before


@pytest.mark.parametrize("precision", ["float32", "tf32", "mixed", "float64"])
@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
def test_a_gpu_without_the_tensor_cores_is_refused(precision, capability, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    device = torch.device("cuda", 0)
    if capability >= (8, 0) or precision in ("float32", "float64"):
        check_precision(precision, device)
        return
    words = rf"precision={precision} needs .* 8\.0 or later .* Tesla T4 has 7\.5; use float32\."
    with pytest.raises(UserError, match=words):
        check_precision(precision, device)


@pytest.mark.gpu(kernels=False)
def test_autograds_first_product_on_a_gpu_warns_of_nothing() -> None:
    code = """
import torch
from snn_delays.runtime.device import pick_device
x = torch.ones(2, 2, device=pick_device("cuda"), requires_grad=True)
torch.autograd.grad(x @ x, x, torch.ones_like(x))
torch.cuda.synchronize()
"""
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True)
