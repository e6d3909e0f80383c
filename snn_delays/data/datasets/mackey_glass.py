"""Prediction of a chaotic series: at every step, its value some steps later.

Mackey and Glass, "Oscillation and chaos in physiological control systems", Science 197, 1977:

    dx/dt = beta x(t - tau) / (1 + x(t - tau)^n) - gamma x(t),  beta 0.2, gamma 0.1, n 10

A recording is a stretch of the series from a start of its own, sampled once in a unit of time. At
every step one unit fires: the unit in whose bin the value lies (a place code). Targets are values
``horizon`` steps later, less ``CENTRE`` and over ``SCALE``; the first ``washout`` steps have none,
for a network to hear the series first.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snn_delays.config import Config, DataConfig, MackeyGlassConfig
from snn_delays.data.formats.spike_file import write_spikes
from snn_delays.data.frame_cache import cache_folder
from snn_delays.data.made import SPLITS, made_files
from snn_delays.data.sources import Source, spike_sources

VERSION = 1
BETA, GAMMA, POWER = 0.2, 0.1, 10
SUBSTEPS = 10  # of the integration, in a unit of time
TRANSIENT = 300  # units of time from the constant history until the series is on its attractor
STARTS = (0.5, 1.3)  # range of the constant histories
CENTRE, SCALE = 0.93, 0.23  # about mean and standard deviation with the tau of 17
RANGE = (0.2, 1.5)  # values of the first and the last unit; further ones count as these


def sources(config: Config, fresh: bool) -> dict[str, Source]:
    """Training, validation and test data, made where they are not there yet."""
    data = config.data
    settings = {"units": data.units, "step_ms": data.step_ms, **asdict(data.mackey_glass)}
    files = made_files(
        "mackey_glass",
        settings,
        VERSION,
        cache_folder(data),
        lambda path, split: _write(path, split, data),
    )
    return spike_sources(files, config)


def series(
    starts: NDArray[np.float64], steps: int, tau: float, substeps: int = SUBSTEPS
) -> NDArray[np.float64]:
    """Solutions at the times 0, 1, ..., by the classical Runge-Kutta method of fourth order.

    The delayed value between two points of the grid is that of the cubic through their values and
    slopes.

    Args:
        starts: [N], the constant value of each solution up to time 0.
        steps: number of times T.
        tau: delay of the equation, a multiple of 1 / substeps.
        substeps: steps of the integration in a unit of time.

    Returns:
        [T, N].
    """
    h, lag = 1 / substeps, round(tau * substeps)
    total = (steps - 1) * substeps + 1
    x_SN = np.empty((lag + total, len(starts)))
    slope_SN = np.zeros_like(x_SN)  # 0 in the constant history
    x_SN[: lag + 1] = starts
    slope_SN[lag] = _slope(x_SN[lag], x_SN[0])
    for now in range(lag, lag + total - 1):
        x, before, after = x_SN[now], x_SN[now - lag], x_SN[now - lag + 1]
        # at time 0 the slope jumps from the history's 0
        slope_after = 0.0 if now - lag + 1 == lag else slope_SN[now - lag + 1]
        middle = (before + after) / 2 + h / 8 * (slope_SN[now - lag] - slope_after)
        k1 = _slope(x, before)
        k2 = _slope(x + h / 2 * k1, middle)
        k3 = _slope(x + h / 2 * k2, middle)
        k4 = _slope(x + h * k3, after)
        x_SN[now + 1] = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        slope_SN[now + 1] = _slope(x_SN[now + 1], after)
    return x_SN[lag::substeps]


def _slope(x: NDArray[np.float64], delayed: NDArray[np.float64]) -> NDArray[np.float64]:
    return BETA * delayed / (1 + delayed**POWER) - GAMMA * x


def _write(path: Path, split: str, data: DataConfig) -> None:
    settings = data.mackey_glass
    samples, steps = getattr(settings, f"{split}_samples"), settings.steps
    rng = np.random.default_rng([settings.seed, SPLITS.index(split)])
    starts = rng.uniform(*STARTS, samples)
    x_TN = series(starts, TRANSIENT + steps + settings.horizon, settings.tau)[TRANSIENT:]
    seconds = (np.arange(steps) + 0.5) * data.step_ms / 1000
    recordings = ((seconds, place_code(x[:steps], data.units)) for x in x_TN.T)
    targets = [_targets(x, settings) for x in x_TN.T]
    labels = np.zeros(samples, np.int64)
    write_spikes(path, recordings, labels, ["series"], None, times=np.float64, targets=targets)


def place_code(x: NDArray[np.float64], units: int) -> NDArray[np.int64]:
    """The unit of each value, among so many that share ``RANGE`` in equal bins."""
    low, high = RANGE
    return np.clip((x - low) / (high - low) * units, 0, units - 1).astype(np.int64)


def _targets(x: NDArray[np.float64], settings: MackeyGlassConfig) -> NDArray[np.float64]:
    """The target of each step, NaN in the first ``washout``."""
    later = (x[settings.horizon :] - CENTRE) / SCALE
    later[: settings.washout] = np.nan
    return later
