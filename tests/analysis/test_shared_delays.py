"""The analysis of delays that inputs or neurons own."""

from __future__ import annotations

import pytest
import torch

from snn_delays.analysis import causal, tables
from snn_delays.analysis.activity import record
from snn_delays.analysis.compare import _shuffled
from snn_delays.analysis.operations import count_operations
from snn_delays.analysis.trained_run import TrainedRun
from snn_delays.nn import build_network
from tests.analysis import handmade

OWNER = {"axonal": "input", "dendritic": "output"}


@pytest.fixture(params=OWNER)
def subject(request) -> TrainedRun:
    torch.manual_seed(0)
    config = handmade.configuration(delay_type=request.param, kernel_count=2)
    trained, drawn = (build_network(config, 2).double().eval() for _ in range(2))
    return TrainedRun("shared", config, trained, drawn, handmade.CLASSES)


def test_each_synapse_has_its_owners_delay(subject) -> None:
    kind = subject.config.model.delay_type
    table = tables.synapses(subject)
    for name, _, linear in subject.layers():
        rows = table[table["layer"] == name]
        assert len(rows) == linear.weight.numel()
        for row in rows.itertuples():
            o, i = (0, row.input) if kind == "axonal" else (row.output, 0)
            delay = handmade.STEP_MS * linear.delay[o, i, row.kernel].item()
            assert row.delay_ms == pytest.approx(delay)
        owners = rows.groupby([OWNER[kind], "kernel"])["delay_ms"].nunique()
        assert set(owners) == {1}


@pytest.mark.parametrize("kind", ["shuffled", "mean", "zero", "jitter", "levels"])
def test_causal_tests_change_delays_and_not_who_owns_them(subject, kind) -> None:
    change = next(c for c in causal.interventions(subject.network) if c.kind == kind)
    changed = causal.intervene(subject.network, change, 1)
    for before, after in zip(
        subject.network.delayed_layers(), changed.delayed_layers(), strict=True
    ):
        assert after.delay.shape == before.delay.shape != before.weight.shape
        assert torch.equal(after.weight, before.weight)
        if kind == "shuffled":
            assert torch.equal(*(m.delay.flatten().sort().values for m in (after, before)))
        if kind == "mean":
            assert after.delay.eq(before.delay.mean()).all()


def test_chance_fields_deal_delays_out_over_their_owners(subject) -> None:
    """Where no weight is zero, synapses of one owner lie at one delay of each copy."""
    linear = next(subject.network.delayed_layers())
    occupied = _shuffled(linear, 0) != 0
    along = 0 if subject.config.model.delay_type == "axonal" else 1
    assert (occupied.any(along) == occupied.all(along)).all()
    assert len({_shuffled(linear, seed).tobytes() for seed in range(9)}) > 1


def test_delays_to_store_are_those_of_the_owners(subject) -> None:
    activity = record(subject.network, handmade.as_input())
    for counted, linear in zip(
        count_operations(subject.network, activity).layers,
        subject.network.delayed_layers(),
        strict=True,
    ):
        assert counted.delays == linear.delay.numel() < counted.weights == linear.weight.numel()
