"""Two optimisers, one for weights and one for delays, with schedules of their learning rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from snn_delays.config import TrainConfig
from snn_delays.nn import DelayedLinear, Network
from snn_delays.nn.neurons import LearnedNode
from snn_delays.nn.recurrence import Recurrence
from snn_delays.training.adam import Adam, AdamInPieces

Schedule = Callable[[torch.optim.Optimizer, TrainConfig], lr_scheduler.LRScheduler]
# of learning rates over epochs; one_cycle starts at a 25th of the rate, and moves Adam's beta1
SCHEDULES: dict[str, Schedule] = {
    "one_cycle": lambda optimizer, train: lr_scheduler.OneCycleLR(
        optimizer, optimizer.defaults["lr"], total_steps=train.epochs
    ),
    "cosine": lambda optimizer, train: lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=train.epochs
    ),
    "constant": lambda optimizer, train: lr_scheduler.ConstantLR(optimizer, factor=1.0),
}


@dataclass(frozen=True)
class Optimizers:
    """The optimisers of weights and (where they are learned) delays, each with its schedule."""

    optimizers: dict[str, torch.optim.Optimizer]
    schedules: dict[str, lr_scheduler.LRScheduler]

    def step(self, unless: Tensor | None = None) -> None:
        """Update all parameters, unless ``unless``, a scalar on their device, is true."""
        for optimizer in self.optimizers.values():
            # fused optimisers read this flag of torch's gradient scaler on the device, without wait
            optimizer.found_inf = None if unless is None else unless.float()  # type: ignore[attr-defined]
            optimizer.step()

    def end_epoch(self) -> None:
        """Advance the learning rates by an epoch."""
        for schedule in self.schedules.values():
            schedule.step()

    def learning_rates(self) -> dict[str, float]:
        """Current learning rate of each optimiser."""
        return {name: o.param_groups[0]["lr"] for name, o in self.optimizers.items()}

    def state_dict(self) -> dict[str, Any]:
        """States of optimisers and schedules, for a checkpoint."""
        return {
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "schedules": {name: s.state_dict() for name, s in self.schedules.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the states from ``state_dict``."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, schedule in self.schedules.items():
            schedule.load_state_dict(state["schedules"][name])


def build_optimizers(network: Network, train: TrainConfig) -> Optimizers:
    """Build an Adam for weights, PLIF scalars, BatchNorm and biases, and an Adam for delays.

    Weight decay is coupled L2. It applies to weights and to the learned time constants of PLIF
    neurons and synaptic filters; BatchNorm, biases, delays and adaptive neurons have none.

    What ``train.freeze`` names is in no optimiser.
    """
    delays = [p for m in network.modules() for p in _delays(m)]
    plain = [p for m in network.modules() for p in _without_decay(m)]
    apart = {id(p) for p in (*delays, *plain)}
    decayed = [p for p in network.parameters() if id(p) not in apart]
    groups = [{"params": decayed, "weight_decay": train.weight_decay}]
    if plain:
        groups.append({"params": plain, "weight_decay": 0.0})
    kind = AdamInPieces if decayed[0].is_cuda else Adam
    optimizers: dict[str, torch.optim.Optimizer] = {}
    if train.freeze != "weights":
        optimizers["weight"] = kind(groups, lr=train.lr_weight, fused=True)
    if delays and train.freeze != "delays":
        optimizers["delay"] = kind(delays, lr=train.lr_delay, fused=True)
    kinds = {"weight": train.weight_schedule, "delay": train.delay_schedule}
    return Optimizers(
        optimizers, {name: SCHEDULES[kinds[name]](o, train) for name, o in optimizers.items()}
    )


def _delays(module: nn.Module) -> list[nn.Parameter]:
    """A module's learned delays, and learned widths of their taps."""
    own: list[Any] = [module.delay] if isinstance(module, DelayedLinear | Recurrence) else []
    own += [module.p] if isinstance(module, Recurrence) else []
    return [p for p in own if isinstance(p, nn.Parameter)]


def _without_decay(module: nn.Module) -> list[nn.Parameter]:
    if isinstance(module, nn.modules.batchnorm._BatchNorm | LearnedNode):
        return list(module.parameters())
    if isinstance(module, DelayedLinear) and module.bias is not None:
        return [module.bias]
    return []
