"""Check a computation's numbers before it is timed; no speed is reported for wrong numbers.

Everything is compared with float64. Rounding can move a spike by one step, after which two correct
fp32 codes diverge; twice the deviation of a plain fp32 code is therefore allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
from snn_delays.nn.block import How
from snn_delays.nn.plan import describe
from snn_delays.runtime.device import tensor_cores

LIMIT = 1e-3  # relative deviation from float64 that is always allowed
BATCH = 4  # at most
DECISIONS = 1 << 19  # neurons times steps times samples, at most: few enough that no spike flips

Numbers = dict[str, Tensor]
Errors = dict[str, float]


def relative(found: Tensor, oracle: Tensor) -> float:
    """Norm of the deviation over the norm of the oracle; infinite where the ratio is NaN."""
    size = max(oracle.norm().item(), torch.finfo(torch.float64).tiny)
    error = (found.double() - oracle).norm().item() / size
    return error if math.isfinite(error) else math.inf


def require(what: str, found: float, own: float, limit: float = LIMIT) -> None:
    """Refuse a deviation above both ``limit`` and twice ``own``, the plain fp32 code's deviation.

    Raises:
        Disagreement: ``found`` is above both.
    """
    allowed = max(limit, 2 * own)
    if not found <= allowed:
        raise Disagreement(
            f"{what} deviates from float64 by {found:.1e} (plain fp32: {own:.1e}; at most"
            f" {allowed:.1e} is allowed)."
        )


def check_training(
    what: str,
    problem: Problem,
    precision: str = "float32",
    reference: Callable[..., Network | ReferenceNetwork] = reference_network,
) -> Errors:
    """Compare our network's class scores and gradients with the reference's in float64.

    Our network must agree in float32. The additional deviation of coarser precisions is reported
    and not limited.

    Args:
        what: the problem's name in messages.
        problem: compared at a small batch, without dropout.
        precision: "float32", "tf32" or "mixed".
        reference: (problem, dtype) -> the network that ours is compared with.

    Returns:
        Relative deviations: "logits" and the worst "gradient" of ours, "plain_logits" and
        "plain_gradient" of the reference in float32.

    Raises:
        Disagreement: our network deviates too far.
        UserError: the backend cannot train.
    """
    plan = _timed_plan(problem)
    small = replace(problem, dropout=0.0, batch=_small_batch(problem))
    exact = _numbers(reference(small, torch.float64), small)
    plain = _deviations(_numbers(reference(small, torch.float32), small), exact)
    ours = _deviations(_our_numbers(small, plan, "float32"), exact)
    for name, error in ours.items():
        require(f"{what}: {name}", error, plain[name])
    if precision != "float32":
        ours = _deviations(_our_numbers(small, plan, precision), exact)
    return _worst(ours) | {f"plain_{name}": error for name, error in _worst(plain).items()}


def _small_batch(problem: Problem) -> int:
    of_one = sum(problem.hidden) * problem.steps
    return max(1, min(problem.batch, BATCH, DECISIONS // of_one))


def _timed_plan(problem: Problem) -> list[How]:
    """How each layer is computed at the timed size; the small batch must be computed likewise."""
    channels = configure(problem).data.channels
    x = torch.empty(1, device=problem.device).expand(problem.steps, problem.batch, channels)
    return our_network(problem).plan_for(x)


def _our_numbers(problem: Problem, plan: Sequence[How], precision: str) -> Numbers:
    """The numbers of a smaller problem, each layer computing as in ``plan``."""
    network = our_network(problem)
    network.set_backends([str(how.backend) for how in plan])
    try:
        numbers = _numbers(network, problem, precision)
    except ValueError as error:  # the backend's own sentence
        raise UserError(str(error)) from error
    if [how.as_dict() for how in network.plan] != [how.as_dict() for how in plan]:
        raise Disagreement(
            f"{describe(plan)} is to be timed, but {describe(network.plan)} was compared."
        )
    return numbers


def _numbers(
    network: Network | ReferenceNetwork, problem: Problem, precision: str = "float32"
) -> Numbers:
    """Every gradient, and the class scores minus their mean (cross-entropy ignores the mean)."""
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
    nodes = [*(block.neuron for block in blocks), network.readout.neuron]
    learned = {
        f"{name} of the neurons {n}": parameter.grad
        for n, node in enumerate(nodes, 1)
        for name, parameter in node.named_parameters()
    }
    return weights | delays | learned | _norm_gradients([block.norm for block in blocks])


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
