"""Speed and memory, measured beside the numbers that they stand for; see README.md."""

import snn_delays  # noqa: F401  before torch, so that torch and numba share their threads
