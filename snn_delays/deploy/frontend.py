"""Log-mel frames of recordings, whole ones and ones that are still being made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.data.sources import to_float
from snn_delays.data.speech import RATE, log_mel
from snn_delays.deploy.network import FrontEnd

# Samples at 16 kHz from the centre of a frame to the last one that it depends on, and that one:
# half of the window at 8 kHz, whose first sample weighs nothing, and the low-pass filter.
LOOK_AHEAD = 2 * 127 + 12 + 1


def samples_of(front: FrontEnd) -> int:
    """Length of a recording in samples at 16 kHz."""
    return round((front.seconds or 0) * RATE)


def log_mel_frames(wave: NDArray[np.int16], front: FrontEnd) -> NDArray[np.float32]:
    """The frames [T, I] of a recording's samples, as training makes them."""
    return np.asarray(log_mel(to_float(wave[None]), step_ms=front.step_ms)[0].numpy())


class LogMelFrames:
    """The frames of a recording, each as soon as the samples that it depends on were heard.

    That is 16.7 ms after the frame's centre. The frames of the whole recording are computed anew
    whenever samples come, with zeros in the place of later ones, which leaves the complete frames
    equal to the bit to ``log_mel_frames``.

    Args:
        front: the network's front end, of kind "log_mel".
    """

    def __init__(self, front: FrontEnd) -> None:
        self._front = front
        self._wave = np.zeros(samples_of(front), np.int16)
        self._heard = self._given = 0

    @property
    def missing(self) -> int:
        """Number of samples up to the recording's end."""
        return len(self._wave) - self._heard

    def add(self, samples: NDArray[np.int16]) -> NDArray[Any]:
        """Take samples at 16 kHz, no more than are missing; returns the new frames, [N, I]."""
        self._wave[self._heard : self._heard + len(samples)] = samples
        self._heard += len(samples)
        if self.missing and self._complete == self._given:
            return np.zeros((0, self._front.channels), np.float32)
        frames = log_mel_frames(self._wave, self._front)
        first = self._given
        self._given = self._complete if self.missing else len(frames)
        return frames[first : self._given]

    @property
    def _complete(self) -> int:
        """Number of frames that depend on no later sample."""
        hop = round(RATE * self._front.step_ms / 1000)  # a whole number: see ``log_mel``
        return max(0, (self._heard - LOOK_AHEAD) // hop + 1)
