"""What computes each layer: a layer that cannot be fused leaves its neighbours as they are."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from spikingjelly.activation_based import layer, monitor, neuron
from torch import nn

from snn_delays.nn import DelayedLinear, Network, block, delayed_linear
from snn_delays.nn.block import Block, How
from snn_delays.nn.plan import describe
from snn_delays.ops import maps
from snn_delays.runtime import numba_jit
from tests.nn.test_fused import (
    assert_equal_everywhere,
    assert_near,
    configure,
    networks,
    spikes,
    train_once,
)

pytestmark = pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")

WIDTHS = (12, 11, 10)


def _add_bias(part) -> None:
    outputs = len(part.linear.weight)
    part.linear.bias = nn.Parameter(torch.linspace(-1, 1, outputs).double())


def _hook(part) -> None:
    part.neuron.register_forward_hook(lambda *_: None)


def _add_filter(part) -> None:
    part.filter = layer.SynapseFilter(tau=5.0, step_mode="m")


def _reset_below(part) -> None:
    part.neuron.v_reset = -0.25


def _derive(part) -> None:
    part.__class__ = type("Derived", (type(part),), {"forward": lambda s, x: Block.forward(s, x)})


def _convolve(part) -> None:
    part.linear.backend = "dense"


def _hook_map(part) -> None:
    part.linear.register_forward_pre_hook(lambda *_: None)


SLOW = {  # what is done to a layer, the reason, and whether its map still takes spectra
    "bias": (_add_bias, "bias", True),
    "hook": (_hook, "hook", True),
    "hook on the map": (_hook_map, "hook", False),
    "filter": (_add_filter, "filter", True),
    "reset": (_reset_below, "neuron", True),
    "subclass": (_derive, "foreign", False),
    "dense": (_convolve, "backend=dense takes no spectra", False),
}


def three(change, place: int) -> tuple[Network, Network]:
    """A network whose block ``place`` is changed, and the same module by module."""
    ours, _ = networks(configure(WIDTHS))
    change(ours.blocks[place])
    theirs = copy.deepcopy(ours)
    theirs.set_backend("reference")
    return ours, theirs


@pytest.fixture
def fused_calls(monkeypatch) -> list[str]:
    """The fused functions that a pass calls, in order."""
    calls: list[str] = []

    def count(module, name, real) -> None:
        def counted(*given):
            calls.append(name)
            return real(*given)

        monkeypatch.setattr(module, name, counted)

    real = block.FusedBlock.apply
    monkeypatch.setattr(block.FusedBlock, "apply", lambda *x: (calls.append("block"), real(*x))[1])
    count(delayed_linear, "delayed_linear_of", delayed_linear.delayed_linear_of)
    count(block, "spikes_in_time", block.spikes_in_time)
    return calls


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("kind", SLOW)
def test_one_slow_layer_leaves_the_others_fused(kind, place, fused_calls) -> None:
    change, words, takes_spectra = SLOW[kind]
    ours, theirs = three(change, place)
    x = [spikes(23, 5).requires_grad_() for _ in range(2)]
    assert_near(train_once(ours, x[0]), train_once(theirs, x[1]))
    assert_equal_everywhere(ours, theirs)
    assert_near(x[0].grad, x[1].grad)
    paths = [how.path for how in ours.plan]
    assert paths == ["modules" if n == place else "spectra" for n in range(3)] + [
        "modules" if place == 2 else "spectra"
    ]
    assert words in ours.plan[place].why
    assert [how.path for how in theirs.plan] == ["modules"] * 4
    assert fused_calls.count("block") == 2
    assert ours.plan[place].takes_spectra == (place > 0 and takes_spectra)
    assert fused_calls.count("delayed_linear_of") == (place < 2) + ours.plan[place].takes_spectra
    assert fused_calls.count("spikes_in_time") == (place > 0 and not takes_spectra)


def test_a_watched_readout_leaves_the_blocks_fused(fused_calls) -> None:
    ours, theirs = networks(configure(WIDTHS))
    ours.readout.linear.register_forward_hook(lambda *_: None)
    x = spikes(23, 5)
    assert_near(train_once(ours, x), train_once(theirs, x))
    assert_equal_everywhere(ours, theirs)
    assert fused_calls == ["block"] * 3 + ["spikes_in_time"]


def test_single_precision_spikes_are_exact_where_they_leave_the_spectra() -> None:
    ours, _ = networks(configure(WIDTHS, dropout=0.4), dtype=torch.float32)
    seen = monitor.InputMonitor(ours.blocks[1], DelayedLinear)
    train_once(ours, spikes(23, 5, dtype=torch.float32))
    (x,) = seen.records
    size = torch.tensor(1 / (1 - 0.4), dtype=torch.float32)
    assert set(x.unique().tolist()) == {0.0, size.item()}
    assert ours.plan[0].path == ours.plan[2].path == "spectra"


def test_monitors_of_one_block_see_its_modules() -> None:
    ours, theirs = networks(configure(WIDTHS))
    watched = [monitor.OutputMonitor(n.blocks[1], neuron.LIFNode) for n in (ours, theirs)]
    x = spikes(23, 5)
    for network in (ours, theirs):
        train_once(network, x)
    assert torch.equal(watched[0].records[0], watched[1].records[0])
    assert [how.path for how in ours.plan] == ["spectra", "modules", "spectra", "spectra"]


def test_hooks_of_all_modules_see_every_module() -> None:
    ours, _ = networks(configure(WIDTHS))
    seen = []
    hook = nn.modules.module.register_module_forward_hook(lambda part, *_: seen.append(part))
    try:
        ours.train()(spikes(23, 5))
    finally:
        hook.remove()
    assert {id(block.neuron) for block in ours.blocks} < {id(part) for part in seen}


def test_a_foreign_layer_leaves_its_neighbours_fused() -> None:
    ours, theirs = networks(configure(WIDTHS))
    for network in (ours, theirs):
        network.blocks.insert(1, nn.ReLU())
    x = spikes(23, 5)
    assert_near(train_once(ours, x), train_once(theirs, x))
    assert_equal_everywhere(ours, theirs)
    assert ours.plan[1] == How(None, "modules", "its class is foreign")
    assert [how.path for how in ours.plan if how.backend] == ["spectra"] * 4


class _Changes(nn.Module):
    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.float(), "make them one"),
        (lambda x: x[:, :, 1:], r"must be \[T, B, I\]"),
        (lambda x: x[:1, :1], "needs 2 numbers of a channel, and has 1"),
    ],
)
def test_what_a_foreign_layer_gives_is_checked(change, words) -> None:
    ours, _ = networks(configure(WIDTHS, extra_steps=0))
    ours.blocks.insert(1, _Changes(change))
    with pytest.raises(ValueError, match=words):
        ours.train()(spikes(23, 5))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_layers_that_do_not_fit_are_refused(place) -> None:
    """No kernel may read beyond an array."""
    ours, _ = networks(configure(WIDTHS))
    parts = [*ours.blocks, ours.readout]
    parts[place + 1].linear = DelayedLinear(WIDTHS[place] + 1, 6, taps=7, backend="numba").double()
    with pytest.raises(ValueError, match=r"must be \[T, B, I\]"):
        ours.train()(spikes(23, 5))


def test_a_norm_of_another_width_is_refused() -> None:
    ours, _ = networks(configure(WIDTHS))
    ours.blocks[1].norm = ours.blocks[2].norm
    with pytest.raises(RuntimeError, match="should contain 11 elements not 10"):
        ours.train()(spikes(23, 5))


def test_the_plan_is_kept_and_changes_with_the_mode() -> None:
    ours, _ = networks(configure())
    assert ours.plan == []
    x = spikes(23, 5)
    ours.train()(x)
    assert ours.plan == ours.plan_for(x)
    assert [how.backend for how in ours.plan] == ["numba"] * 3
    assert pickle.loads(pickle.dumps(ours)).plan == copy.deepcopy(ours).plan == ours.plan
    ours.eval()(x)
    assert {how.path for how in ours.plan} == {"modules"}


@pytest.mark.parametrize("backend", ["auto", "dense", "numba", "event"])
@pytest.mark.parametrize("training", [True, False])
def test_the_plan_names_the_backends_that_run(backend, training, monkeypatch) -> None:
    network, _ = networks(configure(WIDTHS, delays="fixed", bias=True))
    network.train(training).set_backend(backend)
    ran = []
    for name, known in list(maps.BACKENDS.items()):
        noting = replace(
            known, run=lambda *x, known=known: (ran.append(known.name), known.run(*x))[1]
        )
        monkeypatch.setitem(maps.BACKENDS, name, noting)
    with torch.set_grad_enabled(training):
        network(spikes(23, 5))
    assert ran == [how.backend for how in network.plan]


def test_words() -> None:
    fused, slow = How("numba", "spectra"), How("dense", why="it has a bias")
    assert describe([fused, fused, fused]) == "numba (blocks fused)"
    assert describe([slow, slow, How("dense")]) == "dense (module by module: it has a bias)"
    assert describe([How("dense")]) == "dense"
    assert describe([fused, slow, How("fft")]) == (
        "numba, dense, fft (blocks fused; block 2 module by module: it has a bias)"
    )
    other = How(None, why="its class is foreign")
    assert describe([slow, other, How("dense")]) == (
        "dense (block 1 module by module: it has a bias;"
        " block 2 module by module: its class is foreign)"
    )


def test_steps_that_layers_add_are_counted() -> None:
    network, _ = networks(configure(extra_steps=1))
    network.blocks[1].linear.extra_steps = 0
    assert {how.path for how in network.train().plan_for(spikes(1, 3))} == {"spectra"}
