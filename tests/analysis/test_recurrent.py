"""Recurrent delays in the analysis: what they cost, where they are, what they are worth."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from snn_delays.analysis import activity, causal, operations, tables
from snn_delays.analysis.finding import finding
from snn_delays.analysis.trained_run import TrainedRun
from snn_delays.evaluate import Score
from snn_delays.nn import build_network
from tests.analysis import handmade
from tests.analysis.test_mistakes import made_tests

LAYERS = ["hidden layer 1", "hidden layer 2"]
PARAMETERS = [  # of each layer: R, delays as trained, delays as drawn
    ([[0.9, -0.4], [0.0, 0.7]], [0.4, 2.6], [1.2, 3.0]),
    ([[0.2, 1.1], [0.8, 0.0]], [5.0, 0.0], [4.0, 1.5]),
]


def subject(**model) -> TrainedRun:
    """The network by hand with recurrent connections."""
    plain = handmade.subject(2)
    config = handmade.configuration(hidden=[2, 2], recurrent="learned", **model)
    pair = []
    for network, which in ((plain.drawn, 2), (plain.network, 1)):
        made = build_network(config, len(handmade.CLASSES)).double().eval()
        made.load_state_dict(network.state_dict(), strict=False)
        with torch.no_grad():
            for part, numbers in zip(made.recurrences(), PARAMETERS, strict=True):
                part.weight.copy_(torch.tensor(numbers[0]))
                part.delay.copy_(torch.tensor(numbers[which]))
        pair.append(made)
    return replace(plain, config=config, drawn=pair[0], network=pair[1])


def test_recurrent_connections_cost_as_synapses_do() -> None:
    with_them, x = subject(), handmade.as_input()
    ran = activity.record(with_them.network, x)
    counted = operations.count_operations(with_them.network, ran)
    without = operations.count_operations(handmade.subject(2).network, ran)
    steps, batch, _ = ran.spikes[0].shape
    for number, (weight, delays, _) in enumerate(PARAMETERS):
        mine, plain = counted.layers[number], without.layers[number]
        fan_out = [sum(row[i] != 0 for row in weight) for i in range(2)]
        effective = sum(
            fan_out[i]
            for frame in ran.spikes[number].tolist()
            for sample in frame
            for i, spike in enumerate(sample)
            if spike
        )
        assert effective > 0
        assert mine.acs + mine.macs - plain.acs - plain.macs == effective / batch
        assert mine.dense - plain.dense == 4 * len(ran.spikes[number])
        assert mine.synapses - plain.synapses == mine.weights - plain.weights == 4
        assert mine.zero_synapses - plain.zero_synapses == 1
        assert mine.delays - plain.delays == 2
        longest = 1 + round(max(delays))
        assert mine.accumulator_bytes - plain.accumulator_bytes == 2 * 4 * longest
        assert mine.history_bytes - plain.history_bytes == -(-2 * longest // 8)
        assert mine.buffer_steps - plain.buffer_steps == sum(1 + round(d) for d in delays)
    assert counted.layers[2] == without.layers[2]
    assert steps > 1


def test_the_table_names_each_neurons_delay() -> None:
    frame, step = tables.recurrent_delays(subject()), handmade.STEP_MS
    assert frame["layer"].tolist() == [name for name in LAYERS for _ in range(2)]
    assert frame["neuron"].tolist() == [0, 1, 0, 1]
    assert frame["delay_ms"].tolist() == pytest.approx([step * (1 + d) for d in (0.4, 2.6, 5, 0)])
    assert frame["deployed_ms"].tolist() == [step * d for d in (1, 4, 6, 1)]
    assert frame["drawn_ms"].tolist() == pytest.approx([step * (1 + d) for d in (1.2, 3, 4, 1.5)])
    assert frame["weight_size"].tolist() == pytest.approx([0.9, 1.1, 1.0, 1.1])
    assert tables.recurrent_delays(handmade.subject(2)).empty


def test_recurrent_delays_have_causal_tests_of_their_own() -> None:
    run = subject()
    own = [one for one in causal.interventions(run.network) if one.recurrent]
    kinds = [(f"recurrent {kind}", layer) for layer in ("all", *LAYERS) for kind in CHANGES]
    assert [(one.kind, one.layer) for one in own] == kinds
    for one in own:
        changed = causal.intervene(run.network, one, 3)
        pairs = zip(run.network.recurrences(), changed.recurrences(), strict=True)
        for name, (before, after) in zip(LAYERS, pairs, strict=True):
            expected = before.delay.tolist()
            if one.layer in ("all", name):
                expected = CHANGES[one.kind.removeprefix("recurrent ")](expected)
            assert sorted(after.delay.tolist()) == pytest.approx(sorted(expected))
            assert torch.equal(after.weight, before.weight)
        for before, after in zip(
            run.network.delayed_layers(), changed.delayed_layers(), strict=True
        ):
            assert torch.equal(before.delay, after.delay)
    for kind in ("none", "undelayed"):
        network = build_network(handmade.configuration(recurrent=kind), 2)
        assert not any(one.recurrent for one in causal.interventions(network))


CHANGES = {
    "shuffled": lambda delays: delays,
    "mean": lambda delays: [sum(delays) / len(delays)] * len(delays),
    "zero": lambda delays: [0] * len(delays),
}


def test_shuffling_deals_delays_out_anew() -> None:
    run = subject()
    shuffled = next(one for one in causal.interventions(run.network) if one.recurrent)
    draws = {
        tuple(next(causal.intervene(run.network, shuffled, seed).recurrences()).delay.tolist())
        for seed in range(9)
    }
    first = next(run.network.recurrences()).delay.tolist()
    assert draws == {tuple(first), tuple(first[::-1])}


@pytest.mark.parametrize(("delays", "sentences"), [("learned", 2), ("none", 1)])
def test_the_finding_says_what_recurrent_delays_are_worth(delays, sentences) -> None:
    tests = made_tests((79.0, 70.0, 85.0))
    own = tests[1:3].assign(accuracy=40.0, low=30.0, high=50.0)
    tests = pd.concat([tests, own.assign(kind="recurrent shuffled")])
    run = subject()
    run.config.model.delays = delays
    said = finding(run, Score(1, 2), tests)
    words = "The recurrent delays matter: with the recurrent delays shuffled among the neurons of"
    assert words in said
    assert "hidden layer 1 costs most when it is shuffled alone, 40.0 points" in said
    assert said.count("shuffled among the") == sentences
    assert ("its synapses that lead to another layer act at once" in said) == (delays == "none")
