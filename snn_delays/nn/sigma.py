"""The width of taps, which a schedule sets and a layer keeps."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn


class HasSigma(nn.Module):
    """A module with a width of taps, in ``state_dict``, too.

    Attributes:
        width: sigma as a scalar on the module's device, in its precision.
    """

    width: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("width", torch.empty(()), persistent=False)

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
