"""The description of a deployed network: its file, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

import snn_delays
from snn_delays.deploy import from_network, from_run, load
from snn_delays.deploy.describe import from_loaded
from snn_delays.errors import UserError
from snn_delays.nn.sync import BatchNorm1d
from snn_delays.training.checkpoint import load_run
from tests.deploy.networks import CLASSES, OPTIONS, deployed, make, name_of


@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_file_gives_the_same_network(options, tmp_path) -> None:
    _, network = deployed(options)
    network.save(tmp_path / "network.h5")
    again = load(tmp_path / "network.h5")
    assert again.digest == network.digest
    assert again.classes == ("a", "b", "c", "d")
    for mine, theirs in zip(network.layers, again.layers, strict=True):
        np.testing.assert_array_equal(mine.weight, theirs.weight)
        np.testing.assert_array_equal(mine.delay, theirs.delay)
        assert mine.neurons.parameters.keys() == theirs.neurons.parameters.keys()
        assert (mine.recurrent is None) == (theirs.recurrent is None)


def test_digest_is_of_every_number() -> None:
    (_, network), (_, same) = deployed(), deployed()
    assert same.digest == network.digest
    first, *others = network.layers
    parameters = {"tau": first.neurons.parameters["tau"] + np.float32(1e-6)}
    changed = replace(first, neurons=replace(first.neurons, parameters=parameters))
    for other in (
        replace(network, layers=(changed, *others)),
        replace(network, steps=21),
        replace(network, classes=("a", "b", "d", "c")),
        replace(network, front=replace(network.front, step_ms=5.0)),
    ):
        assert other.digest != network.digest


def test_arrays_cannot_be_written_to() -> None:
    _, network = deployed({"recurrent": "learned"})
    layer = network.layers[0]
    for array in (
        layer.weight,
        layer.alpha,
        layer.neurons.parameters["tau"],
        layer.recurrent.delay,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_network_of_the_package_has_a_name(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("snn_delays.deploy.network.PACKAGED", tmp_path / "networks")
    monkeypatch.chdir(tmp_path)
    _, network = deployed()
    (tmp_path / "networks").mkdir()
    network.save(tmp_path / "networks" / "ours.h5")
    assert snn_delays.load("ours").digest == network.digest
    other = replace(network, steps=99)
    other.save(tmp_path / "ours")
    assert snn_delays.load("ours").steps == 99  # a file of the working directory goes before
    with pytest.raises(UserError, match=r"^There is no file theirs\.$"):
        snn_delays.load("theirs")


def test_damaged_file_is_refused(tmp_path) -> None:
    path = tmp_path / "network.h5"
    deployed()[1].save(path)
    with h5py.File(path, "r+") as file:
        file["layers/0/weight"][0, 0, 0] += 1
    with pytest.raises(UserError, match=r"network.h5 is damaged: its checksum is wrong\.$"):
        load(path)
    for damage in (
        lambda file: file.pop("layers/1/delay"),
        lambda file: file.create_dataset("layers/7/weight", data=1.0),
        lambda file: file.attrs.__setitem__("network", "{"),
    ):
        deployed()[1].save(path)
        with h5py.File(path, "r+") as file:
            damage(file)
        with pytest.raises(UserError, match=r"network.h5 is damaged"):
            load(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match="is damaged or not a deployed network"):
        load(path)
    with h5py.File(path, "w") as file:
        file.attrs["format"] = 99
    with pytest.raises(UserError, match="is of format 99, later than 1: upgrade"):
        load(path)


def test_widened_keeps_the_numbers() -> None:
    _, network = deployed({"bias": True, "recurrent": "learned"})
    wide = network.widened()
    assert wide.arithmetic == "float64"
    for narrow, layer in zip(network.layers, wide.layers, strict=True):
        assert layer.weight.dtype == np.float64
        assert layer.delay.dtype == np.int32
        np.testing.assert_array_equal(layer.weight, narrow.weight)
        assert layer.neurons.parameters["tau"] == np.float32(2.0)
    with pytest.raises(ValueError, match="in float64 is not one in float32"):
        wide.widened()


def test_layers_end_one_after_the_other() -> None:
    _, network = deployed()
    assert network.ends(3) == (22, 24, 26)
    assert network.ends(30) == (32, 34, 36)
    _, network = deployed(steps=None)
    with pytest.raises(UserError, match=r"no stored length .*: give steps="):
        network.ends(3)


class OwnNorm(BatchNorm1d):
    """Might do anything."""


def test_own_parts_are_refused() -> None:
    config, network = make()
    network.blocks[1].norm = OwnNorm(7, step_mode="m")
    with pytest.raises(UserError, match="Layer 2 has a norm of its own"):
        from_network(network, config, CLASSES, 20)
    network.blocks[0].neuron = torch.nn.Identity()
    with pytest.raises(UserError, match=r"Layer 1 has neurons of its own \(model.neuron=Identity"):
        from_network(network, config, CLASSES, 20)
    config, network = make()
    network.readout.kind = "own:scores"
    with pytest.raises(UserError, match=r"model\.readout=own:scores is a user's own"):
        from_network(network, config, CLASSES, 20)


def test_torch_network_stays_as_it_is() -> None:
    config, network = make({"density": 0.5})
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    from_network(network, config, CLASSES, 20)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_run_is_read(trained) -> None:
    network = snn_delays.deploy.from_run(trained)
    assert network.arithmetic == "float32"
    assert network.front.channels == 14
    assert network.steps is not None
    loaded = load_run(trained)
    before = {name: value.clone() for name, value in loaded.network.state_dict().items()}
    assert from_loaded(loaded, arithmetic="float64").arithmetic == "float64"
    for name, value in loaded.network.state_dict().items():  # the caller's network stays
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    wide = from_run(trained, arithmetic="float64", steps=40)
    assert wide.steps == 40
    assert wide.layers[0].neurons.parameters["tau"] == 10.05 / 10
    with pytest.raises(UserError, match="is not the folder of a run"):
        from_run(f"{trained}-not")
    with pytest.raises(
        ValueError, match=r"arithmetic=int8 must be one of float32, float64, plain, loihi\."
    ):
        from_run(trained, arithmetic="int8")
