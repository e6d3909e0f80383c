"""The stream equals the engine in numpy, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from snn_delays.deploy import plain
from snn_delays.deploy.stream import Stream
from tests.deploy.networks import OPTIONS, deployed, name_of, recording


def outputs_of(stream: Stream, frames: Any) -> tuple[list[Any], Any]:
    """Every layer's output in every step, [S, O], and the last decision."""
    stream.reset()
    steps = []
    for frame in frames:
        stream.step(frame)
        steps.append([output.copy() for output in stream.outputs])
    decision = stream.finish()
    steps.append(stream.outputs)
    return [np.concatenate(parts) for parts in zip(*steps, strict=True)], decision


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_equals_plain_to_the_bit(options, dtype) -> None:
    _, network = deployed(options, dtype=dtype)
    stream = Stream(network)
    for seed, real, steps in ((1, False, 17), (2, True, 23)):
        frames = recording(seed, real=real, steps=steps).astype(network.dtype)
        seen: list[list[Any]] = [[] for _ in network.layers]
        scores = plain.run(network, frames, lambda n, t, s, to=seen: to[n].append(s.output))
        outputs, decision = outputs_of(stream, frames)
        for mine, theirs in zip(outputs, seen, strict=True):
            np.testing.assert_array_equal(mine[: len(theirs)], np.stack(theirs))
            assert not mine[len(theirs) :].any()
        np.testing.assert_allclose(decision.scores, scores, rtol=1e-12, atol=0)
        assert decision.number == scores.argmax()
        assert decision.step == network.ends(steps)[-1]
