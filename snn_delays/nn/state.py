"""State that neurons, filters and dropout have from step to step and keep after a pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spikingjelly.activation_based import base, neuron
from torch import Tensor, nn


def stateful(network: nn.Module) -> list[Any]:
    """The modules that have state.

    SpikingJelly's ``reset_net`` looks for them at a network's first call alone, and would leave out
    a part that was put in later.
    """
    return [module for module in network.modules() if hasattr(type(module), "reset")]


def reset(modules: Iterable[Any]) -> None:
    """Return to silence."""
    for module in modules:
        module.reset()


def detach(modules: Iterable[Any]) -> None:
    """Let go of a pass's graph, which would keep its memory and could not be copied.

    SpikingJelly's ``detach_net`` changes tensors in place, and these are part of the graph.
    """
    for module in modules:
        if isinstance(module, base.MemoryModule):
            for name, value in module.named_memories():
                if isinstance(value, Tensor):
                    setattr(module, name, value.detach())
        if isinstance(module, neuron.BaseNode) and isinstance(module.v_seq, Tensor):
            module.v_seq = module.v_seq.detach()
