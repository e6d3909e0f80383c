"""torch's Adam without torch's compiler, and for GPUs in pieces that the processors share."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

PIECES = 32  # pieces of a group, about; torch puts up to 36 tensors into one launch
SMALLEST = 4096  # numbers in the smallest piece
_step: Any = torch.optim.Adam.step


class Adam(torch.optim.Adam):
    """torch's Adam, bit for bit; its state, too, is torch's.

    Some methods of torch's optimisers import torch's compiler, torch._dynamo, to keep it from
    looking into them: 70 MB and a second, also in a process that compiles nothing. This class calls
    the methods as they are.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        _spare_compiler()
        super().__init__(*arguments, **options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters."""
        return getattr(_step, "__wrapped__", _step)(self, closure)


class AdamInPieces(Adam):
    """The fused Adam for GPUs.

    torch's kernel runs one program per 65,536 numbers of a tensor. A layer of the paper's sizes has
    about as many, so two or three programs would run on the 132 processors of an H100. This class
    gives the kernel the tensors in pieces: all its launches of an SHD step take 38 us there instead
    of 82 us.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        """The group's tensors, as torch's own puts them into the lists, in pieces."""
        found: bool = super()._init_group(group, *lists)
        params, grads, means, squares, _, steps = lists
        total = sum(p.numel() for p in params)
        if total <= SMALLEST:
            return found
        size = max(SMALLEST, 64 * -(-total // (64 * PIECES)))  # aligned, as wide loads want it
        counts = [-(-p.numel() // size) for p in params]
        # each piece counts its steps, which are one tensor's: the first piece's are kept
        more = torch.cat([step.expand(n - 1) for step, n in zip(steps, counts, strict=True)])
        others = more.split([n - 1 for n in counts])
        steps[:] = [s for step, rest in zip(steps, others, strict=True) for s in (step, *rest)]
        for tensors in (params, grads, means, squares):
            tensors[:] = [piece for t in tensors for piece in t.view(-1).split(size)]
        return found


def _spare_compiler() -> None:
    """Let torch call an optimiser's methods as they are, if nobody has imported the compiler."""
    for method in vars(torch.optim.Optimizer).values():
        function = getattr(method, "__wrapped__", None)
        if function is not None and "torch._dynamo" not in sys.modules:
            vars(function).setdefault("__dynamo_disable", function)
