"""Whether the numbers that are to be timed are right; without that no speed is reported.

Everything is compared with float64. Where rounding makes a neuron spike one step off, two correct
fp32 codes part, so twice the deviation of a plain fp32 code is allowed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from scripts.benchmarks.common import Disagreement
from scripts.benchmarks.networks import (
    Problem,
    configure,
    our_network,
    random_batch,
    reference_network,
    scores,
)
from scripts.reference.network import ReferenceNetwork
from snn_delays.errors import UserError
from snn_delays.nn import Network
from snn_delays.runtime.device import tensor_cores

LIMIT = 1e-3  # relative deviation from float64 that is always allowed
BATCH = 4  # at most
DECISIONS = 1 << 19  # neurons times steps times samples, about, so that hardly a spike can flip

Numbers = dict[str, Tensor]
Errors = dict[str, float]


def relative(found: Tensor, oracle: Tensor) -> float:
    """Norm of the deviation relative to that of the oracle; infinite where it is not a number."""
    size = max(oracle.norm().item(), torch.finfo(torch.float64).tiny)
    error = (found.double() - oracle).norm().item() / size
    return error if math.isfinite(error) else math.inf


def require(what: str, found: float, own: float, limit: float = LIMIT) -> None:
    """Stop where ``found`` exceeds ``limit`` and twice ``own``, the plain fp32 code's deviation.

    Raises:
        Disagreement: it does.
    """
    allowed = max(limit, 2 * own)
    if not found <= allowed:
        raise Disagreement(
            f"{what} deviates from float64 by {found:.1e} (plain fp32: {own:.1e}; at most"
            f" {allowed:.1e} is allowed)."
        )


def check_training(what: str, problem: Problem, precision: str = "float32") -> Errors:
    """Compare class scores and all gradients of ours with the reference's in float64.

    Ours must agree in float32. The deviation that coarser products add is reported, not judged.

    Args:
        what: the problem's name in messages.
        problem: compared at a small batch, without dropout.
        precision: "float32", "tf32" or "mixed".

    Returns:
        Relative deviations: "logits", the worst "gradient", and the reference's own in
        float32, "plain_logits" and "plain_gradient".

    Raises:
        Disagreement: a number of ours deviates too far.
        UserError: the backend cannot train.
    """
    small = replace(
        problem, dropout=0.0, batch=_small_batch(problem), backend=_timed_backend(problem)
    )
    exact = _numbers(reference_network(small, torch.float64), small)
    plain = _deviations(_numbers(reference_network(small), small), exact)
    ours = _deviations(_our_numbers(small, "float32"), exact)
    for name, error in ours.items():
        require(f"{what}: {name}", error, plain[name])
    if precision != "float32":
        ours = _deviations(_our_numbers(small, precision), exact)
    return _worst(ours) | {f"plain_{name}": error for name, error in _worst(plain).items()}


def _small_batch(problem: Problem) -> int:
    of_one = sum(problem.hidden) * problem.steps
    return max(1, min(problem.batch, BATCH, DECISIONS // of_one))


def _timed_backend(problem: Problem) -> str:
    """What "auto" stands for at the size that is timed, so that a small batch takes it too."""
    network = our_network(problem)
    channels = configure(problem).data.channels
    x = torch.empty(1, device=problem.device).expand(problem.steps, problem.batch, channels)
    chosen = network.describe_backend(x)
    (*layers,) = chosen.partition(" (")[0].split(", ")
    alike = problem.backend == "auto" and len(layers) == 1
    return layers[0] if alike else problem.backend


def _our_numbers(problem: Problem, precision: str) -> Numbers:
    network = our_network(problem)
    try:
        return _numbers(network, problem, precision)
    except ValueError as error:  # the backend's own sentence
        raise UserError(str(error)) from error


def _numbers(
    network: Network | ReferenceNetwork, problem: Problem, precision: str = "float32"
) -> Numbers:
    """Class scores less their mean, which cross-entropy ignores, and every gradient."""
    x, y = random_batch(problem)
    with tensor_cores(precision):
        logits = scores(network, x.to(next(network.parameters()).dtype), precision)
        F.cross_entropy(logits, y).backward()
    centred = logits.detach().double()
    centred -= centred.mean(1, keepdim=True)
    if isinstance(network, Network):
        gradients = _our_gradients(network)
    else:
        gradients = _reference_gradients(network)
    return {"logits": centred, **{f"gradient of {k}": g.double() for k, g in gradients.items()}}


def _our_gradients(network: Network) -> dict[str, Tensor]:
    linears: list[Any] = list(network.delayed_layers())
    weights = {f"weight {n}": linear.weight.grad for n, linear in enumerate(linears, 1)}
    delays = {f"delay {n}": linear.delay.grad for n, linear in enumerate(linears, 1)}
    blocks: list[Any] = list(network.blocks)
    return weights | delays | _norm_gradients([block.norm for block in blocks])


def _reference_gradients(network: ReferenceNetwork) -> dict[str, Tensor]:
    maps: list[Any] = list(network.maps)
    weights = {f"weight {n}": linear.weight.grad for n, linear in enumerate(maps, 1)}
    delays = {f"delay {n}": -linear.P.grad[0] for n, linear in enumerate(maps, 1)}
    return weights | delays | _norm_gradients(list(network.norms))


def _norm_gradients(norms: list[Any]) -> dict[str, Tensor]:
    weights = {f"BatchNorm weight {n}": norm.weight.grad for n, norm in enumerate(norms, 1)}
    return weights | {f"BatchNorm bias {n}": norm.bias.grad for n, norm in enumerate(norms, 1)}


def _deviations(found: Numbers, exact: Numbers) -> Errors:
    return {name: relative(found[name], exact[name]) for name in exact}


def _worst(errors: Errors) -> Errors:
    return {
        "logits": errors["logits"],
        "gradient": max(error for name, error in errors.items() if name != "logits"),
    }
