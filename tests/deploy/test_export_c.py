"""The export to C computes the network to the bit, compiles without a warning, and reads events."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_delays.deploy import Deployed, Stream, plain
from snn_delays.deploy.events import EventFrames
from snn_delays.deploy.export import c
from snn_delays.deploy.network import FrontEnd
from snn_delays.deploy.quantise import quantise
from snn_delays.deploy.verify import compare
from tests.deploy.networks import deployed, name_of, recording

pytestmark = pytest.mark.skipif(c.compiler() is None, reason="there is no C compiler")

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# Every option of the model that shapes C, several at a time: each network is compiled.
OPTIONS: list[dict[str, Any]] = [
    {"neuron": "plif", "tau_scope": "neuron", "reset": "soft", "bias": True, "kernel_count": 2},
    {"batch_norm": False, "bias": True, "v_threshold": 0.7, "density": 0.4, "readout": "max"},
    {"filter_tau_ms": 30.0, "filter_learnable": True, "delay_type": "axonal", "kernel_count": 2},
    {"delay_type": "dendritic", "readout": "mean"},
    {"neuron": "adlif", "recurrent": "learned", "filter_tau_ms": 30.0, "readout": "last"},
    {"neuron": "cadlif", "reset": "hard", "readout": "spike_count"},
    {"neuron": "se_adlif", "recurrent": "undelayed", "recurrent_layers": "last"},
    {"delays": "none", "readout": "linear_sum"},
    {"delays": "dense", "extra_steps": 9},
]


def recordings() -> list[Any]:
    """Counts and real numbers; longer than the stored length, and a single frame."""
    return [recording(1), recording(2, steps=23), recording(3, steps=1), recording(4, real=True)]


def check_equal(network: Deployed, out: Path, frames: list[Any]) -> None:
    c.write(network, out)
    compared = compare(c, network, out, frames)
    assert compared.spikes > 0
    assert compared.spikes_that_differ == 0
    assert compared.predictions_that_differ == 0
    assert compared.largest_score_difference < 1e-13
    assert compared.samples == len(frames)


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    """A warning of the compiler is an error."""
    monkeypatch.setattr(c, "FLAGS", (*c.FLAGS, *STRICT))


@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_equals_the_stream_to_the_bit(options, tmp_path) -> None:
    network, frames = deployed(options)[1], recordings()
    check_equal(touching(network, frames[0]), tmp_path, frames)


def touching(network: Deployed, frames: Any) -> Deployed:
    """The network with a first layer whose membranes touch their thresholds, to the last bit."""
    first, *rest = network.layers
    never = replace(first, neurons=replace(first.neurons, threshold=np.array(1e30, np.float32)))
    seen: list[Any] = []
    plain.run(
        replace(network, layers=(never, *rest)),
        frames.astype(np.float32),
        lambda n, t, state: seen.append(state.membrane) if n == 0 else None,
    )
    neurons = replace(first.neurons, threshold=np.stack(seen).max(0))
    return replace(network, layers=(replace(first, neurons=neurons), *rest))


def test_float64_equals_the_stream_to_the_bit(tmp_path) -> None:
    check_equal(deployed(dtype=torch.float64)[1], tmp_path, recordings())


@pytest.mark.parametrize(
    ("words", "bits", "thresholds"),
    [
        ({"weights": "8"}, (8, 4), 16),
        ({"weights": "4", "delays": 3}, (4, 2), 16),
        ({"weights": "ternary"}, (2, 4), 16),
        ({"weights": "8", "arithmetic": "loihi"}, (8, 4), 2),
    ],
    ids=str,
)
def test_integers_equal_the_stream(words, bits, thresholds, tmp_path, monkeypatch) -> None:
    network = quantise(deployed({"tau_ms": 12.0})[1], **words)
    frames = [recording(seed).clip(max=2) for seed in (1, 2)]
    check_equal(network, tmp_path, frames)
    synapses = [layer.weight.size for layer in network.layers]
    neurons = 4 * (16 + thresholds + 3 + 1)  # biases, leaks, and one bias of the readout
    packed = sum(-(-n * b // 8) for n in synapses for b in bits)
    assert c.facts(network)["flash_bytes"] == packed + neurons
    short = re.search(r"-DSNN_LARGEST_VALUE=(\d+)", (tmp_path / "snn.h").read_text("utf-8"))
    assert short is not None
    assert int(short[1]) >= 2
    monkeypatch.setattr(c, "FLAGS", (*c.FLAGS, "-DSNN_LARGEST_VALUE=2"))  # sums of 16 bits
    check_equal(network, tmp_path, frames)


@pytest.mark.parametrize("weights", ["float32", "8"])
@pytest.mark.parametrize("options", [{"kernel_count": 2}, {"delay_type": "axonal"}], ids=name_of)
def test_synapses_that_a_mask_removes_take_no_bytes(options, weights, tmp_path) -> None:
    """2 of 9 synapses are left, and every second input has none."""
    full = quantise(deployed(options)[1], weights)
    layers = []
    for layer in full.layers:
        weight = layer.weight.copy()
        weight.flat[np.arange(weight.size) % 9 > 1] = 0
        weight[:, 1::2] = 0
        layers.append(replace(layer, weight=weight))
    masked = replace(full, layers=tuple(layers))
    check_equal(masked, tmp_path, [recording(seed) for seed in (1, 2)])
    left = sum(int(np.count_nonzero(layer.weight)) for layer in masked.layers)
    facts, of_full = c.facts(masked), c.facts(full)
    assert facts["additions_per_step_at_most"] == left
    synapses = sum(layer.weight.size for layer in full.layers)
    assert of_full["additions_per_step_at_most"] == synapses
    each = {"float32": 4, "8": 1}[weights]  # bytes of a weight; each that is left names its neuron
    inputs = sum(2 * layer.inputs + 2 for layer in full.layers)  # where each one's synapses begin
    most = of_full["flash_bytes"] - each * (synapses - left) + left + inputs
    assert facts["flash_bytes"] <= most < of_full["flash_bytes"]


def build(out: Path, *flags: str) -> Path:
    compiler = str(c.compiler())
    program = ("snn.c", "main.c", "-o", "snn")
    subprocess.run([compiler, "-std=c99", *STRICT, *flags, *program], cwd=out, check=True)
    return out / "snn"


def say(program: Path, text: str) -> tuple[int, str, str]:
    done = subprocess.run([str(program)], input=text, capture_output=True, encoding="utf-8")
    return done.returncode, done.stdout, done.stderr


def events(seed: int) -> list[tuple[float, int]]:
    """Times in seconds, a third of them on the edge of a frame, as the last is; and units."""
    rng = np.random.default_rng(seed)
    times = np.concatenate(
        [rng.uniform(0.5, 0.7, 80), 0.5 + 0.01 * rng.integers(0, 20, 40), [0.5, 0.7]]
    )
    units = rng.integers(0, 60, len(times)).tolist()
    return [(round(t, 6), u) for t, u in zip(np.sort(times).tolist(), units, strict=True)]


NAMES = ('say "one"', "two\\n??/", "três", "%s */")


def test_the_program_reads_events_as_predict_does(tmp_path) -> None:
    floats = replace(deployed()[1], classes=NAMES)
    for network in (floats, quantise(floats, weights="4", delays=3)):
        c.write(network, tmp_path)
        program, stream = build(tmp_path, *SANITIZED), Stream(network)
        for seed in range(3):
            clock = EventFrames(network.front)
            frames = [frame for event in events(seed) for frame in clock.add(*event)]
            want = stream.run(np.stack([*frames, clock.end()]))
            text = "\n".join(f"{t:.6f},{u}" for t, u in events(seed))
            code, printed, _ = say(program, text)
            scores = zip(want.scores, NAMES, strict=True)
            lines = [want.name, *(f"{score:.6f} {name}" for score, name in scores)]
            assert (code, printed.splitlines()) == (0, lines)
    for text, words in (
        ("", "The input is empty"),
        ("0.1 3\n0.05 3", "Line 2 comes after a later event"),
        ("0.1 3\n\n0.2", "Line 3 is not <time> <unit>"),
        ("0.1 2.7", "Line 1 is not <time> <unit>"),
        ("0.1 2 , 3", "Line 1 is not <time> <unit>"),
        ("0.1 60", "Line 1 has no unit of the network"),
        ("0 1\n1e300 1", "Line 2 is too late"),
        ("nan 1", "Line 1 comes after"),
    ):
        code, printed, error = say(program, text)
        assert (code, printed) == (2, "")
        assert words in error


def test_the_program_reads_frames_of_sound(tmp_path) -> None:
    network = replace(deployed()[1], front=FrontEnd("log_mel", 10.0, 12, seconds=0.17))
    frames = recording(4, real=True).astype(np.float32)
    check_equal(network, tmp_path, [frames])
    c.example(network, tmp_path, frames)
    header = (tmp_path / "snn.h").read_text("utf-8")
    assert "energies of 12 mel bands in dB" in header
    program = build(tmp_path)
    code, printed, _ = say(program, (tmp_path / c.EXAMPLE).read_text("utf-8"))
    assert (code, printed.split()[0]) == (0, Stream(network).run(frames).name)
    assert say(program, "1 2 3") == (2, "", "Line 1 is not a whole frame of numbers.\n")


def test_the_example_is_the_recording(tmp_path) -> None:
    network = deployed()[1]
    frames = recording(1)
    text = (tmp_path / c.example(network, tmp_path, frames)).read_text("utf-8")
    clock = EventFrames(network.front)
    made = [
        frame
        for line in text.splitlines()
        for frame in clock.add(float(line.split()[0]), int(line.split()[1]))
    ]
    np.testing.assert_array_equal(np.stack([*made, clock.end()]), frames)


def test_fast_math_is_refused(tmp_path) -> None:
    c.write(deployed()[1], tmp_path)
    command = [str(c.compiler()), "-std=c99", "-ffast-math", "-c", "snn.c", "-o", "snn.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode != 0
    assert "compile without -ffast-math" in done.stderr


def test_what_c_cannot_hold_is_refused() -> None:
    network = quantise(deployed({"tau_ms": 12.0})[1], weights="8")
    first, *rest = network.layers
    assert c.refusal(network) is None
    large = replace(network, layers=(replace(first, shift=20), *rest))
    assert c.refusal(large) == "the sums of layer 1 might not fit into 32 bits."
    filtered = replace(network, layers=(replace(first, filter_leak=np.float32(0.5)), *rest))
    assert "layer 1 computes with more than" in str(c.refusal(filtered))
    silent = replace(first, neurons=replace(first.neurons, threshold=None))
    assert c.refusal(replace(network, layers=(silent, *rest))) == "a hidden layer has no threshold."
