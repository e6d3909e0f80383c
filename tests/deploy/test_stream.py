"""The stream equals the engine in numpy, step by step."""

from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as draw

from snn_delays.deploy import plain
from snn_delays.deploy.network import Deployed, FrontEnd, Layer, Neurons
from snn_delays.deploy.stream import Stream
from snn_delays.errors import UserError
from snn_delays.runtime import numba_jit
from tests.deploy.networks import OPTIONS, deployed, evaluated, name_of, recording


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


def integer_network(seed: int) -> Deployed:
    """Two layers of small integers whose membranes go negative and overflow 16 bits."""
    rng = np.random.default_rng(seed)
    layers = []
    for inputs, outputs, theta in ((12, 9, rng.integers(20_000, 90_000, 9)), (9, 4, None)):
        shape = (outputs, inputs, 2)
        layers.append(
            Layer(
                rng.integers(-127, 128, shape).astype(np.int8),
                rng.integers(0, 5, shape).astype(np.int32),
                taps=5,
                extra_steps=2,
                neurons=Neurons("integer", {"keep": np.array(40_000, np.int32)}, theta),
                bias=rng.integers(-999, 999, outputs).astype(np.int32),
                shift=7,
                unit=np.full(outputs, 1e-4),
            )
        )
    front = FrontEnd("spikes", 10.0, 12)
    return Deployed((*layers,), "sum", 20, front, ("a", "b", "c", "d"), "int32")


def test_integer_network_equals_plain() -> None:
    network, frames = integer_network(0), recording(5)
    seen: list[list[Any]] = [[] for _ in network.layers]
    scores = plain.run(network, frames, lambda n, t, s: seen[n].append(s.output))
    outputs, decision = outputs_of(Stream(network), frames)
    for mine, theirs in zip(outputs, seen, strict=True):
        assert mine.dtype == np.int32
        np.testing.assert_array_equal(mine[: len(theirs)], np.stack(theirs))
    assert 0 < outputs[0].mean() < 1
    np.testing.assert_allclose(decision.scores, scores, rtol=1e-12)


@draw.composite
def options_of_models(pick: Any) -> dict[str, Any]:
    """Options that fit each other, of all that shape a deployed network."""
    delays = pick(draw.sampled_from(["learned", "fixed", "none", "dense"]))
    kinds = ["synaptic", *(["axonal", "dendritic"] if delays in ("learned", "fixed") else [])]
    return {
        "hidden": pick(draw.lists(draw.integers(1, 9), min_size=1, max_size=3)),
        "delays": delays,
        "delay_type": pick(draw.sampled_from(kinds)),
        "taps": pick(draw.integers(1, 9)),
        "kernel_count": pick(draw.integers(1, 3)),
        "extra_steps": pick(draw.sampled_from([None, 0, 3])),
        "bias": pick(draw.booleans()),
        "density": pick(draw.sampled_from([1.0, 0.5])),
        "batch_norm": pick(draw.booleans()),
        "neuron": pick(draw.sampled_from(["lif", "plif", "adlif", "cadlif", "silif", "se_adlif"])),
        "tau_scope": pick(draw.sampled_from(["auto", "layer", "neuron"])),
        "tau_ms": pick(draw.floats(10.1, 90)),
        "v_threshold": pick(draw.sampled_from([0.5, 1.0])),
        "reset": pick(draw.sampled_from(["auto", "hard", "soft"])),
        "filter_tau_ms": pick(draw.sampled_from([None, 30.0])),
        "recurrent": pick(draw.sampled_from(["none", "undelayed", "fixed", "learned"])),
        "recurrent_layers": pick(draw.sampled_from(["all", "last"])),
        "recurrent_delay_spread": 3.0,
        "readout": pick(
            draw.sampled_from(["sum", "mean", "max", "last", "spike_count", "linear_sum"])
        ),
        "readout_threshold": 0.5,
    }


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    options_of_models(),
    draw.integers(0, 99),
    draw.integers(1, 25),
    draw.booleans(),
    draw.sampled_from([torch.float32, torch.float64]),
)
def test_equals_evaluation_whatever_the_options(options, seed, steps, real, dtype) -> None:
    torch_network, network = deployed(options, dtype=dtype, seed=seed)
    frames = recording(seed, steps=steps, real=real)
    want, outputs = evaluated(torch_network, frames)
    mine, decision = outputs_of(Stream(network), frames)
    for ours, theirs in zip(mine, outputs, strict=True):
        np.testing.assert_array_equal(ours[: len(theirs)], theirs)
    rounding = 1e-5 * max(1, abs(want).max())
    np.testing.assert_allclose(decision.scores, want, rtol=0, atol=rounding)
    assert decision.number == want.argmax() or np.ptp(np.sort(want)[-2:]) < rounding


def test_copy_and_reset_go_their_own_ways() -> None:
    _, network = deployed({"recurrent": "learned", "filter_tau_ms": 30.0})
    stream, frames = Stream(network), recording(3)
    want = stream.run(frames)
    stream.reset()
    for frame in frames[:9]:
        stream.step(frame)
    twin, before = stream.copy(), stream.scores
    silent = twin.finish()
    np.testing.assert_array_equal(stream.scores, before)
    for frame in frames[9:]:
        stream.step(frame)
    np.testing.assert_array_equal(stream.finish().scores, want.scores)
    assert not np.array_equal(silent.scores, want.scores)


def test_decision_says_since_when_it_holds() -> None:
    _, network = deployed({"readout": "last"})
    stream, leaders = Stream(network), []
    for frame in recording(3):
        leaders.append(int(stream.step(frame).argmax()))
        decision = stream.peek()
        others = [n for n, leader in enumerate(leaders, 1) if leader != leaders[-1]]
        assert (decision.number, decision.step) == (leaders[-1], len(leaders))
        assert decision.since == max(others, default=0) + 1
        assert decision.name == "abcd"[leaders[-1]]
    assert len(set(leaders)) > 1


def test_state_does_not_grow() -> None:
    stream = Stream(deployed({"recurrent": "fixed"})[1])
    stream.step(np.ones(12))
    window, states, returning, _ = stream._state
    for _ in range(2000):
        stream.step(np.ones(12))
    assert [a.nbytes for a in stream._state[:3]] == [a.nbytes for a in (window, states, returning)]
    assert stream._state[0] is window
    assert np.isfinite(stream.scores).all()


def test_numba_is_needed(monkeypatch) -> None:
    monkeypatch.setattr(numba_jit, "numba", None)
    with pytest.raises(
        UserError, match=r"A stream runs in a compiled loop: numba is not installed"
    ):
        Stream(deployed()[1])


def test_misuse_is_refused() -> None:
    stream = Stream(deployed()[1])
    with pytest.raises(ValueError, match="There was no input yet"):
        stream.peek()
    with pytest.raises(ValueError, match=r"A frame \[11\] must be \[12\]"):
        stream.step(np.ones(11))
    stream.step(np.ones(12))
    assert stream.finish().step == stream.finish().step
    with pytest.raises(ValueError, match="was finished: reset the stream"):
        stream.step(np.ones(12))
    endless = Stream(deployed(steps=None)[1])
    endless.step(np.ones(12))
    with pytest.raises(UserError, match="give steps="):
        endless.finish()
