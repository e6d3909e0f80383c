"""Exports to NIR, ONNX, NEST, Brian2 and Lava give the network's spikes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from snn_delays.cli.export import main
from snn_delays.config.commands import TARGETS
from snn_delays.deploy import Deployed, plain
from snn_delays.deploy.export import Answer, folded, program, target
from snn_delays.deploy.network import Neurons
from snn_delays.deploy.quantise import quantise
from snn_delays.deploy.verify import compare
from snn_delays.errors import UserError
from tests.deploy.networks import deployed, name_of, recording

# Every option of the model that a target computes in a way of its own, several at a time.
SIMPLE: list[dict[str, Any]] = [
    {"bias": True, "v_threshold": 0.7, "readout": "max"},
    {"neuron": "plif", "density": 0.4, "kernel_count": 2, "readout": "spike_count"},
    {"batch_norm": False, "delay_type": "axonal", "readout": "linear_sum"},
    {"delay_type": "dendritic", "extra_steps": 9, "readout": "mean"},
    {"recurrent": "learned", "recurrent_delay_spread": 3.0, "readout": "last"},
    {"recurrent": "undelayed", "delays": "none", "taps": 1, "hidden": [8]},
]
OWN_TAU: list[dict[str, Any]] = [{"neuron": "plif", "tau_scope": "neuron", "bias": True}]
SOFT: list[dict[str, Any]] = [{"reset": "soft", "neuron": "plif", "tau_scope": "neuron"}]
ADAPTIVE: list[dict[str, Any]] = [
    {"neuron": "adlif", "recurrent": "fixed"},
    {"neuron": "cadlif", "reset": "hard", "readout": "last"},
    {"neuron": "silif", "tau_scope": "layer"},
    {"neuron": "se_adlif", "readout": "spike_count"},
]
FILTER: list[dict[str, Any]] = [
    {"filter_tau_ms": 30.0, "filter_learnable": True, "neuron": "adlif", "recurrent": "learned"},
    {"filter_tau_ms": 30.0, "hidden": [6]},
]
LARGE = {"hidden": [256, 256], "taps": 25}
SERVED = {
    "nir": SIMPLE + OWN_TAU + SOFT,
    "onnx": SIMPLE + OWN_TAU + SOFT + ADAPTIVE + FILTER,
    "nest": SIMPLE + OWN_TAU,
    "brian2": SIMPLE + OWN_TAU + SOFT + ADAPTIVE,
    "lava": SIMPLE,
}
REFUSED = {
    "nir": (("filter_tau_ms", FILTER[1]), ("adaptive", ADAPTIVE[0])),
    "onnx": (),
    "nest": (("filter_tau_ms", FILTER[1]), ("adaptive", ADAPTIVE[1]), ("reset=soft", SOFT[0])),
    "brian2": (("filter_tau_ms", FILTER[1]),),
    "lava": (
        ("filter_tau_ms", FILTER[1]),
        ("adaptive", ADAPTIVE[1]),
        ("reset=soft", SOFT[0]),
        ("tau_scope=neuron", OWN_TAU[0]),
    ),
}
ENGINES = {"nir": "Nir", "onnx": "Onnx", "nest": "Nest"}


def exported(options: dict[str, Any], **more: Any) -> Deployed:
    """A network whose neurons have numbers of their own where they may."""
    network = deployed(options, **more)[1]
    layers = []
    for layer in network.layers:
        own = {
            name: value * np.linspace(0.6, 1, value.size, dtype=value.dtype)
            if value.ndim
            else value
            for name, value in layer.neurons.parameters.items()
        }
        layers.append(replace(layer, neurons=replace(layer.neurons, parameters=own)))
    return replace(network, layers=tuple(layers))


def in_process(name: str) -> Any:
    """A target whose program runs in this process."""
    programs = "snn_delays.deploy.export.programs"

    def run(network: Deployed, out: Path, samples: Iterable[NDArray[Any]]) -> Iterator[Answer]:
        engine = getattr(importlib.import_module(f"{programs}.{name}"), ENGINES[name])(out)
        fires = [layer.neurons.fires for layer in network.layers]
        for scores, outputs in engine.run([*samples]):
            spikes = [output for output, fire in zip(outputs, fires, strict=True) if fire]
            yield Answer(scores, int(scores.argmax()), spikes)

    return SimpleNamespace(run=run)


def check_equal(form: Any, network: Deployed, out: Path, samples: list[Any]) -> None:
    compared = compare(form, folded.wide(network), out, samples)
    assert compared.samples == len(samples)
    assert compared.spikes > 0
    assert compared.spikes_that_differ == 0
    assert compared.predictions_that_differ == 0
    assert compared.largest_score_difference < 1e-12


def recordings(name: str) -> list[Any]:
    """A usual one, a single frame, one longer than the stored length; of real numbers if served."""
    samples = [recording(1), recording(3, steps=1), recording(2, steps=25)]
    if name in ("nir", "onnx"):
        samples.append(recording(4, real=True).astype(np.float32))
    return samples


def cases(*names: str) -> list[Any]:
    return [
        pytest.param(name, options, id=f"{name}-{name_of(options)}")
        for name in names
        for options in SERVED[name]
    ]


@pytest.mark.parametrize(("name", "options"), cases("nir", "onnx", "nest"))
def test_spikes_are_the_network_s(name, options, tmp_path) -> None:
    if name == "nest":
        pytest.importorskip("nest")
    network = exported(options)
    assert target(name).refusal(network) is None
    target(name).write(network, tmp_path)
    check_equal(in_process(name), network, tmp_path, recordings(name))


def python_with(package: str) -> str:
    """A Python that has the package, or skip."""
    python = os.environ.get(f"{package.upper()}_PYTHON", sys.executable)
    asked = subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False)
    if asked.returncode:
        pytest.skip(f"{python} has no {package}; {package.upper()}_PYTHON may name one that has")
    return python


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), cases("brian2", "lava"))
def test_spikes_are_the_network_s_elsewhere(name, options, tmp_path) -> None:
    python_with(name)
    network = exported(options)
    target(name).write(network, tmp_path)
    check_equal(target(name), network, tmp_path, recordings(name))


LOIHI = [
    {"tau_ms": 33.0},
    {"tau_ms": 33.0, "kernel_count": 2, "readout": "max"},
    {"density": 0.4, "extra_steps": 9, "readout": "spike_count"},
]


def loihi_network(options: dict[str, Any]) -> Deployed:
    network = quantise(deployed(options)[1], "8", None, "loihi")
    assert all(layer.bias is not None and layer.bias.any() for layer in network.layers[:-1])
    return network


@pytest.mark.slow
@pytest.mark.parametrize("options", LOIHI, ids=name_of)
def test_lava_computes_integers_as_loihi_does(options, tmp_path) -> None:
    """In fixed point, to the bit: spikes of all layers, and the readout's membranes in scores."""
    python_with("lava")
    network = loihi_network(options)
    target("lava").write(network, tmp_path)
    samples = [recording(1), recording(2, steps=25)]
    compared = compare(target("lava"), network, tmp_path, samples)
    assert compared.spikes > 0
    assert (compared.spikes_that_differ, compared.predictions_that_differ) == (0, 0)
    assert compared.largest_score_difference < 1e-12


def test_lava_takes_the_integers_of_loihi_alone() -> None:
    network = loihi_network(LOIHI[0])
    assert target("lava").refusal(network) is None
    assert "not of Loihi's arithmetic" in str(target("lava").refusal(quantise(deployed()[1], "8")))
    long = quantise(deployed({"taps": 71})[1], "8", None, "loihi")
    longest = max(int(layer.delay.max()) for layer in long.layers)
    assert target("lava").refusal(long) == f"a delay of {longest} steps is longer than 63."
    assert target("nest").refusal(network) == "its numbers are integers."


@pytest.mark.parametrize("name", ["nest", "nir", "onnx"])
def test_programs_run_by_themselves(name, tmp_path) -> None:
    """Two recordings of a network of the paper's size, through ``run.py``."""
    if name == "nest":
        python_with("nest")
    network = exported(LARGE, steps=60)
    target(name).write(network, tmp_path)
    before = sorted(tmp_path.iterdir())
    check_equal(target(name), network, tmp_path, [recording(n, steps=50) for n in (1, 2)])
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["nest", "nir", "onnx"])
def test_programs_refuse_another_number_of_channels(name, tmp_path) -> None:
    if name == "nest":
        python_with("nest")
    target(name).write(exported({}), tmp_path)
    answers = target(name).run(exported({}), tmp_path, [np.zeros((5, 13))])
    with pytest.raises(UserError, match=r"has the shape \[5, 13\], not \[steps, 12\]"):
        next(answers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("nest", 20), ("nir", 20), ("onnx", 200), ("brian2", 20), ("lava", 2)]
)
def test_many_recordings_of_the_paper_s_size(name, count, tmp_path) -> None:
    if name not in ("nir", "onnx"):
        python_with(name)
    network = exported(LARGE, steps=228)
    target(name).write(network, tmp_path)
    samples = [recording(n, steps=150 + n) for n in range(count)]
    check_equal(target(name), network, tmp_path, samples)


@pytest.mark.parametrize(
    ("name", "words", "options"),
    [(name, words, options) for name, these in REFUSED.items() for words, options in these],
)
def test_what_a_target_cannot_hold(name, words, options) -> None:
    reason = target(name).refusal(exported(options))
    assert reason
    assert words in reason
    assert reason.endswith(".")


def test_the_neurons_are_named_before_the_reset_that_they_bring() -> None:
    for name in ("nest", "lava"):
        reason = target(name).refusal(exported({"neuron": "adlif", "reset": "soft"}))
        assert reason == "it has adaptive neurons (model.neuron)."


def test_simulators_refuse_sound_energies() -> None:
    network = exported({})
    network = replace(network, front=replace(network.front, kind="log_mel"))
    served = {name for name in SERVED if target(name).refusal(network) is None}
    assert served == {"nir", "onnx"}


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "c"])
def test_export_says_how_to_run_and_feed_it(name, tmp_path) -> None:
    target(name).write(exported({}), tmp_path)
    readme = (tmp_path / "README.md").read_text("utf-8")
    for words in (
        "pip install",
        "python run.py recording.npy",
        "[steps, 12]",
        "10 ms",
        "a, b, c, d",
    ):
        assert words in readme
    assert "20 steps" in readme
    assert all(f"`{file.name}`" in readme for file in tmp_path.iterdir() if file.suffix != ".md")
    text = (tmp_path / "run.py").read_text("utf-8")
    assert "snn_delays" not in text
    compile(text, "run.py", "exec")


def test_missing_packages_are_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "run.py").write_text("import no_such_simulator\n", "utf-8")
    answers = program.run(exported({}), tmp_path, [recording(1)], package="own", install="get it")
    with pytest.raises(UserError, match=r"named 'no_such_simulator'. Install .*get it.*OWN_PYTHON"):
        next(answers)
    monkeypatch.setitem(sys.modules, "nir", None)
    monkeypatch.delitem(sys.modules, "snn_delays.deploy.export.nir", raising=False)
    with pytest.raises(UserError, match=r"target=nir needs the package nir: pip install"):
        target("nir")


def test_another_python_that_is_missing_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OWN_PYTHON", str(tmp_path / "python"))
    answers = program.run(exported({}), tmp_path, [recording(1)], package="own", install="")
    with pytest.raises(UserError, match=r"The Python .*python cannot be started: No such file"):
        next(answers)


def test_a_program_that_fails_says_why(tmp_path) -> None:
    (tmp_path / "run.py").write_text("raise SystemExit('no room')\n", "utf-8")
    answers = program.run(exported({}), tmp_path, [recording(1)], package="own", install="")
    with pytest.raises(UserError, match=r"run.py failed: no room"):
        next(answers)


def test_nir_has_standard_nodes_alone(tmp_path) -> None:
    nir = importlib.import_module("nir")
    network = exported({"recurrent": "learned"})
    target("nir").write(network, tmp_path)
    graph = nir.read(tmp_path / "network.nir")
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    assert kinds == {"Input", "Output", "Affine", "Linear", "Delay", "LIF", "LI"}
    assert graph.metadata["dt"] == 0.01
    node = graph.nodes["layer0"]
    assert node.metadata["reset"] == "hard"
    np.testing.assert_allclose(node.tau, 0.02)  # tau_ms is 20
    np.testing.assert_allclose(node.r, 2)
    assert target("nir").facts(network)["nodes"] == len(graph.nodes)


def test_nir_of_exact_integration(tmp_path) -> None:
    nir = importlib.import_module("nir")
    form: Any = target("nir")
    network = exported({"neuron": "plif", "tau_scope": "neuron"})
    form.write(network, tmp_path, integration="exact")
    check_equal(in_process("nir"), network, tmp_path, recordings("nir"))
    share = folded.fold(network).layers[0].neurons.parameters["share"]
    tau = nir.read(tmp_path / "network.nir").nodes["layer0"].tau
    np.testing.assert_allclose(np.exp(-0.01 / tau), 1 - share)
    with pytest.raises(ValueError, match="integration=other must be euler or exact"):
        form.write(network, tmp_path, integration="other")


def test_onnx_is_valid_and_stores_float32(tmp_path) -> None:
    onnx = importlib.import_module("onnx")
    target("onnx").write(exported(LARGE), tmp_path)
    path = tmp_path / "network.onnx"
    onnx.checker.check_model(path, full_check=True)
    synapses = 12 * 256 + 256 * 256 + 256 * 4
    assert path.stat().st_size < 5 * synapses + 30_000  # 4 bytes a weight, 1 a delay


def test_command_writes_and_verifies(trained, tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / "made"
    words = [f"run={trained}", "target=onnx", f"out={out}", "verify=3"]
    monkeypatch.setattr(sys, "argv", ["snn-delays", *words])
    main()
    assert "Run on 3 recordings, 0 of" in capsys.readouterr().out
    report = json.loads((out / "verify.json").read_text("utf-8"))
    assert report["arithmetic"] == "float64"
    assert report["spikes_that_differ"] == report["predictions_that_differ"] == 0
    answer = json.loads((out / "example.json").read_text("utf-8"))
    command = [sys.executable, "run.py", answer["file"]]
    said = json.loads(subprocess.check_output(command, cwd=out, encoding="utf-8"))
    assert said["class"] == answer["class"]
    np.testing.assert_allclose(said["scores"], answer["scores"], rtol=1e-12)


def test_folded_network_is_the_same() -> None:
    """Leaky neurons that fire and are recurrent, which no option makes, too."""
    network = folded.wide(exported({"recurrent": "learned"}))
    first, *others = network.layers
    leaky = Neurons("leaky", {"al": np.array(0.4)}, np.array(0.3))
    network = replace(network, layers=(replace(first, neurons=leaky), *others))
    for frames in recordings("onnx"):
        want = plain.run(network, frames)
        np.testing.assert_allclose(plain.run(folded.fold(network), frames), want, rtol=1e-12)
