"""Choice of device, precision and determinism."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor

from snn_delays.errors import UserError
from snn_delays.runtime.distributed import ProcessInfo, process_info

TENSOR_CORES = (8, 0)  # lowest compute capability whose tensor cores take TF32 and bfloat16


def pick_device(name: str) -> torch.device:
    """The device for "auto" (the GPU where there is one), "cpu" or "cuda".

    Raises:
        UserError: "cuda" without a GPU, or fewer GPUs than ranks on this machine.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no GPU here; use device=cpu or device=auto.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cuda":
        return torch.device(name)
    # with its index, since "cuda" alone means another GPU in another thread
    device = torch.device(name, _take_gpu(process_info()))
    _wake_autograd(device)
    return device


def _wake_autograd(device: torch.device) -> None:
    """Let autograd's thread create its CUDA context before its first matrix product.

    torch warns of a matrix product or FFT in a thread without a CUDA context.
    """
    torch.ones((), device=device, requires_grad=True).exp().backward()


def _take_gpu(here: ProcessInfo) -> int:
    """The index of this rank's GPU; each rank on a machine has its own."""
    if here.world_size == 1:
        return torch.cuda.current_device()
    count = torch.cuda.device_count()
    if here.local_rank >= count:
        raise UserError(
            f"This machine has {count} GPUs for more processes: start as many"
            f" (--nproc-per-node={count}), or use device=cpu."
        )
    torch.cuda.set_device(here.local_rank)
    return here.local_rank


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that would have no effect on a device, or be emulated.

    Raises:
        UserError: "tf32" on a CPU; "tf32" or "mixed" on a GPU without tensor cores for it.
    """
    if precision == "tf32" and device.type == "cpu":
        raise UserError("precision=tf32 needs a GPU, and this run is on the CPU; use float32.")
    if precision not in ("tf32", "mixed") or device.type != "cuda":
        return
    capability = torch.cuda.get_device_capability(device)
    if capability < TENSOR_CORES:
        raise UserError(
            f"precision={precision} needs a GPU of compute capability 8.0 or later (Ampere), and"
            f" {torch.cuda.get_device_name(device)} has {'.'.join(map(str, capability))}; use"
            " float32."
        )


def pick_dtype(precision: str) -> torch.dtype:
    """The type of parameters and activations."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context for a training step; with ``precision=mixed`` it multiplies in bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "mixed")


@contextlib.contextmanager
def tensor_cores(precision: str) -> Iterator[None]:
    """A context in which a GPU multiplies float32 in TF32 only if ``precision`` is tf32 or mixed.

    By default torch uses TF32 for convolutions.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision in ("tf32", "mixed")
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextlib.contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """A context in which torch refuses algorithms that are not deterministic, if ``on``."""
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
    if not on or torch.are_deterministic_algorithms_enabled():
        yield  # without the call below, which imports torch's compiler: 100 MB and a second
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def bring(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device, without waiting for a GPU."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
