"""The layer in other people's loops: right without a call that one can forget."""

from __future__ import annotations

import copy
import functools
import itertools

import pytest
import torch

from snn_delays.nn import DelayedLinear
from snn_delays.nn.neurons import build_neuron
from snn_delays.nn.readout import Readout

TAPS = 5


def layer(**settings) -> DelayedLinear:
    torch.manual_seed(0)
    made = DelayedLinear(6, 4, **{"taps": TAPS, "backend": "dense", **settings})
    made.sigma = 1.0
    return made


def spikes(seed=0) -> torch.Tensor:
    return torch.poisson(torch.full((9, 3, 6), 0.4), generator=torch.Generator().manual_seed(seed))


def train(made: DelayedLinear, steps=6, constrain=False, **settings) -> None:
    """Large steps, which push delays against both ends of their range."""
    optimizer = torch.optim.Adam(made.parameters(), lr=1.0, **settings)
    for seed in range(steps):
        optimizer.zero_grad()
        y = made(spikes(seed))
        assert 0 <= made.delay.min() <= made.delay.max() <= TAPS - 1
        y.cos().sum().backward()
        optimizer.step()
        if constrain:
            made.constrain()


@pytest.mark.parametrize("settings", [{}, {"density": 0.5, "kernel_count": 2}, {"bias": True}])
@pytest.mark.parametrize("fused", [False, True])
def test_training_in_ones_own_loop_is_that_of_the_method(settings, fused) -> None:
    """It is bit by bit as if bounds had been kept after every step of the optimiser."""
    own, theirs = layer(**settings), layer(**settings)
    train(own, fused=fused)
    train(theirs, fused=fused, constrain=True)
    assert not 0 <= own.delay.min() <= own.delay.max() <= TAPS - 1  # after the last step
    raw = copy.deepcopy(own.state_dict())
    with torch.no_grad():
        assert torch.equal(own.eval()(spikes()), theirs.eval()(spikes()))
    for name, value in own.state_dict().items():
        assert torch.equal(value, raw[name]), name
    own.constrain()
    for mine, other in zip(own.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_evaluation_gives_weights_their_gradient() -> None:
    made = layer(density=0.5).eval()
    with torch.no_grad():
        expected = made(spikes())
        made.weight.add_(1 - made.mask.float())  # of synapses that do not exist
    y = made(spikes())
    assert torch.equal(y, expected)
    y.cos().sum().backward()
    assert torch.equal(made.weight.grad != 0, made.mask & (made.weight.grad != 0))
    assert made.weight.grad.count_nonzero() > 0


def test_two_passes_may_come_before_one_way_back() -> None:
    made = layer(density=0.5)
    (made(spikes(1)).cos().sum() + made(spikes(2)).cos().sum()).backward()
    both = made.delay.grad.clone()
    made.zero_grad()
    for seed in (1, 2):
        made(spikes(seed)).cos().sum().backward()
    torch.testing.assert_close(made.delay.grad, both)


def test_numbers_that_are_no_parameters_are_left_alone_and_get_a_gradient() -> None:
    made = layer(density=0.5)
    far = torch.full_like(made.delay, 100.0).requires_grad_()
    values = {"delay": far * 1.0, "weight": made.weight * 1.0}
    y = torch.func.functional_call(made, values, (spikes(),))
    y.cos().sum().backward()
    assert values["delay"].eq(100).all()
    assert far.grad.count_nonzero() > 0
    with torch.no_grad():
        made.delay.fill_(100)
    assert torch.equal(made(spikes()), y)


@pytest.mark.parametrize("backend", ["reference", "dense", "numba", "event", "auto"])
def test_evaluation_of_a_delay_that_is_no_number_ends_in_a_sentence(backend) -> None:
    made = layer(backend=backend).eval()
    made.delay.data[0, 0] = torch.nan
    with torch.no_grad(), pytest.raises(ValueError, match=r"delays must lie in \[0, 4\]"):
        made(spikes())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (functools.partial(layer, delays="learnt"), "delays=learnt is not one of learned, fixed"),
        (functools.partial(layer, delay_init="zeros"), "delay_init=zeros is not one of uniform"),
        (functools.partial(layer, backend="magic"), "backend=magic is not one of auto"),
        (functools.partial(layer, taps=0), "taps=0 must be at least 1"),
        (functools.partial(layer, kernel_count=0), "kernel_count=0 must be at least 1"),
        (functools.partial(layer, extra_steps=-1), "extra_steps=-1 must be at least 0"),
        (functools.partial(layer, density=1.5), "density=1.5 must be at most 1"),
        (functools.partial(layer, delays="dense", kernel_count=6), "kernel_count=6 must be at"),
        (lambda: Readout(layer(), torch.nn.Identity(), "summ"), "readout=summ is not one of sum"),
        (functools.partial(build_neuron, "liff", tau=2.0), "neuron=liff is not one of lif, plif"),
        (functools.partial(build_neuron, "lif", tau=1), "tau=1 must be above 1"),
    ],
)
def test_misspelt_arguments_are_named(make, words) -> None:
    rest = {"v_threshold": 1, "surrogate_alpha": 5.0, "store_membrane": False}
    settings = rest if getattr(make, "func", None) is build_neuron else {}
    with pytest.raises(ValueError, match=words):
        make(**settings)


def test_sigma_is_saved_with_the_parameters() -> None:
    one, other = layer(), layer()
    one.sigma = 0.7
    other.load_state_dict(one.state_dict())
    assert other.sigma == 0.7
    torch.testing.assert_close(other(spikes()), one(spikes()), rtol=0, atol=0)


def test_parameters_of_earlier_versions_leave_sigma_as_it_is() -> None:
    made = layer()
    old = {name: value for name, value in made.state_dict().items() if "extra" not in name}
    assert set(old) == {"weight", "delay"}
    made.load_state_dict(old)
    assert made.sigma == 1.0


@torch.no_grad()
def test_evaluation_sees_another_mask_and_another_range() -> None:
    made, other = layer(density=0.5).eval(), layer(density=0.5).eval()
    other.mask.logical_not_()
    assert made(spikes()).count_nonzero() > 0
    made.mask.copy_(other.mask)
    assert torch.equal(made(spikes()), other(spikes()))
    far = layer().eval()
    far.delay.fill_(TAPS + 1)
    late = far(spikes())
    far.taps += 2
    assert not torch.equal(far(spikes()), late)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_deployed_layer_takes_every_precision(dtype) -> None:
    made = layer(density=0.5, backend="auto").eval().to(dtype)
    assert made(spikes().to(dtype)).dtype is dtype


@pytest.mark.parametrize("delay_type", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("delays", ["learned", "fixed", "none"])
def test_an_input_is_kept_until_its_last_effect(delays, delay_type) -> None:
    torch.manual_seed(0)
    linear = DelayedLinear(
        6, 3, taps=9, kernel_count=2, delays=delays, delay_type=delay_type, density=0.4
    ).eval()
    linear.delay.data += 0.6 * (delays == "learned")  # some are beyond the last tap
    assert linear.mask is not None
    linear.mask[:, 2] = False  # an input without any synapse
    impulses = torch.zeros(12, 6, 6)
    impulses[0] = torch.eye(6)  # a sample for each input
    seen = linear(impulses).ne(0).any(2)
    rows = [1 + max(row.nonzero().flatten().tolist(), default=-1) for row in seen.T]
    assert linear.buffer_steps.tolist() == rows


@pytest.mark.parametrize("delay_type", ["synaptic", "axonal", "dendritic"])
@torch.no_grad()
def test_ring_buffers_of_these_steps_stream_the_layer(delay_type) -> None:
    torch.manual_seed(0)
    linear = DelayedLinear(6, 3, taps=9, kernel_count=2, delay_type=delay_type, density=0.4).eval()
    x_TI, delay_OIC = torch.rand(20, 6), linear.delay.round().long().expand_as(linear.weight)
    rings = [torch.zeros(rows) for rows in linear.buffer_steps]
    y_TO = torch.zeros(20, 3)
    for t, (i, ring) in itertools.product(range(20), enumerate(rings)):
        if len(ring):
            ring[t % len(ring)] = x_TI[t, i]
            arriving_OC = ring[(t - delay_OIC[:, i]) % len(ring)]
            y_TO[t] += (arriving_OC * linear.weight[:, i] * linear.exists[:, i]).sum(1)
    torch.testing.assert_close(linear(x_TI[:, None])[:, 0], y_TO)
