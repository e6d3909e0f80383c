"""Networks as large as a suite's baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snn_delays.benchmark.equal import MOST, equal_to
from snn_delays.benchmark.suite import load_suite
from snn_delays.cli.groups import SUITES, config_folder
from snn_delays.config import Config
from snn_delays.errors import UserError
from snn_delays.nn import count_parameters, draw_network

CLASSES = 3


def options(hidden: list[int], **model: Any) -> Config:
    config = Config()
    config.data.units, config.data.units_per_channel = 20, 4
    config.model = replace(config.model, hidden=hidden, taps=9, **model)
    return config


def sizes(config: Config, more: int = 0) -> dict[str, int]:
    """Parameters and buffer; with ``more`` neurons in the layer that is narrowest for its ratio."""
    hidden = [*config.model.hidden]
    hidden[hidden.index(min(hidden))] += more
    network = draw_network(replace(config, model=replace(config.model, hidden=hidden)), CLASSES)
    return {"parameters": count_parameters(network), "buffer": network.delay_buffer_bytes}


@pytest.mark.parametrize("what", ["parameters", "buffer"])
@pytest.mark.parametrize(
    "model",
    [
        {"delays": "fixed"},
        {"delays": "learned", "delay_type": "axonal"},
        {"delays": "none"},
        {"delays": "dense"},
    ],
    ids=lambda model: model["delays"],
)
def test_one_neuron_more_is_too_large(what, model) -> None:
    aim = sizes(options([12, 12]))
    found, account = equal_to(options([12, 12]), options([12, 12], **model), what, CLASSES)
    size, larger = sizes(found), sizes(found, more=1)
    assert account == {"in": what, "aim": aim[what], "found": size[what]}
    assert size[what] <= aim[what]
    of_most = larger["parameters"] > MOST * aim["parameters"]
    assert larger[what] > aim[what] or (what == "buffer" and of_most)
    widths = found.model.hidden
    assert max(widths) - min(widths) <= 1


def test_widths_keep_their_ratio() -> None:
    base = options([24, 8])
    found, _ = equal_to(base, options([24, 8], delays="none"), "parameters", CLASSES)
    wide, narrow = found.model.hidden
    assert wide > 24
    assert abs(wide / 3 - narrow) <= 1


def test_the_same_network_is_as_large_as_itself() -> None:
    for what in ("parameters", "buffer"):
        found, _ = equal_to(options([9, 7]), options([9, 7]), what, CLASSES)
        assert found.model.hidden == [9, 7]


def test_no_delays_grow_to_a_multiple_of_the_parameters_alone() -> None:
    found, account = equal_to(
        options([12, 12]), options([12, 12], delays="none"), "buffer", CLASSES
    )
    aim = sizes(options([12, 12]))
    assert account["found"] < aim["buffer"]
    suite = load_suite(config_folder() / SUITES, "delays")
    assert f"up to {MOST} times the parameters" in suite.members["none_buffer"].label
    assert sizes(found)["parameters"] <= MOST * aim["parameters"]


def test_a_network_that_is_too_large_however_narrow() -> None:
    with pytest.raises(UserError, match=r"model.delays=dense has more parameters than \d+ even"):
        equal_to(options([2]), options([2], delays="dense"), "parameters", CLASSES)
