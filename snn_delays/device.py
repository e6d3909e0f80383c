"""Where to compute, and in which numbers."""

from __future__ import annotations

import torch

from snn_delays.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device for "auto" (the GPU where there is one), "cpu" or "cuda".

    Raises:
        UserError: a GPU is asked for where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no GPU here; use device=cpu or device=auto.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def pick_dtype(precision: str) -> torch.dtype:
    """The number format of parameters and activations."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of a training step: with ``precision=mixed``, products in bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "mixed")
