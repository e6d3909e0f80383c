"""Rasters, and the script that shows two files side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from scripts import rasters
from snn_delays.analysis.raster import plot_rasters
from tests.conftest import random_spikes, write_spikes


def test_every_spike_is_a_dot() -> None:
    times, units = np.array([0.5, 0.7, 0.6]), np.array([3, 699, 0])
    figure = plot_rasters([[("a", times, units)], [("b", times[:1], units[:1])] * 2])
    assert len(figure.axes) == 4
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), [0, 200, 100])
    assert line.get_ydata().tolist() == [3, 699, 0]
    assert figure.axes[0].get_title() == "a, 3 spikes"
    assert figure.axes[0].get_ylim() == (700, -1)  # unit 0 at the top


def test_two_files_side_by_side(tmp_path: Path, capsys) -> None:
    left, right = (random_spikes(tmp_path / f"{n}.h5", 12, n) for n in (0, 1))
    out = tmp_path / "rasters.png"
    assert rasters.main([str(left), str(right), "--out", str(out), "--most", "2"]) == 0
    with Image.open(out) as picture:
        assert picture.width > 500
    other = write_spikes(tmp_path / "other.h5", [[0.0]], [[1]], [0], keys=["word"])
    assert rasters.main([str(left), str(other)]) == 2
    assert "share no class by name" in capsys.readouterr().err
