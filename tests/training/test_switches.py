"""Switches for research: frozen weights or delays, noise on delays, penalties, pruning."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from snn_delays.config import Config, validate
from snn_delays.errors import UserError
from snn_delays.nn import DelayedLinear, build_network, count_parameters
from snn_delays.nn.recurrence import Recurrence
from snn_delays.training import batched, loop
from snn_delays.training.checkpoint import load_run, read_checkpoint
from snn_delays.training.penalties import mean_delay, penalties, rate_excess
from snn_delays.training.pruning import prune_to_budget
from snn_delays.training.run import train
from tests.training.test_resume import assert_same_run, metrics, reference, train_for  # noqa: F401

ALL = {"rate_penalty": 2.0, "rate_limit": 0.01, "delay_penalty": 0.02, "delay_noise": 0.7}
PRUNED = {"round_epochs": 0.5, "buffer_budget": 40}  # of 130 steps
BEST = {  # the parts of experiment=best/ssc
    "neuron": "silif", "delay_type": "axonal", "recurrent": "learned", "recurrent_dropout": 0.2,
}  # fmt: skip


def small_network(seed: int = 0, *, train=None, **model):
    config = Config()
    config.data.units_per_channel, config.model.hidden, config.model.taps = 50, [12, 6], 5
    config.model.v_threshold = 0.2
    for group, values in ((config.model, model), (config.train, train or {})):
        for key, value in values.items():
            setattr(group, key, value)
    torch.manual_seed(seed)
    return build_network(config, 3).double(), config


# ---- frozen weights or delays ------------------------------------------------------------------


@pytest.mark.parametrize("recurrent", ["none", "learned"])
@pytest.mark.parametrize("freeze", ["weights", "delays"])
def test_what_is_frozen_keeps_its_bits_and_the_rest_trains(freeze, recurrent, small_config) -> None:
    config = small_config(freeze=freeze, protocol="last", epochs=2)
    config.model.recurrent, config.model.bias = recurrent, True
    if recurrent == "learned":
        config.model.recurrent_width_scope = "neuron"
    torch.manual_seed(config.seed)
    drawn = build_network(config, 3).state_dict()
    lines = metrics(train(config)["out"])
    model = read_checkpoint(Path(config.out), "last")["model"]
    moved = {name for name, value in drawn.items() if not torch.equal(value, model[name])}
    statistics = {name for name in drawn if "running" in name or "tracked" in name}
    state = {name for name in drawn if name.endswith("_extra_state")}
    delays = {name for name in drawn if name.endswith((".delay", ".p"))}
    assert len(delays) == (2 if recurrent == "none" else 4)
    others = drawn.keys() - delays - statistics - state
    assert moved - state == statistics | (delays if freeze == "weights" else others)
    assert ("lr_weight" in lines[0], "lr_delay" in lines[0]) == (
        freeze == "delays",
        freeze == "weights",
    )


# ---- noise on delays ---------------------------------------------------------------------------


def test_noise_moves_delays_within_bounds_in_training_alone() -> None:
    torch.manual_seed(0)
    plain = DelayedLinear(4, 3, taps=5)
    noisy = DelayedLinear(4, 3, taps=5, delay_noise=2.0)
    noisy.load_state_dict(plain.state_dict())
    torch.manual_seed(1)
    seen = [noisy.synapses().delay for _ in range(2)]
    torch.manual_seed(1)
    for delay in seen:
        expected = plain.delay + 2.0 * torch.randn_like(plain.delay)
        assert torch.allclose(delay, expected.clamp(0, 4), atol=1e-6)
        assert ((expected < 0) | (expected > 4)).any()
    assert torch.equal(noisy.delay, plain.delay)
    seen[0].sum().backward()
    assert torch.equal(noisy.delay.grad, torch.ones_like(noisy.delay))
    x_TBI = torch.rand(6, 2, 4)
    assert torch.equal(noisy.eval()(x_TBI), plain.eval()(x_TBI))
    noisy.train().freeze_delays()
    assert torch.equal(noisy.synapses().delay, noisy.delay)


def test_noise_on_recurrent_delays() -> None:
    torch.manual_seed(0)
    layer = Recurrence(7, delay_noise=20.0)
    delay = layer.delay.detach().clone()
    torch.manual_seed(1)
    lines = layer.lines()
    torch.manual_seed(1)
    expected = (delay + 20.0 * torch.randn(7)).clamp(min=0)
    assert torch.allclose(lines.delay, expected, atol=1e-5)
    assert (expected == 0).any()
    assert torch.equal(layer.eval().lines().delay, delay)


# ---- penalties ---------------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent", ["none", "learned"])
def test_penalties_are_their_definitions(recurrent) -> None:
    given = {"rate_penalty": 3.0, "rate_limit": 0.05, "delay_penalty": 0.5}
    network, config = small_network(train=given, recurrent=recurrent, density=0.6)
    spikes = []
    for block in network.blocks:
        block.neuron.register_forward_hook(lambda module, inputs, out: spikes.append(out))
    network((torch.rand(9, 4, 14) < 0.4).double())
    rate, delay = penalties(network, config.train)
    per_sample = [
        max(0.0, s[:, b, n].sum().item() / len(s) - 0.05) ** 2
        for s in spikes
        for b, n in itertools.product(range(4), range(s.shape[2]))
    ]
    assert rate.item() == pytest.approx(3.0 * sum(per_sample) / len(per_sample), rel=1e-12)
    assert rate > 0
    lengths = [
        d for m in network.delayed_layers() for d in m.delay[m.mask.expand_as(m.delay)].tolist()
    ]
    lengths += [d for m in network.recurrences() for d in m.delay.tolist()]
    assert delay.item() == pytest.approx(0.5 * sum(lengths) / len(lengths), rel=1e-12)
    rate.backward()
    assert network.blocks[0].linear.weight.grad.abs().sum() > 0
    delay.backward()
    assert network.readout.linear.delay.grad[network.readout.linear.delay_exists].min() > 0


def test_frozen_delays_feel_no_penalty(small_config) -> None:
    network, _ = small_network()
    network.freeze_delays()
    assert not mean_delay(network).requires_grad
    config = small_config(epochs=2, round_epochs=0.5, delay_penalty=5.0, protocol="last")
    assert metrics(train(config)["out"])[1]["delay_penalty"] > 0
    delay = load_run(config.out, "last").network.readout.linear.delay
    assert torch.equal(delay, delay.round())


def test_rates_are_taken_once_and_only_where_they_are_measured() -> None:
    (plain, _), (measured, _) = small_network(), small_network(train={"rate_penalty": 1.0})
    x_TBI = torch.rand(5, 2, 14).double()
    for network in (plain, measured):
        network(x_TBI)
    assert rate_excess(measured, 0.0) > 0
    measured.eval()(x_TBI)
    for network in (plain, measured):
        with pytest.raises(ValueError, match="No rates"):
            rate_excess(network, 0.0)


def test_a_layer_says_why_penalised_rates_cost_the_fused_path() -> None:
    network, _ = small_network(train={"rate_penalty": 1.0})
    plan = network.plan_for(torch.rand(5, 2, 14).double())
    assert {how.why for how in plan[:-1]} == {"its firing rates are penalised"}


def test_penalties_lower_what_they_penalise(small_config, tmp_path) -> None:
    seen = {}
    for name, penalty in (("none", {}), ("both", {"rate_penalty": 100.0, "delay_penalty": 10.0})):
        config = small_config(epochs=6, protocol="last", weight_schedule="constant", **penalty)
        config.train.lr_weight = 0.05
        config.out, config.model.v_threshold = str(tmp_path / name), 0.3
        lines = metrics(train(config)["out"])
        delay = mean_delay(load_run(config.out, "last").network).item()
        seen[name] = lines[-1]["rate_1"], delay, lines[-1].keys()
    assert seen["both"][0] < 0.7 * seen["none"][0]
    assert seen["both"][1] < 0.7 * seen["none"][1]
    assert seen["both"][2] - seen["none"][2] == {"rate_penalty", "delay_penalty"}


def test_the_metrics_hold_the_means_of_the_penalties(small_config, monkeypatch) -> None:
    config = small_config(epochs=1, batch_size=11, delay_penalty=2.0, rate_penalty=3.0)
    rows = []
    real = loop.Epoch.add

    def add(epoch, result):
        rows.append([epoch._size, *result.values.tolist()])
        real(epoch, result)

    monkeypatch.setattr(loop.Epoch, "add", add)
    (line,) = metrics(train(config)["out"])
    sizes, losses, _, _, rates, delays = zip(*rows, strict=True)
    for name, values in (
        ("train_loss", losses),
        ("rate_penalty", rates),
        ("delay_penalty", delays),
    ):
        mean = sum(n * v for n, v in zip(sizes, values, strict=True)) / sum(sizes)
        assert line[name] == pytest.approx(mean, rel=1e-6)
    assert len(set(sizes)) == 2


# ---- pruning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize(("copies", "density"), [(1, 1.0), (2, 0.6)])
def test_synapses_of_long_delays_are_pruned_to_the_budget(kind, copies, density) -> None:
    network, _ = small_network(train=PRUNED, delay_type=kind, kernel_count=copies, density=density)
    network.freeze_delays()
    before, parameters = plain_buffer(network), count_parameters(network)
    assert network.buffer_steps == before > 70
    prune_to_budget(network, before)
    assert count_parameters(network) == parameters
    prune_to_budget(network, 60)
    assert 50 < network.buffer_steps == plain_buffer(network) <= 60
    assert count_parameters(network) < parameters
    for linear in network.delayed_layers():
        assert not linear.delay[~linear.delay_exists].any()
        assert not linear.weight[~linear.exists].any()
        assert linear.weight[linear.exists].all()


def plain_buffer(network) -> int:
    """The definition, synapse by synapse."""
    steps = 0
    for linear in network.delayed_layers():
        delay = linear.delay.expand_as(linear.weight).tolist()
        for i in range(linear.weight.shape[1]):
            steps += max(
                (
                    1 + round(delay[o][i][c])
                    for o, row in enumerate(linear.exists.tolist())
                    for c, exists in enumerate(row[i])
                    if exists
                ),
                default=0,
            )
    return steps


def test_the_first_cut_costs_least_for_each_step_that_it_saves() -> None:
    network, _ = small_network(train=PRUNED, delay_type="axonal", hidden=[2])
    first, last = network.delayed_layers()
    with torch.no_grad():
        for linear in (first, last):
            linear.weight.fill_(1.0)
            linear.delay.fill_(4.0)
        first.delay[0, 3], first.weight[:, 3] = 1.0, 0.5  # a quarter of the weight for 2 steps
        first.weight[:, 5] = 0.7  # half of it for 5 steps
        last.weight.mul_(0.01)  # shares of a layer's weight count, whatever its scale
    network.freeze_delays()
    prune_to_budget(network, 16 * 5 - 4)
    assert first.buffer_steps.tolist() == [5] * 3 + [2, 5, 0] + [5] * 8
    prune_to_budget(network, 16 * 5 - 9)
    assert first.buffer_steps[3] == 0
    assert last.buffer_steps.tolist() == [5, 5]


def test_a_layer_that_would_lose_every_synapse_is_reported() -> None:
    network, _ = small_network(train=PRUNED, delay_type="axonal")
    for linear in network.delayed_layers():
        linear.delay.data.fill_(4.0)
    network.freeze_delays()
    before = network.state_dict()
    with pytest.raises(UserError, match=r"buffer_budget=4 leaves layer \d of 3 without synapses"):
        prune_to_budget(network, 4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("kind", ["synaptic", "axonal"])
@pytest.mark.parametrize("protocol", ["validation", "refit", "last"])
def test_a_run_is_pruned_before_its_last_epochs(kind, protocol, small_config) -> None:
    config = small_config(epochs=4, protocol=protocol, **PRUNED)
    config.model.delay_type = kind
    whole = count_parameters(build_network(config, 3))
    result = train(config)
    lines = metrics(config.out)
    sizes = [line["buffer_steps"] for line in lines if line["phase"] == "train"]
    assert min(sizes[:2]) > 40 >= sizes[2] == sizes[3]
    assert result["epoch"] >= 3
    for which in ("best", "last"):
        network = load_run(config.out, which).network
        assert network.buffer_steps <= 40
        assert result["delay_buffer_bytes"] == network.buffer_steps
        assert result["parameters"] == count_parameters(network) < whole
        x_TBI = torch.rand(9, 4, 14)
        deployed = network(x_TBI)
        network.train()
        trained = [linear.synapses() for linear in network.delayed_layers()]
        network.eval()
        for now, linear in zip(trained, network.delayed_layers(), strict=True):
            assert torch.equal(now.delay.round(), now.delay)
            assert torch.equal(now.weight, linear.synapses().weight)
        assert torch.equal(network(x_TBI), deployed)


def test_a_finished_run_is_pruned_by_a_fine_tuning(small_config, tmp_path) -> None:
    whole = small_config(epochs=1)
    train(whole)
    config = small_config(epochs=1, init=whole.out, round_epochs=1.0, buffer_budget=40)
    config.out = str(tmp_path / "pruned")
    train(config)
    pruned = load_run(config.out).network
    assert pruned.buffer_steps <= 40
    again = small_config(epochs=1, init=config.out, round_epochs=1.0, buffer_budget=40)
    again.out = str(tmp_path / "again")
    train(again)
    for mine, first in zip(load_run(again.out).network.buffers(), pruned.buffers(), strict=True):
        assert mine.dtype is not torch.bool or torch.equal(mine, first)
    again.train.buffer_budget, again.out = None, str(tmp_path / "whole")
    with pytest.raises(UserError, match=r"was pruned to train\.buffer_budget=40; give this run"):
        train(again)
    assert not Path(again.out).exists()


# ---- with everything else ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switches", "model", "precision"),
    [
        (ALL | PRUNED, {}, "mixed"),
        ({"freeze": "weights", "delay_noise": 0.5, "running_loss": 0.5}, {}, "float32"),
        (ALL | {"round_epochs": 0.5}, BEST, "float32"),
    ],
)
def test_they_go_on_from_any_batch(
    switches,
    model,
    precision,
    reference,  # noqa: F811
    monkeypatch,
) -> None:
    whole, config = reference(), reference(name="stopped")
    for each in (whole, config):
        each.precision, each.backend = precision, "dense"
        for group, values in ((each.train, switches), (each.model, model)):
            for key, value in values.items():
                setattr(group, key, value)
    train(whole)
    config.resume = "auto"
    for batches in (3, 7, 1, 2):  # 5 batches an epoch: the last two stop among pruned delays
        train_for(batches, config, monkeypatch)
    train(config)
    assert_same_run(whole.out, config.out)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("running_loss", "train.running_loss needs the scores after every step"),
        ("delay_noise", "train.delay_noise draws from the random state of one run"),
        ("delay_penalty", "train.delay_penalty is added to the loss of one run"),
        ("rate_penalty", "its firing rates are penalised"),
    ],
)
def test_seeds_at_once_refuse_in_a_sentence(key, words) -> None:
    config = Config()
    setattr(config.train, key, 0.5)
    assert batched.why_not_batched(config) == words


@pytest.mark.parametrize(
    ("train", "model", "words"),
    [
        ({"freeze": "weights"}, {"delays": "fixed"}, "freeze=weights has no use.*no delay is"),
        ({"freeze": "weights", "round_epochs": 0.1}, {}, "leaves nothing to train in the epochs"),
        ({"freeze": "delays"}, {"delays": "none"}, "freeze=delays has no use with"),
        ({"freeze": "delays", "delay_penalty": 1.0}, {}, "has no use with train.freeze=delays"),
        ({"delay_noise": 0.5}, {"delays": "dense"}, "delay_noise=0.5 has no use"),
        ({"delay_noise": -1.0}, {}, "must be at least 0"),
        ({"rate_limit": 0.1}, {}, "rate_limit=0.1 needs train.rate_penalty"),
        ({"buffer_budget": 99}, {}, "buffer_budget=99 needs a train.round_epochs"),
        ({"buffer_budget": 99, "round_epochs": 0.1, "epochs": 3}, {}, "one of train.epochs=3"),
        (PRUNED | {"buffer_budget": 2}, {}, "must be at least 3, a step for each layer"),
        (PRUNED, {"recurrent": "learned"}, "needs model.delays=learned and model.recurrent=none"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(train, model, words) -> None:
    config = Config()
    for group, values in ((config.train, train), (config.model, model)):
        for key, value in values.items():
            setattr(group, key, value)
    with pytest.raises(UserError, match=words):
        validate(config)
