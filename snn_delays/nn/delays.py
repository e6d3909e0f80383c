"""What all layers with delays have: the width of their taps, and delays that may be frozen."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn


class HasDelays(nn.Module):
    """A module whose delays may be learned, through taps of a width that is in ``state_dict``, too.

    Args:
        delays: "learned", or another word for delays that are not.

    Attributes:
        delay: in steps.
        frozen: whether learned delays stay where they are and act through the nearest tap in
            training mode, too; see ``freeze_delays``.
        width: sigma as a scalar on the module's device, in its precision.
    """

    delay: Tensor
    width: Tensor

    def __init__(self, delays: str) -> None:
        super().__init__()
        self.delays = delays
        self.frozen = False
        self.register_buffer("width", torch.empty(()), persistent=False)

    def constrain(self) -> None:
        """Bring parameters into their bounds, as a pass in training mode does first of all."""
        raise NotImplementedError

    @torch.no_grad()
    def freeze_delays(self) -> None:
        """Round learned delays and let them act as deployed ones from now on, without gradient."""
        if self.delays == "learned":
            self.constrain()
            self.delay.round_()
            self.frozen = True

    @property
    def buffer_steps(self) -> Tensor:
        """Rows of a ring buffer for each input in a deployment that computes step by step, [I].

        At step t an input with R rows is written into row t mod R, and each of its synapses reads
        row (t - delay) mod R. R is therefore 1 + the longest rounded delay. Recurrent spikes arrive
        1 + delay steps later, but are written after the reading, and need as many rows.
        """
        raise NotImplementedError

    @property
    def deployed(self) -> bool:
        """Whether each delay acts through the one tap nearest to it in this mode."""
        return not self.training or self.frozen or self.delays != "learned"

    @property
    def sigma(self) -> float:
        """Width of the taps around a learned delay, in steps."""
        return self._sigma

    @sigma.setter
    def sigma(self, sigma: float) -> None:
        if not sigma > 0:
            raise ValueError(f"sigma={sigma} must be positive.")
        self._sigma = sigma
        self.width.fill_(sigma)

    def _apply(self, *arguments: Any, **more: Any) -> Self:
        super()._apply(*arguments, **more)
        self.width.fill_(self._sigma)  # which is not rounded on the way to a higher precision
        return self

    def get_extra_state(self) -> Tensor:
        """What ``state_dict`` holds besides parameters and buffers: sigma."""
        return torch.tensor(self.sigma, dtype=torch.float64)

    def set_extra_state(self, state: Tensor | None) -> None:
        """Take sigma back; None, of an earlier version, leaves it as it is."""
        if state is not None:
            self.sigma = float(state)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        state_dict.setdefault(f"{prefix}_extra_state", None)  # earlier versions have none
        super()._load_from_state_dict(state_dict, prefix, *arguments)
