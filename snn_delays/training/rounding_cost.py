"""What rounding the delays after training costs, on validation data."""

from __future__ import annotations

from pathlib import Path

import torch

from snn_delays.config import Config
from snn_delays.data.dataset import Data
from snn_delays.evaluate import Score, Unrounded, evaluate
from snn_delays.training.checkpoint import load_run
from snn_delays.training.distributed import broadcast_from_first
from snn_delays.training.loop import build_loader
from snn_delays.training.schedules import is_rounded

COST = 0.02  # a greater loss of accuracy is worth a line at the end of a run


def accuracy_before_rounding(
    out: Path, config: Config, data: Data, epoch: int, device: torch.device
) -> Score | None:
    """The validation accuracy of a finished training with delays that are not rounded.

    Args:
        out: folder of the run.
        config: its options.
        data: its data.
        epoch: number of the chosen epoch, from 1.
        device: where to compute.

    Returns:
        None: the network has seen the validation data, they have no classes, or nothing is rounded
        after training.
    """
    learns = "learned" in (config.model.delays, config.model.recurrent)
    of_classes = config.train.protocol == "validation" and config.data.target == "class"
    if not (of_classes and learns) or is_rounded(epoch - 1, config):
        return None
    assert data.valid is not None
    run = broadcast_from_first(lambda: load_run(out, "best"))
    loader = build_loader(config, data.valid, run.meta.steps, device)
    return evaluate(Unrounded(run.network.to(device)), loader).score()


def describe_cost(before: Score, after: Score) -> str:
    """A line on what rounding cost; empty if that was little."""
    cost = before.accuracy - after.accuracy
    if cost <= COST:
        return ""
    return (
        f"Rounding the delays cost {100 * cost:.1f} points of validation accuracy"
        f" ({before.accuracy:.1%} before, {after.accuracy:.1%} after, n = {after.n});"
        " train.round_epochs=0.25 rounds them before the last quarter of the epochs, in which the"
        " weights adapt.\n"
    )
