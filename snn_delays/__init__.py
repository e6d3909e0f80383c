"""Spiking neural networks with learnable synaptic delays.

The method of Hammouamri, Khalfaoui-Hassani and Masquelier, "Learning Delays in Spiking Neural
Networks using Dilated Convolutions with Learnable Spacings", ICLR 2024, arXiv 2306.17670.
"""

import contextlib
import ctypes
import os
import sys

# torch brings an OpenMP runtime of its own, numba takes the system's; two runtimes fight for the
# cores and can make training ten times slower. Loaded first, the system's serves both.
if sys.platform == "linux" and "torch" not in sys.modules:
    with contextlib.suppress(OSError):  # not installed: see runtime/numba_jit.py
        ctypes.CDLL("libgomp.so.1")

# Tensors come and go at every step, and each costs a fault per page: a fifth of a step without
# delays. Torch takes pages of 2 MB where the system lends them, and looks here at its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
