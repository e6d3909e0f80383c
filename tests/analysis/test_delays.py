"""The picture of the delays shows the network's own numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_delays.analysis.delays import plot_delays, save_figure
from snn_delays.nn import build_network
from tests.nn.test_network import small


def test_the_picture_shows_shares_and_movement(tmp_path) -> None:
    torch.manual_seed(0)
    before, after = build_network(small(), 4), build_network(small(), 4)
    figure = plot_delays(before, after, 10.0, "title")
    axes = figure.axes
    assert [a.get_title(loc="left") for a in axes[::2]] == [
        "hidden layer 1", "hidden layer 2", "readout",
    ]  # fmt: skip
    for row, layer in enumerate(after.delayed_layers()):
        left, right = axes[2 * row], axes[2 * row + 1]
        x, share = left.lines[1].get_data()
        rounded = layer.delay.detach().round().numpy()
        assert list(x) == [0, 10, 20, 30, 40]
        assert share == pytest.approx([100 * (rounded == d).mean() for d in range(5)])
        dots = np.concatenate([c.get_offsets() for c in right.collections])
        assert sorted(dots[:, 1]) == pytest.approx(
            sorted(10 * layer.delay.detach().flatten().numpy())
        )
        assert len(right.collections[0].get_offsets()) == int((layer.weight > 0).sum())
    assert axes[-1].get_xlabel() == "as drawn (ms)"
    save_figure(figure, tmp_path / "delays.png")
    assert (tmp_path / "delays.png").read_bytes().startswith(b"\x89PNG")
