"""The trace of the delays says where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_delays.nn import build_network
from snn_delays.training.delay_metrics import delay_trace, drawn_delays
from snn_delays.training.run import train
from tests.nn.test_network import small
from tests.training.test_run import metrics


def test_it_counts_what_is_there() -> None:
    network = build_network(small(), 4)
    before = drawn_delays(network)
    layer = network.blocks[0].linear
    with torch.no_grad():
        layer.delay.add_(1.25)
        network.constrain()
    delay, was = layer.delay.detach().numpy(), before[0].numpy()
    first, *_, last = delay_trace(network, before)
    assert first["counts"] == [int((delay.round() == d).sum()) for d in range(layer.taps)]
    assert first["moved"] == pytest.approx(np.abs(delay - was).mean(), abs=1e-4)
    assert (first["low"], last["moved"]) == (0, 0)
    assert first["high"] == pytest.approx((delay == layer.taps - 1).mean(), abs=1e-4) != 0


def test_missing_synapses_do_not_count() -> None:
    network = build_network(small(density=0.5), 4)
    layer = network.blocks[0].linear
    line = delay_trace(network, drawn_delays(network))[0]
    assert sum(line["counts"]) == int(layer.mask.sum()) < layer.weight.numel()


@pytest.mark.parametrize("delays", ["learned", "fixed"])
def test_a_run_keeps_it(delays, small_config) -> None:
    config = small_config()
    config.model.delays = delays
    lines = metrics(train(config)["out"])
    if delays == "fixed":
        assert all("delays" not in line for line in lines)
        return
    assert [len(line["delays"]) for line in lines] == [2, 2, 2]  # a hidden layer, the readout
    moved = [line["delays"][0]["moved"] for line in lines]
    assert 0 < moved[0] < moved[2]
