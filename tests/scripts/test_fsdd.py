"""The convolutional network that is asked about the same digits, and the suite of fsdd/best."""

from __future__ import annotations

import numpy as np
import torch

from scripts.reproduce.fsdd import convolution
from snn_delays.benchmark.suite import load_suite
from snn_delays.cli.compose import compose
from snn_delays.cli.groups import SUITES, config_folder
from snn_delays.nn import build_network, count_parameters


class Frames:
    """Recordings of one channel, in place of ``Samples``."""

    def __init__(self, *counts: list[int]) -> None:
        self.counts = counts

    def __len__(self) -> int:
        return len(self.counts)

    def frames(self, number: int) -> np.ndarray:
        return np.array(self.counts[number], np.uint8)[:, None]


def test_inputs_begin_with_the_sound_and_adapt(monkeypatch) -> None:
    monkeypatch.setattr(convolution, "STEPS", 4)
    x = convolution.inputs(Frames([0] * 9 + [7, 7, 7], [7, 7]))
    assert x.shape == (2, 1, 4, 1)
    first, other = np.log1p(7), 0.1 * np.log1p(7)
    np.testing.assert_allclose(x[0].flatten(), [0, 0, 0, 0], atol=1e-7)
    np.testing.assert_allclose(x[1].flatten(), [first, first - other, -other * 1.9, -other * 1.71],
                               rtol=1e-5)  # fmt: skip


def test_a_network_learns_and_is_measured() -> None:
    torch.manual_seed(0)
    y = torch.arange(40) % 2
    x = torch.randn(40, 1, 64, 70) + 3 * y[:, None, None, None]
    model = convolution.train(x, y, seed=0)
    assert sum(p.numel() for p in model.parameters()) == 33_082
    assert convolution.accuracy(model, x, y) > 90


def test_every_measure_of_the_best_network_is_a_row() -> None:
    suite = load_suite(config_folder() / SUITES, "fsdd_best")
    rows = {k: compose("train", [*suite.options, *m.options]) for k, m in suite.members.items()}
    assert {config.train.protocol for config in rows.values()} == {"last"}
    sizes = {k: count_parameters(build_network(config, 10)) for k, config in rows.items()}
    assert sizes == {"learned": 11776, "channels": 3712, "neurons": 11520, "adaptive": 12170,
                     "best": 12170, "none": 6538}  # fmt: skip
