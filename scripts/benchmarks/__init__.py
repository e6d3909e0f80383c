"""Benchmarks of speed and memory that check their numbers first; see README.md."""

import snn_delays  # noqa: F401  before torch, so that torch and numba share their threads
