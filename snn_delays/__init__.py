"""Spiking neural networks with learnable synaptic delays.

The method of Hammouamri, Khalfaoui-Hassani and Masquelier, "Learning Delays in Spiking Neural
Networks using Dilated Convolutions with Learnable Spacings", ICLR 2024, arXiv 2306.17670.

The names of ``__all__`` are what most scripts need; each is imported at its first use.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

# torch brings an OpenMP runtime of its own, numba takes the system's; two runtimes fight for the
# cores and can make training ten times slower. Loaded first, the system's serves both.
if sys.platform == "linux" and "torch" not in sys.modules:
    with contextlib.suppress(OSError):  # not installed: see runtime/numba_jit.py
        ctypes.CDLL("libgomp.so.1")

# Tensors come and go at every step, and each costs a fault per page: a fifth of a step without
# delays. Torch takes pages of 2 MB where the system lends them, and looks here at its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from snn_delays import deploy
    from snn_delays.analysis.trained_run import open_run
    from snn_delays.config import Config
    from snn_delays.deploy.network import load
    from snn_delays.nn import DelayedLinear, Network
    from snn_delays.training.checkpoint import load_run
    from snn_delays.training.run import train

__all__ = ["Config", "DelayedLinear", "Network", "deploy", "load", "load_run", "open_run", "train"]

_MODULES = {
    "Config": "config",
    "DelayedLinear": "nn",
    "Network": "nn",
    "deploy": "deploy",
    "load": "deploy.network",
    "load_run": "training.checkpoint",
    "open_run": "analysis.trained_run",
    "train": "training.run",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, since torch takes seconds to load."""
    if name not in _MODULES:
        from snn_delays.config.options import nearest

        message = f"Module {__name__!r} has no attribute {name!r}.{nearest(name, __all__)}"
        raise AttributeError(message, name=name)  # without obj, Python adds no hint of its own
    value = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    value = value if name == "deploy" else getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
