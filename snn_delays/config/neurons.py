"""Facts about each neuron that the options need; snn_delays/nn/neurons/<name>.py builds it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

SURROGATES = ("atan", "triangle", "boxcar", "exponential")
STEEP = ("atan", "exponential")  # the surrogates of which surrogate_alpha is the steepness


@dataclass(frozen=True)
class NeuronKind:
    """What a neuron does where the option of the same name is auto or null.

    Attributes:
        reset: "hard": to 0; "soft": by the threshold.
        detach_reset: whether no gradient passes through the reset.
        surrogate: one of ``SURROGATES``.
        tau_scope: whose the learned time constants are: "layer" or "neuron"; None: none is learned.
        adaptive: whether it has a second state, and time constants of its own instead of tau_ms.
    """

    reset: str = "hard"
    detach_reset: bool = True
    surrogate: str = "atan"
    tau_scope: str | None = None
    adaptive: bool = False

    def chosen(self, **given: Any) -> NeuronKind:
        """This kind with what options say in place of its own."""
        own = ("auto", None)
        return replace(self, **{name: v for name, v in given.items() if v not in own})


_SPARCH = NeuronKind("soft", False, "boxcar", "neuron", adaptive=True)
NEURONS = {
    "lif": NeuronKind(),
    "plif": NeuronKind(tau_scope="layer"),
    "adlif": _SPARCH,
    "cadlif": _SPARCH,
    "silif": _SPARCH,
    "se_adlif": NeuronKind(surrogate="exponential", tau_scope="neuron", adaptive=True),
}
