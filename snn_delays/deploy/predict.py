"""What a deployed network says of recordings, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_delays.deploy.network import Deployed
from snn_delays.deploy.recordings import Recording
from snn_delays.deploy.stream import Decision, Stream
from snn_delays.errors import UserError


@dataclass(frozen=True)
class Prediction:
    """A decision on a recording. Times are in ms from its start.

    Attributes:
        file: the file.
        sample: number of the recording within the file, from 0.
        decision: the class and the scores.
        decided_at_ms: when a stream of this recording would have decided so.
        leads_since_ms: when this class took the lead that it has kept.
        ended_at_ms: when the recording ended; None: it goes on.
        final: whether this is the decision on the whole recording, which ``evaluate`` counts.
    """

    file: str
    sample: int
    decision: Decision
    decided_at_ms: float
    leads_since_ms: float
    ended_at_ms: float | None
    final: bool


def predict(
    network: Deployed, recordings: Iterable[Recording], every_ms: float | None = None
) -> Iterator[Prediction]:
    """The predictions of recordings, in their order.

    Args:
        network: the deployed network.
        recordings: their frames must be those of the network's front end.
        every_ms: time between running decisions, a multiple of the step; None: none.

    Raises:
        UserError: ``every_ms`` is no multiple of the step, or the network has no stored length.
    """
    step_ms = network.front.step_ms
    every = None if every_ms is None else _steps(every_ms, step_ms)
    network.ends(1)  # refuses one without a stored length before anything is read
    stream = Stream(network)
    stream.step(np.zeros(network.front.channels))  # compiled before the first recording is read
    for recording in recordings:
        for decision, ended in _decisions(stream, recording.frames, every):
            yield Prediction(
                recording.file,
                recording.sample,
                decision,
                decision.step * step_ms,
                decision.since * step_ms,
                None if ended is None else ended * step_ms,
                stream.is_done,
            )


def _steps(every_ms: float, step_ms: float) -> int:
    steps = round(every_ms / step_ms)
    if steps < 1 or not np.isclose(steps * step_ms, every_ms, rtol=1e-9):
        raise UserError(f"every={every_ms:g} must be a multiple of the step, {step_ms:g} ms.")
    return steps


def _decisions(
    stream: Stream, frames: NDArray[Any] | Iterable[NDArray[Any]], every: int | None
) -> Iterator[tuple[Decision, int | None]]:
    """Every decision, and the number of frames of the input once it has ended."""
    if every is None and isinstance(frames, np.ndarray):
        yield stream.run(frames), len(frames)
        return
    stream.reset()
    ended = 0
    for ended, frame in enumerate(frames, 1):
        stream.step(frame)
        if every is not None and ended % every == 0:
            yield stream.peek(), None
    step = ended
    while not stream.is_done:
        decision = stream.finish(None if every is None else every - step % every)
        step = decision.step
        yield decision, ended
