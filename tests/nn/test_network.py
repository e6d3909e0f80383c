"""The network: its size, its modes, its state, SpikingJelly's tools on it."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, monitor, neuron, op_counter

from snn_delays.config import Config
from snn_delays.nn import DelayedLinear, Network, build_network, count_parameters
from snn_delays.nn.sync import BatchNorm1d


def small(**model) -> Config:
    config = Config()
    config.data.units, config.data.units_per_channel = 20, 2
    config.model.hidden, config.model.taps = [8, 6], 5
    for key, value in model.items():
        assert hasattr(config.model, key)
        setattr(config.model, key, value)
    return config


def spikes(T=12, B=3, seed=0) -> torch.Tensor:
    return torch.poisson(torch.full((T, B, 10), 0.4), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("hidden", "count", "taps", "classes", "parameters"),
    [
        ([256] * 2, 1, 25, 20, 214_016),
        ([512] * 2, 1, 31, 35, 705_536),
        ([512] * 2, 2, 31, 35, 1_409_024),
        ([512] * 3, 1, 31, 35, 1_230_848),
        ([512] * 3, 2, 31, 35, 2_458_624),
    ],
)
def test_parameters_are_those_of_the_paper(hidden, count, taps, classes, parameters) -> None:
    config = Config()
    config.model.hidden, config.model.kernel_count, config.model.taps = hidden, count, taps
    assert count_parameters(build_network(config, classes)) == parameters


@pytest.mark.parametrize("delays", ["fixed", "none"])
@pytest.mark.parametrize(("hidden", "wide", "classes"), [(256, 388, 20), (512, 755, 35)])
def test_equal_parameters_need_wider_layers_without_learned_delays(
    delays, hidden, wide, classes
) -> None:
    config = Config()
    config.model.hidden = [hidden] * 2
    target = count_parameters(build_network(config, classes))
    config.model.delays, config.model.hidden = delays, [wide] * 2
    assert abs(count_parameters(build_network(config, classes)) / target - 1) < 0.01


def test_initial_values_follow_the_method() -> None:
    torch.manual_seed(0)
    layer = DelayedLinear(50, 400, taps=25, kernel_count=2, delay_init="uniform_clamped")
    bound = (6 / (50 * 2)) ** 0.5
    assert layer.weight.abs().max() <= bound
    assert layer.weight.abs().max() > 0.99 * bound
    assert layer.delay.min() >= 0
    assert layer.delay.max() == 24
    at_the_end = (layer.delay == 24).float().mean().item()
    assert at_the_end == pytest.approx(1 / 25, abs=0.005)
    plain = DelayedLinear(50, 400, taps=25)
    assert (plain.delay == 24).float().mean() < 0.001


def test_fixed_delays_are_the_learned_draw_rounded() -> None:
    torch.manual_seed(0)
    learned = build_network(small(), 4)
    torch.manual_seed(0)
    fixed = build_network(small(delays="fixed"), 4)
    for a, b in zip(learned.delayed_layers(), fixed.delayed_layers(), strict=True):
        assert torch.equal(a.delay.round(), b.delay)
        assert torch.equal(a.weight, b.weight)
        assert not isinstance(b.delay, torch.nn.Parameter)


def test_fixed_delays_train_on_the_network_that_is_deployed() -> None:
    network = build_network(small(delays="fixed", dropout=0.0, batch_norm=False), 4)
    assert torch.equal(network.train()(spikes()), network.eval()(spikes()))


def test_no_delays_is_a_plain_linear_network() -> None:
    network = build_network(small(delays="none"), 4)
    layer = network.blocks[0].linear
    x = spikes()
    torch.testing.assert_close(layer(x), x @ layer.weight[:, :, 0].T)


def test_dense_delays_are_an_ordinary_temporal_convolution() -> None:
    network = build_network(small(delays="dense"), 4).double()
    layer, x = network.blocks[0].linear, spikes().double()
    taps, steps = layer.taps, len(x) + layer.extra_steps
    assert layer.weight.shape[2] == taps
    padded = torch.nn.functional.pad(x.permute(1, 2, 0), (taps - 1, layer.extra_steps))
    expected = torch.nn.functional.conv1d(padded, layer.weight.flip(2)).permute(2, 0, 1)
    for training in (True, False):
        torch.testing.assert_close(network.train(training).blocks[0].linear(x), expected)
    assert len(expected) == steps
    (wanted,) = torch.autograd.grad(expected.square().sum(), layer.weight)
    (got,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    torch.testing.assert_close(got, wanted)
    assert count_parameters(network.blocks[0].linear) == layer.weight.numel()


@pytest.mark.parametrize("extra", [None, 0, 3])
def test_each_layer_lengthens_the_sequence(extra) -> None:
    network = build_network(small(extra_steps=extra), 4)
    network(spikes(T=12))
    added = 2 if extra is None else extra
    assert network.readout.neuron.v_seq.shape == (12 + 3 * added, 3, 4)


def test_evaluation_changes_nothing() -> None:
    network = build_network(small(), 4)
    before = copy.deepcopy(network.state_dict())
    network.eval()(spikes())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norm_of_evaluation_rounds_the_product_before_the_sum(dtype) -> None:
    """As any processor does without fused operations, so that spikes are equal everywhere."""
    norm = BatchNorm1d(33, step_mode="m").to(dtype)
    torch.manual_seed(0)
    for _ in range(3):
        norm(torch.randn(5, 4, 33, dtype=dtype) * 2 + 1)
    norm.eval()
    x = torch.randn(50, 2, 33, dtype=dtype)
    with torch.no_grad():
        alpha, beta = (number.numpy() for number in norm.affine_map())
        y, usual = norm(x), layer.BatchNorm1d.forward(norm, x)
    assert np.array_equal(y.numpy(), x.numpy() * alpha + beta)
    torch.testing.assert_close(y, usual)


def test_evaluation_uses_rounded_delays() -> None:
    network = build_network(small(), 4).eval()
    expected = network(spikes())
    with torch.no_grad():
        for layer in network.delayed_layers():
            layer.delay.round_()
    network.set_sigma(0.5)
    assert torch.equal(network(spikes()), expected)


def test_no_state_leaks_between_batches() -> None:
    network = build_network(small(), 4).eval()
    first = network(spikes(seed=1))
    network(spikes(seed=2, B=5))
    assert torch.equal(network(spikes(seed=1)), first)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    network = build_network(small(), 4).double().eval()
    x = spikes(B=6).double()
    torch.testing.assert_close(network(x)[2:3], network(x[:, 2:3]), rtol=1e-12, atol=1e-12)


def test_constrain_clamps_delays_and_keeps_missing_synapses_silent() -> None:
    torch.manual_seed(0)
    network = build_network(small(density=0.3), 4)
    layer = network.blocks[0].linear
    with torch.no_grad():
        layer.delay.add_(100)
        layer.weight.add_(1)
    network.constrain()
    assert layer.delay.max() == 4
    assert torch.equal(layer.weight != 0, layer.mask.expand_as(layer.weight))
    assert 0.1 < layer.mask.float().mean() < 0.5
    dense = count_parameters(build_network(small(), 4))
    assert count_parameters(network) < 0.6 * dense


@pytest.mark.parametrize("readout", ["sum", "mean", "max", "last", "spike_count"])
def test_readouts_follow_their_equations(readout) -> None:
    config = small(readout=readout, readout_threshold=0.3)
    network = build_network(config, 4).eval()
    fired = []
    network.readout.neuron.register_forward_hook(lambda *a: fired.append(a[2]))
    scores = network(spikes())
    if readout == "spike_count":
        assert torch.equal(scores, fired[0].sum(0))
        assert scores.sum() > 0
        return
    v = network.readout.neuron.v_seq
    expected = {
        "sum": torch.softmax(v, 2).sum(0),
        "mean": v.mean(0),
        "max": v.max(0).values,
        "last": v[-1],
    }
    assert torch.equal(scores, expected[readout])
    assert fired[0].sum() == 0


def test_readout_membrane_is_a_leaky_integrator() -> None:
    config = small(tau_ms=30.0)
    network = build_network(config, 4).double().eval()
    current = []
    network.readout.linear.register_forward_hook(lambda *a: current.append(a[2]))
    network(spikes().double())
    v = torch.zeros_like(current[0][0])
    for t, x in enumerate(current[0]):
        v = v + x - v / 3.0
        torch.testing.assert_close(network.readout.neuron.v_seq[t], v)


def plain_lif(x: torch.Tensor, tau: float) -> torch.Tensor:
    """Charge, fire at 1, reset to 0: the recurrence as the method states it."""
    v, fired = torch.zeros_like(x[0]), []
    for current in x:
        v = v + current - v / tau
        spike = (v >= 1).to(x.dtype)
        v = v * (1 - spike)
        fired.append(spike)
    return torch.stack(fired)


@pytest.mark.parametrize("kind", ["lif", "plif"])
@pytest.mark.parametrize("tau_ms", [10.05, 15.0, 55.6])
def test_neurons_fire_as_the_plain_recurrence(kind, tau_ms) -> None:
    network = build_network(small(neuron=kind, tau_ms=tau_ms), 4).double()
    node = network.blocks[0].neuron
    x = torch.randn(50, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    functional.reset_net(network)
    spiked = node(x)
    assert torch.equal(spiked, plain_lif(x, tau_ms / 10))
    assert 0 < spiked.mean() < 1


@pytest.mark.parametrize("alpha", [5.0, 2.0])
def test_surrogate_gradient_is_the_arc_tangents(alpha) -> None:
    node = build_network(small(surrogate_alpha=alpha), 4).blocks[0].neuron
    v = torch.linspace(-1, 3, 41, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    node(v).sum().backward()  # one step from rest: the membrane is the input
    expected = alpha / 2 / (1 + (torch.pi / 2 * alpha * (v.detach() - 1)) ** 2)
    torch.testing.assert_close(v.grad, expected)


def test_plif_and_filter_learn_their_time_constants() -> None:
    config = small(neuron="plif", filter_tau_ms=30.0, filter_learnable=True, bias=True)
    network = build_network(config, 4)
    network(spikes()).logsumexp(1).sum().backward()
    scalars = [n for n, p in network.named_parameters() if p.numel() == 1]
    assert scalars == [
        "blocks.0.neuron.w", "blocks.0.filter.w", "blocks.1.neuron.w", "blocks.1.filter.w",
        "readout.neuron.w",
    ]  # fmt: skip
    assert all(p.grad is not None for p in network.parameters())


def test_parameters_of_a_layer_are_weight_and_delay() -> None:
    names = [n for n, _ in build_network(small(batch_norm=False), 4).named_parameters()]
    assert names == [
        f"{layer}.linear.{name}"
        for layer in ("blocks.0", "blocks.1", "readout")
        for name in ("weight", "delay")
    ]


def test_spikingjelly_tools_work_on_the_network() -> None:
    network = build_network(small(), 4).eval()
    watch = monitor.OutputMonitor(network, neuron.LIFNode)
    network(spikes())
    assert [r.shape[-1] for r in watch.records] == [8, 6, 4]
    watch.remove_hooks()
    functional.reset_net(network)
    assert network.blocks[0].neuron.v == 0.0


def test_spikingjelly_counts_operations_of_the_network() -> None:
    network = build_network(small(), 4).eval()
    totals = []
    for backend in ("dense", "reference"):
        network.set_backend(backend)
        counter = op_counter.SynOpCounter()
        with op_counter.DispatchCounterMode([counter]), torch.no_grad():
            network(spikes())
        totals.append(counter.get_total())
    assert totals[0] == totals[1] > 0


def test_switching_the_backend_changes_no_state() -> None:
    network = build_network(small(), 4).double()
    state = network.state_dict()
    network.set_backend("reference")
    expected = network.eval()(spikes().double())
    network.set_backend("dense")
    torch.testing.assert_close(network(spikes().double()), expected)
    assert list(network.state_dict()) == list(state)
    with pytest.raises(ValueError, match="not one of"):
        network.set_backend("magic")
    assert isinstance(network, Network)


@pytest.mark.parametrize("neuron", ["lif", "plif"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((12, 3, 9), r"x \[12, 3, 9\] must be \[T, B, 10\]"),
        ((12, 3, 20), r"x \[12, 3, 20\] must be \[T, B, 10\]"),
        ((12, 10), r"x \[12, 10\] must be \[T, B, 10\]"),
        ((12, 3, 10, 1), r"must be \[T, B, 10\]"),
        ((0, 3, 10), "has no time steps"),
    ],
)
def test_inputs_of_another_shape_are_named(shape, words, training, neuron) -> None:
    network = build_network(small(neuron=neuron), 4).train(training)
    with pytest.raises(ValueError, match=words):
        network(torch.zeros(shape))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((12, 0, 10), "has no samples to train on"),
        ((1, 1, 10), r"\[1, 1, 10\] of one sample of one step cannot train, since BatchNorm"),
    ],
)
def test_batches_that_cannot_train_are_named(shape, words) -> None:
    network = build_network(small(extra_steps=0), 4)
    with pytest.raises(ValueError, match=words):
        network.train()(torch.zeros(shape))
    assert network.eval()(torch.zeros(shape)).shape == (shape[1], 4)


def test_one_sample_of_one_step_trains_without_batch_norm() -> None:
    network = build_network(small(extra_steps=0, batch_norm=False), 4).train()
    network(spikes(1, 1))[0, 0].backward()
    gradient = network.readout.linear.weight.grad
    assert gradient.shape == network.readout.linear.weight.shape
    assert gradient.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_a_foreign_part_takes_the_input_as_it_likes(training) -> None:
    network = build_network(small(), 4).train(training)
    first = network.blocks[0]
    network.blocks[0] = torch.nn.Sequential(torch.nn.Linear(7, 10), first)
    assert network(torch.rand(12, 3, 7)).shape == (3, 4)
    with pytest.raises(ValueError, match=r"x \[12, 10\] must be \[T, B, I\]"):
        network(torch.rand(12, 10))
    first.linear = torch.nn.Linear(10, first.linear.weight.shape[0])
    network.blocks[0] = first
    assert network(spikes()).shape == (3, 4)
    network.blocks, network.readout.linear = network.blocks[:1], torch.nn.Linear(8, 4)
    assert network(spikes()).shape == (3, 4)


@torch.no_grad()
def test_a_part_that_was_put_in_starts_from_silence() -> None:
    network = build_network(small(tau_ms=500.0, v_threshold=0.2), 4).eval()
    network(spikes())
    before = [block.neuron for block in network.blocks]  # others may hold them, too
    for block in network.blocks:
        block.neuron = copy.deepcopy(block.neuron)
    first = network(spikes(T=60))
    assert torch.equal(network(spikes(T=60)), first)
    assert len(before) == 2


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"filter_tau_ms": 20.0, "neuron": "plif", "bias": True},
        {"readout": "spike_count"},
        {"neuron": "silif"},
    ],
)
def test_a_network_is_copied_and_saved_after_a_training_pass(model) -> None:
    network = build_network(small(**model), 4).train()
    scores = network(spikes())
    scores.sum().backward()  # what is let go of afterwards is no part of the gradients
    assert all(p.grad is not None for p in network.parameters())
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(twin.eval()(spikes()), network.eval()(spikes()))


def test_threads_share_a_network_in_evaluation() -> None:
    network = build_network(small(v_threshold=0.2), 4).eval()
    inputs = [spikes(T=60, B=16, seed=seed) for seed in range(16)]

    @torch.no_grad()
    def answer(x: torch.Tensor) -> torch.Tensor:
        return network(x)

    expected = [answer(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for got, wanted in zip(pool.map(answer, inputs), expected, strict=True):
                assert torch.equal(got, wanted)


def traced(network, x):
    return torch.jit.trace(network, x, check_trace=False)


def exported(network, x):
    with torch.no_grad():
        return torch.export.export(network, (x,)).module()


def compiled(network, x):
    return torch.compile(network, backend="eager", fullgraph=True)


def mapped(network, x):
    every = torch.vmap(lambda sample: network(sample[:, None])[0], in_dims=1)
    return lambda x: every(x)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "way", [traced, exported, pytest.param(compiled, marks=pytest.mark.slow), mapped]
)
@pytest.mark.parametrize("kind", ["lif", "adlif"])
def test_traces_and_maps_of_a_network_compute_what_it_does(kind, way) -> None:
    network = build_network(small(v_threshold=0.2, neuron=kind), 4).double().eval()
    x = spikes().double()
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(way(network, x)(x), expected)
        assert torch.equal(network(x), expected)  # nothing of the trace was kept
    copy.deepcopy(network)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("way", [traced, exported, mapped])
@pytest.mark.parametrize("backend", ["fft", "matmul", "numba", "event"])
def test_what_cannot_be_traced_says_so(backend, way) -> None:
    network = build_network(small(), 4).eval()
    network.set_backend(backend)
    with pytest.raises(ValueError, match=rf"backend={backend} cannot serve: .* (traces|runs) it"):
        way(network, spikes())(spikes())


@pytest.mark.parametrize("training", [True, False])
def test_shapes_are_found_without_numbers(training) -> None:
    network = build_network(small(), 4).to("meta").train(training)
    assert network(spikes().to("meta")).shape == (3, 4)


def test_backends_of_single_layers_are_held_to_the_table() -> None:
    with pytest.raises(ValueError, match="backend=magic is not one of"):
        build_network(small(), 4).set_backends(["dense", "magic", "dense"])
