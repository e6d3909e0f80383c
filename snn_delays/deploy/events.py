"""Frames of spikes that come one after another; ``data.frames`` makes them of whole recordings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.data.frames import milliseconds
from snn_delays.data.sources import MOST_STEPS
from snn_delays.deploy.network import FrontEnd
from snn_delays.errors import UserError

Frame = NDArray[np.int64]


class EventFrames:
    """Turns events, in the order of their times, into frames [I], each as soon as it is complete.

    The clock starts at the first event, and a frame is complete once an event comes that is later
    than its end. ``data.frames.to_frames`` counts events exactly at the end of a recording in the
    frame before, if that end is the edge of two frames, and whether they are the last ones is known
    at the next event.

    Args:
        front: the network's front end, of kind "spikes".
    """

    def __init__(self, front: FrontEnd) -> None:
        self.front = front
        self._start = self._last = 0.0
        self._number = -1  # of the frame that is being filled; no event came yet
        self._counts, self._on_edge = self._silence(), self._silence()  # of it, and at its end

    def add(self, time: float, unit: int) -> Iterator[Frame]:
        """Take an event, and yield the frames that it completes.

        Args:
            time: in the front end's unit of time, not before that of the last event.
            unit: in [0, units).

        Raises:
            UserError: the time is before that of the last event or not finite, or there is no such
                unit, or the time is more than ``MOST_STEPS`` steps after the last event's.
        """
        ms = self._milliseconds(time)
        self._check(time, ms, unit)
        if self._number < 0:
            self._start, self._number = ms, 0
        index, edges = self._place(ms)
        if index - self._number > MOST_STEPS:
            raise UserError(
                f"An event at {time:g} {self.front.time_unit} comes more than {MOST_STEPS:,} steps"
                f" of {self.front.step_ms:g} ms after the one before: give times in"
                f" {self.front.time_unit}."
            )
        is_on_edge = index >= max(1, edges)
        if ms > self._last and self._on_edge.any():
            yield self._next(self._on_edge)
            self._on_edge = self._silence()
        self._last = ms
        while self._number < index - is_on_edge:
            yield self._next(self._silence())
        (self._on_edge if is_on_edge else self._counts)[unit // self.front.units_per_channel] += 1

    def end(self) -> Frame:
        """The last frame.

        Raises:
            UserError: no event came.
        """
        if self._number < 0:
            raise UserError("The input holds no event.")
        return self._counts + self._on_edge

    def _silence(self) -> Frame:
        return np.zeros(self.front.channels, np.int64)

    def _next(self, counts: Frame) -> Frame:
        """Begin the next frame with these counts; returns the one before."""
        before, self._counts = self._counts, counts
        self._number += 1
        return before

    def _milliseconds(self, time: float) -> Any:
        number = np.dtype(self.front.arithmetic)
        return milliseconds(np.array([time]), self.front.time_unit, number)[0]

    def _place(self, ms: Any) -> tuple[int, int]:
        """Number of the frame that begins at a time or before it; number of frames up to there."""
        t, step = ms - self._start, ms.dtype.type(self.front.step_ms)
        index = t // step if self.front.arithmetic == "float16" else np.floor(t / step)
        return int(index), int(np.ceil(t / step))

    def _check(self, time: float, ms: Any, unit: int) -> None:
        if not np.isfinite(ms):
            raise UserError(f"An event has the time {time:g}: times must be finite.")
        if self._number >= 0 and ms < self._last:
            raise UserError(
                f"An event at {time:g} {self.front.time_unit} comes after a later one: sort the"
                " events by time."
            )
        if not 0 <= unit < self.front.units:
            raise UserError(f"An event has the unit {unit}, outside 0..{self.front.units - 1}.")
