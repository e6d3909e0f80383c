"""A user's own neuron, kernel shape, readout and loss in a network."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.nn import functional as F

from snn_delays.config import Config
from snn_delays.errors import UserError
from snn_delays.nn import DelayedLinear, build_network
from snn_delays.nn.loss import build_loss
from snn_delays.ops.maps import BACKENDS
from snn_delays.runtime import numba_jit
from tests import own

WRONG = {
    "model.neuron=tests.own:NoGradient": "its output has no gradient",
    "model.neuron=tests.own:NoModule": "it makes NoModule, which is no torch module",
    "model.neuron=tests.own:LastStep": r"of an input \[3, 2, 5\] it makes \[2, 5\], not",
    "model.neuron=tests.own:Demanding": "missing 1 required positional argument: 'beta'",
    "model.neuron=tests.own:Failing": r"line \d+: NameError: name 'undefined' is not defined",
    "model.neuron=tests.own:Remembering": "makes other spikes of the same input in a second call",
    "model.neuron=tests.own:Adaptif": "own.py has no Adaptif. Did you mean 'Adaptive'\\?$",
    "model.readout=tests.own:one_score": r"of an input \[3, 2, 4\] it makes \[\], not \[2, 4\]",
    "model.readout=tests.own:NoModule": "it makes NoModule, which is no torch module",
    "model.delay_kernel=tests.own:no_slope": "its output has no gradient",
    "train.loss=tests.own:no_target": "takes 1 positional argument but 2 were given",
    "train.loss=tests.own:every_loss": r"of an input \[2, 4\] it makes \[2\], not \[\]",
}


def configure(*words: str) -> Config:
    config = Config()
    config.data.units, config.data.units_per_channel = 6, 1
    config.model.hidden, config.model.taps, config.model.v_threshold = [5], 5, 0.3
    for word in words:
        (group, key), value = word.partition("=")[0].split("."), word.partition("=")[2]
        setattr(getattr(config, group), key, value)
    return config


def batch(T=9, B=3, channels=6) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.poisson(torch.full((T, B, channels), 0.5), generator=g)


@pytest.mark.parametrize("word", WRONG)
def test_a_part_that_does_not_fit_is_refused_with_its_interface(word) -> None:
    config = configure(word)
    with pytest.raises(UserError, match=WRONG[word]) as caught:
        build_loss(config, build_network(config, 4), 4)
    sentence = str(caught.value)
    assert sentence.startswith(f"{word}: ")
    assert "it must be a" in sentence or "has no Adaptif" in sentence


def test_targets_of_cutmix_are_tried() -> None:
    config = configure("train.loss=tests.own:hard_targets")
    network = build_network(config, 4)
    build_loss(config, network, 4)
    config.data.augment.cutmix = 0.5
    with pytest.raises(UserError, match=r"IndexError.*probabilities"):
        build_loss(config, network, 4)


def test_a_trial_draws_nothing_and_changes_no_part() -> None:
    def drawn(*words: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        torch.manual_seed(3)
        network = build_network(configure(*words), 4)
        return network.state_dict(), torch.get_rng_state()

    (plain, state), (mine, after) = drawn(), drawn("model.neuron=tests.own:Adaptive")
    assert torch.equal(state, after)
    assert all(torch.equal(value, mine[name]) for name, value in plain.items())
    assert mine.keys() - plain.keys() == {"blocks.0.neuron.rise"}


def test_an_own_neuron_gets_the_options_and_learns() -> None:
    config = configure("model.neuron=tests.own:Adaptive")
    config.model.tau_ms, config.data.step_ms = 30.0, 5.0
    network = build_network(config, 4).train()
    node = network.blocks[0].neuron
    assert (node.tau, node.v_threshold, node.fire.alpha, node.rise.shape) == (6.0, 0.3, 5.0, (5,))
    scores = network(batch())
    assert [how.why for how in network.plan] == ["its neuron is foreign", ""]
    F.cross_entropy(scores, torch.arange(3)).backward()
    assert node.rise.grad.abs().sum() > 0
    assert network.blocks[0].linear.delay.grad.abs().sum() > 0


def test_spikingjellys_nodes_run_over_sequences() -> None:
    network = build_network(configure("model.neuron=tests.own:Lazy"), 4).eval()
    node = network.blocks[0].neuron
    assert (node.tau, node.v_threshold, node.step_mode) == (Config().tau, 0.3, "m")
    x = batch()
    assert torch.equal(network(x), network(x))  # every call starts from silence


def test_state_that_reset_clears_may_stay() -> None:
    network = build_network(configure("model.neuron=tests.own:Resetting"), 4).eval()
    x = batch()
    assert torch.equal(network(x), network(x))


def test_own_neurons_count_spikes_and_lif_integrates() -> None:
    config = configure("model.neuron=tests.own:Adaptive")
    assert type(build_network(config, 4).readout.neuron).__name__ == "LIFNode"
    config.model.readout = "spike_count"
    node = build_network(config, 4).readout.neuron
    assert (type(node), node.v_threshold) == (own.Adaptive, config.model.readout_threshold)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_an_own_kernel_trains_as_the_same_kernel_of_the_package(backend) -> None:
    if backend == "numba" and not numba_jit.available():
        pytest.skip("numba is not installed")
    gradients = []
    for kernel in ("gauss", "tests.own:gauss"):
        torch.manual_seed(0)
        config = configure(f"model.delay_kernel={kernel}")
        config.backend = backend
        network = build_network(config, 4).double().train()
        network.set_sigma(1.3)
        x = batch(T=11).double().requires_grad_()
        if network.why_not(backend, x):
            pytest.skip("the backend does not train here")
        scores = network(x)
        F.cross_entropy(scores, torch.arange(3)).backward()
        gradients.append([scores, *(p.grad for p in network.parameters())])
    for plain, mine in zip(*gradients, strict=True):
        assert plain.abs().sum() > 0
        torch.testing.assert_close(mine, plain, rtol=1e-9, atol=1e-12)


def test_a_layer_with_an_own_kernel_is_copied_and_pickled() -> None:
    layer = DelayedLinear(3, 2, taps=5, delay_kernel="tests.own:laplace")
    x = batch(channels=3)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))


def test_own_readouts_make_scores_of_the_membrane() -> None:
    torch.manual_seed(0)
    last = build_network(configure("model.readout=last"), 4).eval()
    mine = build_network(configure("model.readout=tests.own:latest"), 4).eval()
    mine.load_state_dict(last.state_dict())
    assert torch.equal(mine(batch()), last(batch()))
    learned = build_network(configure("model.readout=tests.own:Attention"), 4)
    F.cross_entropy(learned(batch()), torch.arange(3)).backward()
    assert learned.readout.own_scores.query.grad.abs().sum() > 0


def test_a_loss_may_take_the_network() -> None:
    config = configure("train.loss=tests.own:short_delays")
    network = build_network(config, 4)
    scores, y = network(batch()), torch.arange(3)
    delays = sum(layer.delay.mean() for layer in network.delayed_layers())
    loss = build_loss(config, network, 4)(scores, y)
    torch.testing.assert_close(loss, F.cross_entropy(scores, y) + 0.1 * delays)
