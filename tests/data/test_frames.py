"""Frames against an independent plain computation, exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_delays.data.frames import to_frames
from tests.conftest import FSDD, needs_fsdd


def plain_frames(times, units, step_ms, channels, units_per_channel):
    """One spike at a time, in Python's own numbers."""
    t = [1000.0 * float(s) for s in times]
    first = min(t)
    t = [v - first for v in t]
    n = max(1, math.ceil(max(t) / step_ms))
    frames = np.zeros((n, channels), int)
    for v, unit in zip(t, units, strict=True):
        frames[min(math.floor(v / step_ms), n - 1), int(unit) // units_per_channel] += 1
    return frames


@settings(deadline=None)  # a step of 0.1 ms makes 20,000 frames
@given(
    spikes=st.lists(
        st.tuples(st.floats(0, 2, width=16), st.integers(0, 699)), min_size=1, max_size=50
    ),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    step_ms=st.sampled_from([0.1, 0.2, 1.0, 1.1, 4.0, 10.0, 33.3]),
    units_per_channel=st.sampled_from([1, 5, 7, 50]),
)
def test_frames_equal_the_plain_computation(spikes, dtype, step_ms, units_per_channel) -> None:
    times = np.array([t for t, _ in spikes], dtype)
    units = np.array([u for _, u in spikes], np.uint16)
    channels = -(-700 // units_per_channel)
    frames = to_frames(
        times, units, step_ms=step_ms, channels=channels, units_per_channel=units_per_channel
    )
    expected = plain_frames(times, units, step_ms, channels, units_per_channel)
    np.testing.assert_array_equal(frames, expected)
    assert frames.sum() == len(spikes)


@pytest.mark.parametrize("step_ms", [0.1, 0.2, 1.1, 2.2, 10.0])
def test_times_on_the_borders_of_steps(step_ms) -> None:
    times, units = np.arange(300) / 1000, np.zeros(300, int)
    frames = to_frames(times, units, step_ms=step_ms, channels=1, units_per_channel=700)
    np.testing.assert_array_equal(frames, plain_frames(times, units, step_ms, 1, 700))


@pytest.mark.parametrize(("unit", "second"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("arithmetic", ["float64", "float16"])
def test_whole_milliseconds_stay_whole_in_every_unit(unit, second, arithmetic) -> None:
    times = np.arange(300)
    frames = to_frames(
        times * (second // 1000), np.zeros(300, int), step_ms=10, channels=1,
        units_per_channel=1, time_unit=unit, arithmetic=arithmetic,
    )  # fmt: skip
    assert frames[:, 0].tolist() == [10] * 30


def test_the_last_event_falls_into_the_last_frame() -> None:
    times, units = np.array([0.0, 0.02]), np.array([0, 0])
    frames = to_frames(times, units, step_ms=10, channels=1, units_per_channel=700)
    assert frames[:, 0].tolist() == [1, 1]


def authors_frames(times16, units, step):
    """The authors' arithmetic, all in float16, without their loop over frames."""
    t = 1000 * times16
    t = t - t[0]
    assert t.dtype == np.float16
    n = math.ceil(t[-1] / step)
    frames = np.zeros((n, 700), int)
    for frame, unit in zip(t // step, units, strict=True):
        frames[min(int(frame), n - 1), unit] += 1
    return frames.reshape(n, 140, 5).sum(2)


@needs_fsdd
@pytest.mark.parametrize("arithmetic", ["float64", "float16"])
def test_frames_of_real_speech(arithmetic) -> None:
    import h5py

    moved = total = 0
    with h5py.File(FSDD / "fsdd_train.h5") as file:
        for i in range(0, 1800, 150):
            times, units = file["spikes/times"][i], file["spikes/units"][i]
            frames = to_frames(
                times, units, step_ms=10, channels=140, units_per_channel=5, arithmetic=arithmetic
            )
            plain = plain_frames(times, units, 10.0, 140, 5)
            expected = plain if arithmetic == "float64" else authors_frames(times, units, 10)
            np.testing.assert_array_equal(frames, expected)
            if len(frames) == len(plain):
                moved += np.abs(frames - plain).sum() // 2
                total += frames.sum()
    assert (moved == 0) if arithmetic == "float64" else (0.001 < moved / total < 0.03)
