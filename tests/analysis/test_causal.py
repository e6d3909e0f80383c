"""Every intervention does what it says to what it names, and nothing to anything else."""

from __future__ import annotations

import copy
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from snn_delays.analysis import causal
from snn_delays.analysis.causal import Intervention, intervene
from snn_delays.analysis.trained_run import TrainedRun
from snn_delays.data.loaders import Samples
from snn_delays.evaluate import evaluate
from snn_delays.nn import DelayedLinear, Network, build_network
from tests.analysis import handmade
from tests.analysis.handmade import CLASSES, TAPS, of_layer
from tests.conftest import open_spikes, write_spikes

SHAPE: dict[str, Any] = {"hidden": 2, "kernel_count": 2}
LAYERS = [*handmade.names(2), "all"]


def chosen(network: Network, kind: str, amount: float | None = None, layer: str = "all"):
    (one,) = (
        found
        for found in causal.interventions(network)
        if (found.kind, found.layer) == (kind, layer) and amount in (None, found.amount)
    )
    return one


def try_on(subject: TrainedRun, change: causal.Change, seed: int = 0) -> list[DelayedLinear]:
    """The layers after a change of all of them."""
    intervention = Intervention("tried", math.nan, "all", change)
    return list(intervene(subject.network, intervention, seed).delayed_layers())


def layers_of(network: Network) -> dict[str, DelayedLinear]:
    return dict(zip(handmade.names(2), network.delayed_layers(), strict=True))


def existing(values: Tensor, linear: DelayedLinear) -> list[float]:
    return values[linear.mask.expand_as(values)].tolist()


# ---- what each does ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "amount", "layer"),
    [
        *((kind, None, layer) for kind in ("shuffled", "mean", "zero") for layer in LAYERS),
        ("intact", None, "all"),
        ("jitter", 12, "all"),
        ("levels", 2, "all"),
    ],
)
def test_only_the_delays_of_the_named_layers_change(kind, amount, layer) -> None:
    subject = handmade.subject(**SHAPE)
    changed = intervene(subject.network, chosen(subject.network, kind, amount, layer), 1)
    mine, theirs = subject.network.state_dict(), changed.state_dict()
    assert list(mine) == list(theirs)
    place = dict(zip(handmade.names(2), ["blocks.0", "blocks.1", "readout"], strict=True))
    named = [f"{place[n]}.linear.delay" for n in place if layer in (n, "all") and kind != "intact"]
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == named


@pytest.mark.parametrize("delays", ["learned", "fixed"])
@pytest.mark.parametrize("masked", [False, True])
def test_no_intervention_touches_the_network(delays, masked) -> None:
    network = handmade.subject(**SHAPE, masked=masked, delays=delays).network.train()
    before = copy.deepcopy(network.state_dict())
    for intervention in causal.interventions(network):
        changed = intervene(network, intervention, 3)
        assert not changed.training
        for name, value in changed.state_dict().items():
            assert value.data_ptr() != network.state_dict()[name].data_ptr()
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("masked", [False, True])
def test_shuffling_keeps_the_delays_of_each_layer(masked) -> None:
    subject = handmade.subject(**SHAPE, masked=masked)
    found = handmade.synapses(**SHAPE, masked=masked)
    orders = set()
    for seed in range(6):
        changed = try_on(subject, causal.shuffle, seed)
        for name, linear in zip(handmade.names(2), changed, strict=True):
            delay = existing(linear.delay, linear) if masked else linear.delay.flatten().tolist()
            assert Counter(delay) == Counter(s.delay for s in of_layer(found, name))
        orders.add(tuple(changed[0].delay.flatten().tolist()))
    assert len(orders) == 6


def test_shuffling_deals_every_delay_to_every_synapse() -> None:
    subject = handmade.subject(1)
    with torch.no_grad():
        subject.network.readout.linear.delay.copy_(torch.arange(4.0).view(2, 2, 1))
    dealt = [
        try_on(subject, causal.shuffle, seed)[1].delay.flatten().tolist() for seed in range(99)
    ]
    for place in zip(*dealt, strict=True):
        assert min(Counter(place)[delay] for delay in range(4)) > 10  # 25 on average


@pytest.mark.parametrize("masked", [False, True])
def test_the_mean_is_that_of_the_synapses_that_exist(masked) -> None:
    changed = try_on(handmade.subject(**SHAPE, masked=masked), causal.set_to_mean)
    for name, linear in zip(handmade.names(2), changed, strict=True):
        found = of_layer(handmade.synapses(**SHAPE, masked=masked), name)
        mean = sum(s.delay for s in found) / len(found)
        assert linear.delay.flatten().tolist() == pytest.approx([mean] * linear.delay.numel())


def test_zero_is_zero() -> None:
    for linear in try_on(handmade.subject(**SHAPE), causal.set_to_zero):
        assert not linear.delay.any()


@pytest.mark.parametrize("steps", [1, 2, 12])
def test_jitter_stays_within_its_steps_and_the_range(steps) -> None:
    subject = handmade.subject(**SHAPE)
    ways: dict[int, set[float]] = {}
    for seed in range(60):
        for mine, linear in zip(
            subject.network.delayed_layers(),
            try_on(subject, causal.jitter(steps), seed),
            strict=True,
        ):
            was = [round(d) for d in mine.delay.flatten().tolist()]
            for old, new in zip(was, linear.delay.flatten().tolist(), strict=True):
                ways.setdefault(old, set()).add(new)
    for old, found in ways.items():  # every step within reach, and none beyond
        assert found == set(range(max(old - steps, 0), min(old + steps, TAPS - 1) + 1))


def test_jitter_moves_each_synapse_by_its_own_draw() -> None:
    """Clamped at an end, as often as the draws that lead beyond it: 3 of 5 at 0 with two steps."""
    linear = DelayedLinear(100, 100, taps=TAPS)
    with torch.no_grad():
        linear.delay.zero_()
        causal.jitter(2)(linear, torch.Generator().manual_seed(0))
    share = [(linear.delay == d).float().mean().item() for d in range(TAPS)]
    assert share == pytest.approx([0.6, 0.2, 0.2, 0, 0], abs=0.02)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (1, [2, 2, 2, 2, 2, 2, 2]),
        (2, [0, 0, 0, 4, 4, 4, 4]),
        (3, [0, 0, 2, 2, 4, 4, 4]),
        (4, [0, 0, 4 / 3, 8 / 3, 8 / 3, 4, 4]),
        (TAPS, [0, 0, 2, 2, 3, 4, 4]),  # the deployed network's own
    ],
)
def test_levels_are_evenly_spaced(levels, expected) -> None:
    linear = DelayedLinear(7, 1, taps=TAPS).double()
    with torch.no_grad():
        delay = torch.tensor([0, 0.5, 1.5, 2.1, 3.2, 3.5, 4.0])
        linear.delay.copy_(delay.view(1, 7, 1))
        causal.round_to_levels(levels)(linear, torch.Generator())
    assert linear.delay.flatten().tolist() == pytest.approx(expected)


def test_as_many_levels_as_taps_leave_the_deployed_network() -> None:
    subject, x = handmade.subject(**SHAPE), handmade.as_input()
    for levels, same in ((TAPS, True), (2, False)):
        intervention = Intervention("levels", levels, "all", causal.round_to_levels(levels))
        with torch.no_grad():
            scores = intervene(subject.network, intervention, 0)(x)
            assert torch.equal(scores, subject.network(x)) == same


@pytest.mark.parametrize("levels", [1, 2, 12])
def test_one_tap_has_one_level(levels) -> None:
    for linear in try_on(handmade.subject(1, taps=1), causal.round_to_levels(levels)):
        assert not linear.delay.any()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_pruning_takes_exactly_the_smallest_weights(share, masked) -> None:
    subject = handmade.subject(**SHAPE, masked=masked)
    changed = try_on(subject, causal.prune(share))
    for name, linear in zip(handmade.names(2), changed, strict=True):
        weights = [s.weight for s in of_layer(handmade.synapses(**SHAPE, masked=masked), name)]
        after = existing(linear.weight, linear) if masked else linear.weight.flatten().tolist()
        pruned = [k for k, (w, a) in enumerate(zip(weights, after, strict=True)) if a != w]
        assert all(after[k] == 0 for k in pruned)
        left = sorted(abs(w) for w in weights)[round(share * len(weights)) :]
        assert sorted(map(abs, after))[len(weights) - len(left) :] == left
        assert sum(a != 0 for a in after) == sum(w != 0 for w in left)


@pytest.mark.parametrize(("share", "left"), [(0.25, 6), (0.5, 4), (0.75, 2), (1.0, 0)])
def test_of_equal_weights_no_more_are_pruned(share, left) -> None:
    linear = DelayedLinear(4, 2, taps=TAPS)
    with torch.no_grad():
        linear.weight.fill_(0.5)
        linear.weight[0].mul_(-1)
        causal.prune(share)(linear, torch.Generator())
    assert int((linear.weight != 0).sum()) == left
    assert set(linear.weight.abs().flatten().tolist()) <= {0.0, 0.5}


def test_pruning_counts_the_synapses_that_exist() -> None:
    linear = DelayedLinear(4, 2, taps=TAPS, density=0.5)
    with torch.no_grad():
        linear.mask.copy_(torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0]])[..., None])
        linear.weight.copy_(torch.tensor([[4.0, 1, 9, 9], [2, 3, 9, 9]])[..., None])
        linear.constrain()
        causal.prune(0.5)(linear, torch.Generator())
    assert linear.weight.flatten().tolist() == [4, 0, 0, 0, 0, 3, 0, 0]


def test_a_layer_without_synapses_is_left_alone() -> None:
    subject = handmade.subject(1, masked=True)
    subject.network.blocks[0].linear.mask.zero_()
    subject.network.constrain()
    for intervention in causal.interventions(subject.network):
        scores = intervene(subject.network, intervention, 0)(handmade.as_input())
        assert scores.isfinite().all()


@pytest.mark.parametrize("kind", ["shuffled", "jitter"])
def test_the_seed_decides_the_draw(kind) -> None:
    subject = handmade.subject(**SHAPE)
    one = chosen(subject.network, kind, 2 if kind == "jitter" else None)
    draws = []
    for seed in (4, 4, 5):
        torch.rand(seed)  # the global state has no part in it
        parts = [m.delay.flatten() for m in intervene(subject.network, one, seed).delayed_layers()]
        draws.append(torch.cat(parts))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_each_kind_is_tried_with_the_amounts_it_says() -> None:
    found = causal.interventions(handmade.subject(**SHAPE).network)
    tried = Counter((one.kind, one.layer, one.random) for one in found)
    expected: Counter[tuple[str, str, bool]] = Counter({("intact", "all", False): 1})
    for layer in LAYERS:
        expected |= {("shuffled", layer, True): 1, ("mean", layer, False): 1}
        expected |= {("zero", layer, False): 1}
    expected |= {("jitter", "all", True): 6, ("levels", "all", False): 6}
    expected |= {("pruned", "all", False): 7}
    assert tried == expected
    for delays in ("none", "dense"):
        network = build_network(handmade.configuration(delays=delays), 2)
        assert {one.kind for one in causal.interventions(network)} == {"intact", "pruned"}


# ---- accuracy ----------------------------------------------------------------------------------

# A hidden neuron for each class. In the first both inputs must arrive at once, so that it fires
# where the second spike comes two steps after the first; in the second one input is enough.
ORDER = [[[[0.7], [0.7], [0.0]], [[0.7], [0.7], [0.0]]], [[[1.0], [0.0]], [[0.0], [1.0]]]]
ORDER_DELAY = [[[[2.0], [0.0], [4.0]], [[0.0], [2.0], [1.0]]], [[[0.0], [3.0]], [[1.0], [0.0]]]]
PLACE = [[[[1.5], [0.0], [0.0]], [[0.0], [1.5], [0.0]]], [[[1.0], [0.0]], [[0.0], [1.0]]]]


def two_classes(tmp_path: Path, weight: Any, *, ordered: bool) -> tuple[TrainedRun, Samples]:
    """Ten recordings; their class is which of inputs 0 and 1 spikes, or spikes first."""
    config = handmade.configuration()
    config.data.cache, config.train.batch_size = str(tmp_path / "cache"), 4
    labels = [n % 2 for n in range(10)]
    starts = [0.005 + 0.01 * (n // 2) for n in range(10)]
    times = [[t, t + 0.02] if ordered else [t] for t in starts]
    units = [[k, 1 - k] if ordered else [k] for k in labels]
    path = write_spikes(tmp_path / "made.h5", times, units, labels, keys=CLASSES)
    network = build_network(config, 2).double().eval()
    handmade.fill(network, weight, ORDER_DELAY)
    drawn = copy.deepcopy(network)
    subject = TrainedRun("made", config, network, drawn, CLASSES, steps=12)
    return subject, Samples.of(open_spikes(path, config))


def run_tests(subject: TrainedRun, samples: Samples, **options: Any) -> pd.DataFrame:
    return pd.concat(causal.causal_tests(subject, samples, **options), ignore_index=True)


def accuracy(rows: pd.DataFrame, kind: str, layer: str = "all") -> list[float]:
    return rows[(rows["kind"] == kind) & (rows["layer"] == layer)]["accuracy"].tolist()


def test_what_depends_on_delays_is_lost_without_them(tmp_path) -> None:
    subject, samples = two_classes(tmp_path, ORDER, ordered=True)
    rows = run_tests(subject, samples, repeats=2)
    assert accuracy(rows, "intact") == [1.0]
    for layer in ("all", "hidden layer 1"):
        assert accuracy(rows, "zero", layer) == [0.5]  # silent: one answer for all
        assert accuracy(rows, "mean", layer) == [0.5]
    assert accuracy(rows, "zero", "readout") == [1.0]
    assert accuracy(rows, "levels")[0] == 0.5


def test_what_does_not_depend_on_delays_is_kept(tmp_path) -> None:
    subject, samples = two_classes(tmp_path, PLACE, ordered=False)
    rows = run_tests(subject, samples, repeats=2)
    delays = rows[rows["kind"] != "pruned"]
    assert (delays["accuracy"] == 1).all()
    pruned = rows[rows["kind"] == "pruned"].set_index("amount")["accuracy"]
    assert pruned[0.5] == 1  # half of each layer's weights are zero: 4 of 6, 2 of 4
    assert pruned[0.95] == 0.5


def test_rows_are_evaluations_of_networks_changed_by_hand(tmp_path) -> None:
    subject, samples = two_classes(tmp_path, ORDER, ordered=True)
    before = copy.deepcopy(subject.network.state_dict())
    rows = run_tests(subject, samples, repeats=3)
    for name, value in subject.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert list(rows) == ["kind", "amount", "layer", "draw", "correct", "n", "accuracy"]
    assert (rows["n"] == 10).all()
    assert (rows["accuracy"] == rows["correct"] / 10).all()
    place = ["kind", "amount", "layer", "draw"]
    assert not rows.duplicated(place).any()

    changed = copy.deepcopy(subject.network)
    with torch.no_grad():
        changed.readout.linear.weight.zero_()
        changed.readout.linear.weight[1, 1] = 1.0  # pruned 0.7: 3 of 4, and the two 0.7 of row 1
        changed.blocks[0].linear.weight[0].zero_()
    loader = subject.loader(samples)
    expected = evaluate(changed, loader).score()
    row = rows[(rows["kind"] == "pruned") & (rows["amount"] == 0.7)].iloc[0]
    assert (row["correct"], row["n"]) == (expected.correct, expected.n)

    for draw in range(3):
        again = intervene(subject.network, chosen(subject.network, "shuffled"), draw)
        row = rows[(rows["kind"] == "shuffled") & (rows["layer"] == "all") & (rows["draw"] == draw)]
        assert row["correct"].item() == evaluate(again, loader).score().correct
    assert rows[rows["kind"] == "shuffled"]["correct"].nunique() > 1


@pytest.mark.parametrize("delays", ["learned", "fixed", "none"])
@pytest.mark.parametrize("repeats", [1, 3])
def test_as_many_rows_as_were_counted(delays, repeats, tmp_path) -> None:
    subject, samples = two_classes(tmp_path, ORDER, ordered=True)
    subject.config.model.delays = delays
    network = build_network(subject.config, 2).double()
    subject = TrainedRun("made", subject.config, network, network, CLASSES, steps=12)
    rows = run_tests(subject, samples, repeats=repeats)
    assert causal.count_evaluations(network, repeats) == len(rows)
    random = rows["kind"].isin(["shuffled", "jitter"])
    assert rows[random]["draw"].nunique() == (0 if delays == "none" else repeats)
    assert (rows[~random]["draw"] == 0).all()


def test_chosen_interventions_alone(tmp_path) -> None:
    subject, samples = two_classes(tmp_path, ORDER, ordered=True)
    few = [chosen(subject.network, kind) for kind in ("zero", "shuffled")]
    rows = run_tests(subject, samples, chosen=few, repeats=2)
    assert rows["kind"].tolist() == ["zero", "shuffled", "shuffled"]
    assert rows["draw"].tolist() == [0, 0, 1]
