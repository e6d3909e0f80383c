"""Frames of events one by one are those of whole recordings."""

from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as draw

from snn_delays.data.frames import to_frames
from snn_delays.deploy.events import EventFrames
from snn_delays.deploy.network import FrontEnd
from snn_delays.errors import UserError


def front(**more: Any) -> FrontEnd:
    return FrontEnd(
        "spikes", 10.0, 3, **{"units": 6, "units_per_channel": 2, "time_unit": "ms", **more}
    )


def frames_of(events: EventFrames, times: Any, units: Any) -> Any:
    frames = [f for time, unit in zip(times, units, strict=True) for f in events.add(time, unit)]
    return np.stack([*frames, events.end()])


@hypothesis.settings(max_examples=150, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    draw.lists(
        draw.tuples(
            draw.one_of(draw.integers(0, 20).map(lambda n: 5.0 * n), draw.floats(0, 100)),
            draw.integers(0, 5),
        ),
        min_size=1,
        max_size=12,
    ),
    draw.sampled_from(["ms", "s", "us"]),
    draw.sampled_from(["float64", "float16"]),
)
def test_equal_those_of_whole_recordings(spikes, unit, arithmetic) -> None:
    scale = {"ms": 1.0, "s": 1e-3, "us": 1e3}[unit]
    times, units = (np.array(column) for column in zip(*sorted(spikes), strict=True))
    times = times * scale
    want = to_frames(
        times, units, step_ms=10.0, channels=3, units_per_channel=2, time_unit=unit,
        arithmetic=arithmetic,
    )  # fmt: skip
    mine = frames_of(EventFrames(front(time_unit=unit, arithmetic=arithmetic)), times, units)
    np.testing.assert_array_equal(mine, want)


def test_frame_comes_once_a_later_event_does() -> None:
    events = EventFrames(front())
    assert list(events.add(100.0, 0)) == []
    assert list(events.add(110.0, 2)) == []  # the edge: perhaps the last event
    (first,) = events.add(110.5, 4)
    assert first.tolist() == [1, 0, 0]
    second, silent = events.add(131.0, 5)
    assert second.tolist() == [0, 1, 1]
    assert silent.tolist() == [0, 0, 0]
    assert events.end().tolist() == [0, 0, 1]


def test_impossible_events_are_refused() -> None:
    events = EventFrames(front())
    with pytest.raises(UserError, match="holds no event"):
        events.end()
    list(events.add(5.0, 0))
    with pytest.raises(UserError, match="An event at 4 ms comes after a later one: sort"):
        list(events.add(4.0, 0))
    with pytest.raises(UserError, match="at 1e\\+09 ms comes more than 100,000 steps of 10 ms"):
        list(events.add(1e9, 0))
    with pytest.raises(UserError, match="An event has the time nan"):
        list(events.add(float("nan"), 0))
    with pytest.raises(UserError, match=r"An event has the unit 6, outside 0\.\.5"):
        list(events.add(5.0, 6))
