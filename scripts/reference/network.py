"""The paper's network from other people's parts: dcls, SpikingJelly's layers, torch's BatchNorm.

The oracle of the whole network; written from the description of the method, in DCLS's own terms
(position P = D // 2 - d, kernel index k = D - 1 - j, SIG = s - 0.27).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from DCLS.construct.modules import Dcls1d
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from snn_delays.config import Config
from snn_delays.nn import DelayedLinear, Network


def lif(tau: float, v_threshold: float, store: bool) -> neuron.LIFNode:
    """SpikingJelly's neuron as the authors set it: input not decayed, hard reset, ATan."""
    return neuron.LIFNode(
        tau=tau,
        decay_input=False,
        v_threshold=v_threshold,
        v_reset=0.0,
        surrogate_function=surrogate.ATan(alpha=5.0),
        detach_reset=True,
        step_mode="m",
        store_v_seq=store,
    )


class ReferenceNetwork(nn.Module):
    """[T, B, I] -> sum over time of the softmax of the readout's membrane, [B, K]."""

    def __init__(
        self, sizes: list[int], taps: int, count: int, tau: float, dropout: float, right: int
    ) -> None:
        super().__init__()
        self.taps, self.right = taps, right
        self.maps: Any = nn.ModuleList(
            Dcls1d(i, o, kernel_count=count, dilated_kernel_size=taps, bias=False, version="gauss")
            for i, o in itertools.pairwise(sizes)
        )
        hidden = sizes[1:-1]
        self.norms = nn.ModuleList(nn.BatchNorm1d(n) for n in hidden)
        self.neurons = nn.ModuleList(lif(tau, 1.0, False) for _ in hidden)
        self.dropouts = nn.ModuleList(layer.Dropout(dropout, step_mode="m") for _ in hidden)
        self.output = lif(tau, 1e9, True)

    def delayed(self, number: int, x: Tensor) -> Tensor:
        """A layer's delayed linear map, [T, B, I] -> [T + right, B, O]."""
        padded = nn.functional.pad(x.permute(1, 2, 0), (self.taps - 1, self.right))
        return self.maps[number](padded).permute(2, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores, as the class says."""
        functional.reset_net(self)
        for n, (norm, node, dropout) in enumerate(
            zip(self.norms, self.neurons, self.dropouts, strict=True)
        ):
            y = self.delayed(n, x)
            y = norm(y.flatten(0, 1)).unflatten(0, y.shape[:2])
            x = dropout(node(y))
        self.output(self.delayed(len(self.maps) - 1, x))
        return torch.softmax(self.output.v_seq, 2).sum(0)

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring every delay back into its range, as the authors do after each step."""
        for delayed in self.maps:
            delayed.clamp_parameters()

    @torch.no_grad()
    def copy_from(self, network: Network) -> None:
        """Take over all parameters and the width of the Gaussian."""
        for mine, theirs in zip(self.maps, network.delayed_layers(), strict=True):
            copy_layer(mine, theirs)
        for norm, block in zip(self.norms, network.blocks, strict=True):
            assert isinstance(block.norm, nn.Module)
            norm.load_state_dict(block.norm.state_dict())


def reference_optimizers(
    theirs: ReferenceNetwork, config: Config
) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
    """Of weights and positions, each with its schedule, as the method states them."""
    weights = torch.optim.Adam(
        [
            {"params": [m.weight for m in theirs.maps], "weight_decay": 1e-5},
            {"params": list(theirs.norms.parameters()), "weight_decay": 0},
        ],
        lr=1e-3,
    )
    positions = torch.optim.Adam([m.P for m in theirs.maps], lr=0.1, weight_decay=0)
    epochs = config.train.epochs
    return [weights, positions], [
        torch.optim.lr_scheduler.OneCycleLR(weights, max_lr=5e-3, total_steps=epochs),
        torch.optim.lr_scheduler.CosineAnnealingLR(positions, T_max=epochs),
    ]


@torch.no_grad()
def copy_layer(mine: Dcls1d, theirs: DelayedLinear) -> None:
    """Set DCLS's weights, positions and width to those of a delayed linear layer."""
    mine.weight.copy_(theirs.weight)
    mine.P[0].copy_(theirs.taps // 2 - theirs.delay)
    mine.SIG.fill_(theirs.sigma - 0.27)
