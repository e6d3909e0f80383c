"""Recordings from a microphone, for networks that take log-mel frames."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.data.speech import RATE
from snn_delays.deploy.frontend import LogMelFrames
from snn_delays.deploy.network import FrontEnd
from snn_delays.deploy.recordings import Recording
from snn_delays.errors import UserError, message_of

log = logging.getLogger(__name__)

NAME = "microphone"
BEFORE = RATE // 10  # samples of a recording before the sound that begins it
FULL_SCALE = 32768


class Microphone:
    """Cuts what a microphone hears into recordings that begin with sound.

    Args:
        front: the network's front end, of kind "log_mel".
        level: amplitude from which on a sample is sound, in dB of full scale.
    """

    def __init__(self, front: FrontEnd, level: float) -> None:
        self._front, self._loud = front, FULL_SCALE * 10 ** (level / 20)
        self._blocks: queue.SimpleQueue[NDArray[np.int16]] = queue.SimpleQueue()
        self._rest = np.zeros(0, np.int16)
        self._stopped = False

    def hear(self, block: NDArray[np.int16], frames: int, time: Any, status: Any) -> None:
        """Take samples [N, 1] at 16 kHz; the callback of the sound library's thread."""
        if status:
            log.warning("Samples from the microphone were lost (%s).", status)
        self._blocks.put(block[:, 0].copy())

    def stop(self) -> None:
        """Note that no more samples come."""
        self._stopped = True
        self._blocks.put(self._rest[:0])

    def recordings(self) -> Iterator[Recording]:
        """One recording after another; each must be read to its end before the next.

        Raises:
            UserError: the microphone stopped.
        """
        for number in itertools.count():
            self._wait_for_sound()
            yield Recording(NAME, number, self._frames())

    def _wait_for_sound(self) -> None:
        """Drop samples up to a moment before the first loud one."""
        while not (is_loud := np.abs(self._rest.astype(np.int32)) >= self._loud).any():
            self._rest = np.concatenate([self._rest[-BEFORE:], self._next()])
        self._rest = self._rest[max(0, int(is_loud.argmax()) - BEFORE) :]

    def _frames(self) -> Iterator[NDArray[Any]]:
        frames = LogMelFrames(self._front)
        while missing := frames.missing:
            taken, self._rest = self._rest[:missing], self._rest[missing:]
            yield from frames.add(taken)
            if frames.missing:
                self._rest = self._next()

    def _next(self) -> NDArray[np.int16]:
        """The samples that have come since the last call; waits for some."""
        blocks: list[NDArray[np.int16]] = []
        while not blocks or not self._blocks.empty():
            if self._stopped and self._blocks.empty():
                raise UserError("The microphone stopped: check that it is plugged in.")
            blocks.append(self._blocks.get())
        return np.concatenate(blocks)


@contextlib.contextmanager
def listening(front: FrontEnd, level: float, device: str | None) -> Iterator[Microphone]:
    """A context in which a microphone listens.

    Args:
        front: the network's front end.
        level: see ``Microphone``.
        device: name or number of the input device; None: the system's default.

    Raises:
        UserError: the network does not take log-mel frames, the sound library is missing, or there
            is no such microphone.
    """
    if front.kind != "log_mel":
        raise UserError(
            "The network takes spikes: live needs one that takes log-mel frames, since the cochlea"
            " model needs the whole recording."
        )
    sounddevice = _library()
    microphone = Microphone(front, level)
    with contextlib.ExitStack() as stack:
        try:
            stream = sounddevice.InputStream(
                samplerate=RATE,
                channels=1,
                dtype="int16",
                device=int(device) if device is not None and device.isdigit() else device,
                callback=microphone.hear,
                finished_callback=microphone.stop,
            )
            stack.enter_context(stream)
        except (sounddevice.PortAudioError, ValueError) as error:
            raise UserError(
                f"No microphone can be opened at {RATE} Hz ({message_of(error)}): python -m"
                " sounddevice lists devices; choose one by input=<number>."
            ) from error
        yield microphone


def _library() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise UserError(
            "Listening needs the package sounddevice: pip install 'snn-delays[audio-live]'."
        ) from error
    except OSError as error:
        raise UserError(
            f"The package sounddevice does not find the library PortAudio ({message_of(error)}):"
            " install it, on Debian and Ubuntu by apt install libportaudio2."
        ) from error
    return sounddevice
