"""The deployed network that the options of a command name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from snn_delays.config import ExportConfig, PredictConfig

SHORT = 12  # hex digits of a network's digest in a line

if TYPE_CHECKING:
    from snn_delays.deploy import Deployed


def deployed(given: PredictConfig | ExportConfig) -> Deployed:
    """A run's, a file's or the package's network, with its numbers rounded as the options say."""
    from snn_delays.deploy import from_run, load
    from snn_delays.deploy.network import network_file
    from snn_delays.deploy.quantise import quantise

    path = network_file(given.run)
    if path.is_file():
        kind = given.arithmetic or "plain"
        network = quantise(load(path), given.weights or "float32", given.delays, kind)
    else:
        network = from_run(
            path,
            checkpoint=given.checkpoint,
            arithmetic=given.arithmetic,
            weights=given.weights,
            delays=given.delays,
        )
    if given.channel is not None:
        network = replace(network, front=replace(network.front, channel=given.channel))
    return network if given.steps is None else replace(network, steps=given.steps)
