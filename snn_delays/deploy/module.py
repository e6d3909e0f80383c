"""A deployed network as a module of torch, for ``evaluate``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from snn_delays.deploy.describe import from_loaded
from snn_delays.deploy.network import Deployed
from snn_delays.deploy.stream import Stream
from snn_delays.nn.readout import RUNNING_SCORES
from snn_delays.training.checkpoint import LoadedRun


class StreamModule(nn.Module):
    """Runs a deployed network on batches, [T, B, I] -> scores [B, K] float64, on the CPU.

    Every recording of a batch has the batch's length T, as it has for the network in torch.

    Args:
        network: the deployed network; its stored length is not used.

    Attributes:
        network: the same.
    """

    def __init__(self, network: Deployed) -> None:
        super().__init__()
        self.network = network
        self._stream = Stream(replace(network, steps=1))

    def forward(self, x: Tensor, *, running: bool = False) -> Tensor:
        """The scores, on the device of x; ``running``: those after each of the S steps, [S, B, K],
        the last of which are the scores.
        """
        frames = x.transpose(0, 1).cpu().numpy()
        if not running:
            scores = np.stack([self._stream.run(recording).scores for recording in frames])
            return torch.from_numpy(scores).to(x.device)
        recorded = [self._stream.record(recording) for recording in frames]
        scores = np.stack([decision.scores for decision, _ in recorded])
        v_SBK = np.stack([outputs[-1] for _, outputs in recorded], 1)
        v_SBK = v_SBK * np.float64(self.network.layers[-1].output_unit)
        every = RUNNING_SCORES[self.network.readout](torch.from_numpy(v_SBK))
        # a running sum rounds otherwise
        return torch.cat([every[:-1], torch.from_numpy(scores)[None]]).to(x.device)


def module_of(
    run: LoadedRun,
    *,
    arithmetic: str | None = None,
    weights: str | None = None,
    delays: int | None = None,
) -> nn.Module:
    """What evaluation runs: the run's network in torch, or a stream of it with rounded numbers.

    Args:
        run: the run, loaded.
        arithmetic: as for ``from_run``.
        weights: as for ``from_run``.
        delays: as for ``from_run``.
    """
    rounds = (weights or run.config.model.quantise.weights) != "float32"
    if not (rounds or delays or arithmetic):
        return run.network
    rounded = from_loaded(run, arithmetic=arithmetic, weights=weights, delays=delays)
    return StreamModule(rounded)
