"""Speed and memory, measured beside the numbers that they stand for; see README.md."""

import snn_delays as snn_delays  # before torch, as the commands do: one OpenMP runtime for both
