"""Whether torch must see every operation; then none of this package's own kernels may run."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode


def transformed() -> bool:
    """Whether a transform of torch.func runs: vmap, grad and their like."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


def watcher() -> str | None:
    """What follows every operation of torch at this moment, in words, or None.

    A kernel that reads memory would be missing in a trace, and a tensor that stands for others has
    no memory to read.
    """
    if torch.jit.is_tracing():
        return "torch.jit traces it"
    if torch.compiler.is_compiling():
        return "torch.compile or torch.export traces it"
    if transformed():
        return "a transform of torch.func runs it"
    if _get_current_dispatch_mode() is not None:
        return "a dispatch mode, such as an operation counter, watches it"
    return None
