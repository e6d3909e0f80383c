"""Whether torch must see every operation, in which case this package's own kernels must not run."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode


def transformed() -> bool:
    """Whether a transform of torch.func is active, such as vmap or grad."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


def watcher() -> str | None:
    """A clause that names what observes every operation of torch now, or None.

    A trace would miss a kernel that reads memory directly, and a symbolic tensor has no memory.
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
