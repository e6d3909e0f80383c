"""The picture of a suite: accuracy against size."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from snn_delays.analysis.suite_size import GAP, _apart, accuracy_against_size
from snn_delays.benchmark.suite import Member, Suite

SUITE = Suite(
    "delays",
    "Delays",
    {
        "learned": Member("learned delays", []),
        "none": Member("no delays", [], equal="parameters"),
        "none_buffer": Member("no delays, wide", [], equal="buffer"),
        "late": Member("not there yet", []),
    },
    seeds=3,
    baseline="learned",
)


def line(member: str, accuracy: float, parameters: int, buffer: int) -> dict[str, Any]:
    delays = "learned" if member == "learned" else "none"
    return {
        "member": member,
        "accuracy": accuracy,
        "parameters": parameters,
        "delay_buffer_bytes": buffer,
        "config": {"model": {"delays": delays, "delay_type": "synaptic"}},
    }


LINES = [
    *(line("learned", value, 900, 700 + n) for n, value in enumerate([0.80, 0.82, 0.84])),
    *(line("none", value, 890, 45) for value in (0.40, 0.41, 0.42)),
    line("none_buffer", 0.5, 3600, 130),
]


def test_points_are_means_over_seeds_at_mean_sizes() -> None:
    found = accuracy_against_size(SUITE, LINES)
    rows = found.data.set_index("member")
    assert [*rows.index] == ["learned", "none", "none_buffer"]
    learned = rows.loc["learned"]
    assert learned[["seeds", "parameters", "delay_buffer_bytes"]].tolist() == [3, 900, 701]
    assert learned[["accuracy", "low", "high"]].tolist() == pytest.approx(
        [82, 77.03, 86.97], abs=0.01
    )
    sizes = ("parameters", "delay_buffer_bytes")
    for axis, size in zip(found.figure.axes, sizes, strict=True):
        drawn = [tuple(np.array(c.lines[0].get_data()).ravel()) for c in axis.containers]
        assert drawn == [*rows[[size, "accuracy"]].itertuples(index=False, name=None)]
        names = {text.get_text(): text.xy for text in axis.texts}
        assert names["none buffer"] == (rows[size]["none_buffer"], 50)
        assert [*names] == ["none", "none buffer", "learned"]  # in order of accuracy
    (legend,) = found.figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["as given", "equal parameters", "equal buffer"]


@pytest.mark.parametrize(
    "places", [[0.5] * 4, [0.0, 0.0, 0.02, 0.9], [0.9, 0.95, 1.0, 1.0], [0.1, 0.5, 0.9], [0.3]]
)
def test_names_do_not_overlap(places) -> None:
    found = _apart(places)
    assert all(b - a > GAP - 1e-9 for a, b in pairwise(found))
    assert found[0] >= 0
    assert found[-1] <= 1
    if len(places) == 3:
        assert found == pytest.approx(places)
