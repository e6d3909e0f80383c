"""Small networks with every option that has a deployed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snn_delays.config import Config
from snn_delays.deploy import Deployed, from_network
from snn_delays.nn import Network, build_network

STEPS = 20
CLASSES = ["a", "b", "c", "d"]
# Options of the model that shape what is deployed; a fast neuron, since few steps are run.
OPTIONS: list[dict[str, Any]] = [
    {},
    {"neuron": "plif"},
    {"neuron": "plif", "tau_scope": "neuron", "reset": "soft"},
    {"bias": True},
    {"batch_norm": False},
    {"batch_norm": False, "bias": True, "v_threshold": 0.7},
    {"density": 0.4},
    {"kernel_count": 2},
    {"delays": "dense"},
    {"delays": "none"},
    {"delays": "fixed"},
    {"filter_tau_ms": 30.0},
    {"filter_tau_ms": 30.0, "filter_learnable": True, "delay_type": "axonal"},
    {"delay_type": "axonal"},
    {"delay_type": "dendritic", "kernel_count": 2},
    {"reset": "soft"},
    {"dropout": 0.3, "dropout_place": "before"},
    {"neuron": "adlif"},
    {"neuron": "cadlif", "reset": "hard"},
    {"neuron": "silif", "tau_scope": "layer"},
    {"neuron": "se_adlif"},
    {"recurrent": "undelayed"},
    {"recurrent": "fixed", "recurrent_layers": "last"},
    {"recurrent": "learned", "recurrent_delay_spread": 3.0},
    {"recurrent": "learned", "neuron": "adlif", "filter_tau_ms": 30.0},
    {"readout": "mean"},
    {"readout": "max"},
    {"readout": "last"},
    {"readout": "spike_count"},
    {"readout": "linear_sum"},
    {"readout": "last", "neuron": "adlif"},
    {"readout": "spike_count", "neuron": "se_adlif"},
    {"hidden": []},
    {"extra_steps": 0},
    {"extra_steps": 9},
    {"taps": 1},
]


def name_of(options: dict[str, Any]) -> str:
    """A test's name."""
    return ",".join(f"{key}={value}" for key, value in options.items()) or "usual"


def make(
    options: dict[str, Any] | None = None, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Config, Network]:
    """A network of 12 channels and 4 classes whose neurons fire, with BatchNorm's statistics."""
    config = Config()
    config.data.units, config.data.units_per_channel = 60, 5
    config.model.hidden, config.model.taps, config.model.tau_ms = [9, 7], 5, 20.0
    config.model.dropout = 0.0
    for name, value in (options or {}).items():
        setattr(config.model, name, value)
    torch.manual_seed(seed)
    network = build_network(config, len(CLASSES))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            scale = 4 if config.model.neuron in ("adlif", "cadlif", "silif", "se_adlif") else 1
            module.weight.data.uniform_(scale * 0.5, scale * 2)
            module.bias.data.uniform_(-0.5, 0.5)
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.2, 2)
    network.set_backend("event")
    return config, network.to(dtype).eval()


def deployed(
    options: dict[str, Any] | None = None, *, steps: int | None = STEPS, **more: Any
) -> tuple[Network, Deployed]:
    """A network in torch, and its deployed form."""
    config, network = make(options, **more)
    return network, from_network(network, config, CLASSES, steps)


def recording(seed: int, *, steps: int = STEPS - 3, real: bool = False) -> NDArray[Any]:
    """Frames [T, 12], of counts or of real numbers."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(steps, 12)) if real else rng.poisson(0.7, (steps, 12))


def evaluated(network: Network, frames: NDArray[Any]) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Scores [K], and every layer's output [S, O], the membranes of a readout that never fires."""
    dtype = next(network.parameters()).dtype
    padded = np.pad(frames, ((0, max(0, STEPS - len(frames))), (0, 0)))
    outputs: list[NDArray[Any]] = []
    hooks = [
        part.register_forward_hook(lambda m, i, o: outputs.append(o[:, 0].numpy().copy()))
        for part in [*network.blocks, network.readout.neuron]
    ]
    with torch.no_grad():
        scores = network(torch.from_numpy(padded)[:, None].to(dtype))[0].numpy()
    for hook in hooks:
        hook.remove()
    if network.readout.kind != "spike_count":
        outputs[-1] = network.readout.neuron.v_seq[:, 0].numpy()
    return scores, outputs
