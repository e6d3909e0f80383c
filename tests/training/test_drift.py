"""Rounding flips spikes, so no two single-precision codes train alike; the fused one strays from
double precision at most twice as far as the modules do, over several seeds since each may stray."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from snn_delays.config import Config
from snn_delays.nn import Network, build_network
from snn_delays.runtime import numba_jit
from snn_delays.training.optim import build_optimizers
from snn_delays.training.schedules import sigma_at

STEPS = 50
SEEDS = 6


def draw(config: Config, seed: int) -> Network:
    torch.manual_seed(seed)
    return build_network(config, 5)


def losses(network: Network, config: Config, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    optimizers = build_optimizers(network, config.train)
    dtype = next(network.parameters()).dtype
    seen = []
    for step in range(STEPS):  # an epoch of one step
        x = torch.poisson(torch.full((25, 128, 14), 0.3), generator=g).to(dtype)
        y = torch.randint(5, (128,), generator=g)
        network.set_sigma(sigma_at(step, config))
        network.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizers.step()
        network.constrain()
        optimizers.end_epoch()
        seen.append(loss.item())
    return torch.tensor(seen, dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
def test_the_fused_network_strays_no_farther_than_single_precision_does() -> None:
    config = Config()
    config.data.units, config.data.units_per_channel = 14, 1
    config.model.hidden, config.model.taps, config.model.dropout = [24, 24], 9, 0.0
    config.train.epochs = STEPS
    strays: dict[str, list[torch.Tensor]] = {"dense": [], "numba": []}
    for seed in range(SEEDS):
        start = draw(config, seed)
        start.set_backend("dense")
        exact = losses(copy.deepcopy(start).double(), config, seed)
        for backend, stray in strays.items():
            network = copy.deepcopy(start)
            network.set_backend(backend)
            stray.append(losses(network, config, seed) - exact)
    modules, fused = (torch.cat(strays[b]).square().mean().sqrt() for b in ("dense", "numba"))
    assert 0 < fused <= 2 * modules
