"""Spiking neural networks with learnable synaptic delays.

The method of Hammouamri, Khalfaoui-Hassani and Masquelier, "Learning Delays in Spiking Neural
Networks using Dilated Convolutions with Learnable Spacings", ICLR 2024, arXiv 2306.17670.
"""

import contextlib
import ctypes
import sys

# torch brings an OpenMP runtime of its own, numba takes the system's; two runtimes fight for the
# cores and can make training ten times slower. Loaded first, the system's serves both.
if sys.platform == "linux" and "torch" not in sys.modules:
    with contextlib.suppress(OSError):  # not installed: see ops/compiled.py
        ctypes.CDLL("libgomp.so.1")
