"""Limits of hardware, and Loihi's arithmetic against Lava's documented equations."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import snn_delays
from snn_delays import cli
from snn_delays.config.commands import HARDWARE
from snn_delays.deploy import plain, stream
from snn_delays.deploy.hardware import (
    LIMITS,
    MEASURES,
    Hardware,
    Limit,
    check,
    hardware,
    peak_of_membranes,
)
from snn_delays.deploy.network import Deployed, Layer, Neurons
from snn_delays.deploy.quantise import quantise
from snn_delays.documents import read_yaml
from tests.deploy.networks import deployed, recording


def test_the_file_of_limits() -> None:
    assert [*read_yaml(LIMITS)] == [*HARDWARE]
    for name in HARDWARE:
        chip = hardware(name)
        assert {limit.what for limit in chip.limits} <= MEASURES.keys()
        for limit in chip.limits:
            assert limit.source
            assert limit.date.startswith("20")
            assert limit.change or limit.rounds or limit.most is None
        assert {"weight_bits", "longest_delay"} <= {limit.what for limit in chip.limits}
        assert "https://" in " ".join(limit.source for limit in chip.limits)
        floats = {f.limit.what: f.excess for f in check(deployed()[1], chip, ())}
        assert floats["weight_bits"] == 32 - (16 if name == "spinnaker1" else 8)


def test_values_by_hand() -> None:
    """12 inputs, 9 and 7 neurons, 4 classes, 5 taps."""
    _, floats = deployed({"density": 0.5})
    network = quantise(floats, "8", None, "loihi")
    values = {what: measure(network, 1000) for what, measure in MEASURES.items()}
    present = [np.abs(layer.weight) > 0 for layer in network.layers]
    assert values == {
        "weight_bits": 8,
        "units": 1,
        "threshold_bits": max(
            (int(layer.neurons.threshold[0]) >> 6).bit_length() for layer in network.layers[:2]
        ),
        "membrane_bits": 11,
        "longest_delay": max(int(layer.delay.max()) for layer in network.layers),
        "channels": 12,
        "classes": 4,
        "hidden_neurons": 16,
        "layer_neurons": 9,
        "layer_inputs": 12,
        "layer_synapse_bits": 8 * max(int(p.sum()) for p in present),
        "fan_out": max(int(p.sum((0, 2)).max()) for p in present),
        "memory_bytes": 3 * (9 * 12 + 7 * 9 + 4 * 7) + 4 * 5 * (9 + 7 + 4),
    }
    assert MEASURES["weight_bits"](floats, 0) == 32
    assert MEASURES["units"](floats, 0) == 9
    assert MEASURES["weight_bits"](quantise(floats, "4"), 0) == 4
    assert MEASURES["weight_bits"](quantise(floats, "ternary"), 0) == 2
    assert MEASURES["weight_bits"](quantise(floats, "16"), 0) == 16


def test_bound_of_membranes_for_recordings() -> None:
    network = quantise(deployed()[1], "8", None, "loihi")
    frames = [recording(seed) for seed in (1, 2)]
    bits = next(f.value for f in check(network, hardware("loihi2"), frames) if "membrane" in str(f))
    peak = 0
    for each in frames:
        seen: list[Any] = []
        plain.run(network, each, lambda n, t, s, to=seen: to.append(np.abs(s.membrane).max()))
        peak = max(peak, *seen)
    assert peak < 2 ** (bits - 1)
    many = check(network, hardware("loihi2"), [50 * each for each in frames])
    assert next(f.value for f in many if "membrane" in str(f)) > bits


@pytest.mark.parametrize("kind", ["integer", "loihi"])
@pytest.mark.parametrize(("weight", "bias"), [(-5, -1), (5, 1), (-5, 2), (7, 0), (-7, 0)])
def test_no_input_leads_a_membrane_beyond_the_bound(kind, weight, bias) -> None:
    """All inputs of 8 steps; keeping 0.9 of a membrane loses up to 1 in each step."""
    keep, theta = round(0.9 * 2**16), 20
    layer = Layer(
        np.array([[[weight]]], np.int8), np.zeros((1, 1, 1), np.int32), 1, 0,
        Neurons(kind, {"keep": np.array(keep, np.int32)}, np.array(theta, np.int32)),
        bias=np.array([bias], np.int32), unit=np.ones(1),
    )  # fmt: skip
    network = replace(
        quantise(deployed()[1], "8"), layers=(layer,), classes=("",), readout="last", steps=1
    )
    nearest = []
    for x in itertools.product((0, 1), repeat=8):
        rest, sizes = 0, []
        for count in x:
            product = rest * keep
            kept = product >> 16 if kind == "integer" or product >= 0 else -(-product >> 16)
            u = kept + weight * count + bias
            sizes.append(abs(u))
            rest = 0 if u >= theta else u
        bound = peak_of_membranes(network, [np.array(x)[:, None]])
        assert max(sizes) <= bound
        nearest.append(bound - max(sizes))
    if weight < 0 and bias <= 0:
        assert nearest == [0] * 2**8  # the bound is reached


def test_a_finding_says_how_much_and_what_to_change() -> None:
    finding = check(deployed({"taps": 71})[1], hardware("xylo_audio"), ())[-1]
    value = finding.value
    assert value > 60
    assert str(finding).split("  ")[-1] == (
        f"{value} too many: model.delays=none and train again (Rockpool 3.1.0,"
        " devices/xylo/syns61201/xylo_samna.py, config_from_specification takes no delays; as of"
        " 2026-11-28)"
    )


def test_advice_is_what_the_network_can_follow() -> None:
    _, spikes = deployed()
    sound = replace(spikes, front=replace(spikes.front, kind="log_mel"))
    limit = Limit("channels", 3, "a paper", "2026", change="fewer channels", of="spikes")
    again = "fewer channels and train again"
    chip = Hardware("a chip", {"weights": "8"}, (limit, replace(limit, rounds=True)))
    for network, can_round, advice in (
        (spikes, True, [again, f"weights=8; where that is not enough, {again}"]),
        (spikes, False, [again, again]),
        (sound, True, ["no option helps this network", "weights=8"]),
        (sound, False, 2 * ["no option helps this network"]),
    ):
        assert [f.advice for f in check(network, chip, (), can_round=can_round)] == advice


def test_a_limit_that_is_not_known_is_said() -> None:
    limit = Limit("longest_delay", None, "no source was opened", "2026")
    (finding,) = check(deployed()[1], Hardware("a chip", {}, (limit,)), ())
    assert finding.excess == 0
    assert str(finding) == (
        f"longest delay        {finding.value:>11} of     unknown  (no source was opened; as of"
        " 2026)"
    )


def test_command(trained, capsys, monkeypatch) -> None:
    """Exit code 2 where a limit is exceeded; ``fit`` evaluates what the target needs."""

    def evaluate(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["snn-delays", "evaluate", f"run={trained}", *words])
        cli.main()
        return str(capsys.readouterr().out)

    fitted = evaluate("target=loihi2", "fit=true")
    assert "limits of Intel Loihi 2 (stated, not measured)\nweight bits  " in fitted
    assert "too many" not in fitted
    accuracy = next(line for line in fitted.splitlines() if line.startswith("all "))
    with pytest.raises(SystemExit) as stop:
        evaluate("target=loihi2")
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert "24 too many: weights=8 arithmetic=loihi (Lava 0.10" in said.out
    last = said.out.splitlines()[-1]
    assert last.split("  ")[0] == "with weights=8 arithmetic=loihi"
    assert last.split("  ")[1].strip() in accuracy
    assert last.endswith("; 0 limits exceeded")
    assert "exceeds 4 limits of target=loihi2, listed above. fit=true evaluates" in said.err
    with pytest.raises(SystemExit):
        evaluate("target=xylo_audio", "weights=8")  # its roundings are those of Xylo already
    said = capsys.readouterr()
    assert "too many: weights=8" not in said.out
    assert "with weights=8" not in said.out
    assert "fit=true" not in said.err
    with pytest.raises(SystemExit):
        evaluate("target=spinnaker2")
    assert capsys.readouterr().out.endswith("; 0 limits exceeded, 1 unknown\n")
    monkeypatch.setattr(stream, "MOST_COUNT", 0)  # no integer network takes these recordings
    with pytest.raises(SystemExit):
        evaluate("target=loihi2")
    said = capsys.readouterr()
    assert "24 too many" in said.out
    last = said.out.splitlines()[-1]
    assert last.startswith("There is no accuracy with weights=8 arithmetic=loihi. A channel counts")
    assert "exceeds 4 limits of target=loihi2, listed above." in said.err
    with pytest.raises(SystemExit):
        evaluate("fit=true")
    assert "fit=true needs target=..., and gives weights=" in capsys.readouterr().err


def test_limits_of_a_network_without_integers(small_config, capsys, monkeypatch) -> None:
    """They are listed, and a sentence says why no network was rounded."""
    config = small_config(epochs=1, protocol="last")
    config.model.recurrent = "undelayed"
    snn_delays.train(config)
    words = ["evaluate", f"run={config.out}", "target=loihi2"]
    monkeypatch.setattr(sys, "argv", ["snn-delays", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    assert stop.value.code == 2
    lines = said.out.splitlines()[said.out.splitlines().index("") :]
    limits = [line for line in lines if " of " in line and "too many" in line]
    assert [line.split("  ")[0] for line in limits] == [
        "weight bits", "units", "threshold bits", "membrane bits",
    ]  # fmt: skip
    assert "24 too many: no option helps this network (Lava" in limits[0]
    assert lines[-1] == (
        "No network was made with weights=8 arithmetic=loihi. Layer 1 has recurrent connections: no"
        " integer form is known; keep weights=float32."
    )
    assert said.err.endswith("exceeds 4 limits of target=loihi2, listed above.\n")


# ---- Lava --------------------------------------------------------------------------------------


def lava_layer(layer: Any, x_TI: Any, steps: int) -> tuple[Any, Any]:
    """Spikes and voltages [S, O] by the equations of Lava 0.10, one synapse at a time.

    ``PyDelayDenseModelBitAcc`` adds ``weights`` of a synapse ``delays`` steps after a spike, and
    ``PyLifModelBitAcc`` shifts the sum by 6 bits and decays u by ``du=4095`` and v by ``dv``, with
    products of 12 bits rounded toward zero; it fires above ``vth << 6``, and resets to 0.
    """
    outputs, inputs = layer.outputs, layer.inputs
    dv = 4096 - (int(layer.neurons.parameters["keep"]) >> 4)
    fires = layer.neurons.threshold is not None
    vth = (int(layer.neurons.threshold[0]) - 1) >> 6 if fires else None
    u, v = [0] * outputs, [0] * outputs
    spikes, voltages = np.zeros((2, steps, outputs), int)
    for t in range(steps):
        for o in range(outputs):
            a_in = 0
            for i in range(inputs):
                before = t - int(layer.delays[o, i, 0])
                if 0 <= before < len(x_TI):
                    a_in += int(layer.weight[o, i, 0]) * int(x_TI[before, i])
            u[o] = decayed(u[o], 4095 + 1) + (a_in << 6)
            v[o] = decayed(v[o], dv) + u[o] + int(layer.bias[o])
            v[o] = max(-(2**23) + 1, min(2**23 - 1, v[o]))
            voltages[t, o] = v[o]
            if fires and v[o] > vth << 6:
                spikes[t, o], v[o] = 1, 0
    return spikes, voltages


def exponent_of(layer: Any) -> int:
    """The greatest power of two that divides all biases."""
    return min((int(b & -b).bit_length() - 1 for b in layer.bias.tolist() if b), default=0)


def decayed(value: int, constant: int) -> int:
    product = abs(value) * (4096 - constant) >> 12
    return product if value >= 0 else -product


def loihi_network(seed: int) -> Deployed:
    _, floats = deployed({"tau_ms": 33.0}, seed=seed)
    return quantise(floats, "8", None, "loihi")


@pytest.mark.parametrize("seed", [0, 1])
def test_arithmetic_of_lavas_documentation(seed) -> None:
    network = loihi_network(seed)
    x = recording(seed)
    seen: list[list[Any]] = [[] for _ in network.layers]

    def watch(n: int, t: int, state: Any) -> None:
        seen[n].append((state.spikes.copy(), state.membrane.copy()))

    plain.run(network, x, watch)
    for layer, mine, steps in zip(network.layers, seen, network.ends(len(x)), strict=True):
        spikes, voltages = lava_layer(layer, x, steps)
        np.testing.assert_array_equal(np.stack([v for _, v in mine]), voltages)
        assert (voltages < 0).any()  # where toward zero differs from downward
        if layer.neurons.threshold is not None:
            np.testing.assert_array_equal(np.stack([s for s, _ in mine]), spikes)
            assert 0 < spikes.mean() < 1
        x = spikes


def test_numbers_are_those_that_lava_takes() -> None:
    network = loihi_network(0)
    for layer in network.layers:
        assert not (layer.weight & 1).any()
        assert np.abs(layer.weight).max() <= 254
        assert len(np.unique(layer.unit)) == 1
        assert int(layer.neurons.parameters["keep"]) % 16 == 0
        assert (np.abs(layer.bias) >> exponent_of(layer)).max() < 2**12
        if layer.neurons.threshold is not None:
            theta = np.unique(layer.neurons.threshold) - 1
            assert len(theta) == 1
            assert theta[0] % 64 == 0
            assert theta[0] >> 6 < 2**17
