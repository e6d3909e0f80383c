"""From spike times to frames of counts; no other module computes frames of spikes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # a second in each unit of time


def to_frames(
    times: NDArray[np.floating],
    units: NDArray[np.integer],
    *,
    step_ms: float,
    channels: int,
    units_per_channel: int,
    time_unit: str = "s",
    arithmetic: str = "float64",
    steps: int | None = None,
) -> NDArray[np.int64]:
    """Count the spikes of each time step and input channel; no spike is lost, order is irrelevant.

    With ``t`` the times in ms: ``t -= min(t)``, ``n = max(1, ceil(max(t) / step_ms))``,
    ``frame = min(floor(t / step_ms), n - 1)``, ``channel = unit // units_per_channel``.

    Args:
        times: spike times, [N], N > 0.
        units: [N].
        step_ms: length of a step.
        channels: number of input channels.
        units_per_channel: neighbouring units summed into one channel.
        time_unit: unit of the times, a key of ``SECOND``.
        arithmetic: "float64", or "float16" as in the authors' code, which moves about 0.8 % of
            SHD's spikes by one step.
        steps: number n of frames; the times then count from the first frame's start and lie in
            these frames. None: they count from the first spike, as above.

    Returns:
        [n, channels] counts.
    """
    number = np.dtype(arithmetic)
    t = milliseconds(times, time_unit, number)
    if steps is None:
        t -= t.min()
    step = number.type(step_ms)
    n = max(1, int(np.ceil(t.max() / step))) if steps is None else steps
    # "//" is not floor(t / step) in floating point; the authors' float16 code uses it.
    index = t // step if arithmetic == "float16" else np.floor(t / step)
    frame = np.minimum(index.astype(np.int64), n - 1)
    cell = frame * channels + (units // units_per_channel).astype(np.int64)
    return np.bincount(cell, minlength=n * channels).reshape(n, channels)


def milliseconds(
    times: NDArray[np.floating], unit: str, number: np.dtype[np.floating]
) -> NDArray[np.floating]:
    """Times in ms. Seconds are multiplied in the given precision, as in the authors' code; other
    units are rounded once, so that whole milliseconds stay whole."""
    if unit == "s":
        return times.astype(number) * number.type(1000)
    return (times / (SECOND[unit] / 1000)).astype(number)
