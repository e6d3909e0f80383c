"""Networks of equal size: the widths at which a network is as large as a suite's baseline."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from snn_delays.benchmark.rows import Row
from snn_delays.benchmark.suite import Suite
from snn_delays.config import Config
from snn_delays.data.dataset import read_classes
from snn_delays.errors import UserError
from snn_delays.nn import count_parameters, draw_network

MOST = 4  # times the baseline's parameters, beyond which no network grows for an equal buffer


def equalised(suite: Suite, rows: dict[str, Row]) -> dict[str, Row]:
    """Rows with widths at which members that shall be as large as the baseline are so.

    Widths in the trials of a member's search are those of the member. Frames of the training data
    are made if missing, since they tell the number of classes.

    Raises:
        UserError: the data cannot be read, or a network is too large however narrow.
    """
    equal = {key: member.equal for key, member in suite.members.items() if member.equal}
    if not equal or suite.baseline is None:
        return rows
    baseline, found = rows[suite.baseline].config, dict(rows)
    classes = len(read_classes(baseline))
    for key, what in equal.items():
        config, size = equal_to(baseline, rows[key].config, what, classes)
        trials = [
            dataclasses.replace(trial, config=_with_hidden(trial.config, config.model.hidden))
            for trial in rows[key].trials
        ]
        found[key] = Row(config, trials, {"equal": size})
    return found


def equal_to(
    baseline: Config, config: Config, what: str, classes: int
) -> tuple[Config, dict[str, Any]]:
    """Options of a network with the widths at which it is as large as another one, or just smaller.

    One factor scales the widths of all hidden layers; one neuron more would be too large. Networks
    are counted as they are drawn, before a search and before training.

    Args:
        baseline: options of the other network.
        config: options of the network; its ``model.hidden`` gives the ratios of the widths.
        what: "parameters", or "buffer": the bytes of the deployed network's delay buffer. A network
            that is wider than ``config`` says has at most ``MOST`` times the other's parameters.
        classes: number of classes.

    Returns:
        The options, and what the lines of its results say of its size.

    Raises:
        UserError: the network is too large even with one neuron in each hidden layer.
    """
    aim = _sizes(baseline, classes)

    def is_small_enough(factor: float) -> bool:
        size = _sizes(_scaled(config, factor), classes)
        of_most = factor <= 1 or size["parameters"] <= MOST * aim["parameters"]
        return size[what] <= aim[what] and of_most

    low, high = 0.0, 1.0
    if not is_small_enough(low):
        raise UserError(
            f"model.delays={config.model.delays} has more {what} than {aim[what]:,} even with one"
            " neuron in each hidden layer; give more neurons by model.hidden."
        )
    while is_small_enough(high):
        low, high = high, 2 * high
    while _neurons(config, high) - _neurons(config, low) > 1 and high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if is_small_enough(middle) else (low, middle)
    found = _scaled(config, low)
    return found, {"in": what, "aim": aim[what], "found": _sizes(found, classes)[what]}


def _sizes(config: Config, classes: int) -> dict[str, int]:
    network = draw_network(config, classes)
    return {"parameters": count_parameters(network), "buffer": network.delay_buffer_bytes}


def _scaled(config: Config, factor: float) -> Config:
    """Options with all widths times a factor; layers of equal width grow one after another."""
    given = config.model.hidden
    places = range(len(given))
    widths = [max(1, math.floor(factor * given[n] + n / len(given))) for n in places]
    return _with_hidden(config, widths)


def _with_hidden(config: Config, hidden: list[int]) -> Config:
    """Options with these widths of the hidden layers."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, hidden=hidden))


def _neurons(config: Config, factor: float) -> int:
    return sum(_scaled(config, factor).model.hidden)
