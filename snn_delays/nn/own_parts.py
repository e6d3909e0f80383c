"""A user's own neuron, readout, kernel shape and loss: made, and tried once on a few numbers.

A part that does not fit raises UserError with the interface. The trial changes neither the part nor
torch's random state.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn

from snn_delays.config.own_parts import OwnPart, call, parameters
from snn_delays.nn.state import reset, stateful
from snn_delays.ops.taps import Shape

STEPS, SAMPLES = 3, 2  # of the trial's input
LONG_STEPS = 20  # so that neurons spike


def own_neuron(
    value: str,
    *,
    neurons: int,
    tau: float,
    v_threshold: float,
    surrogate_alpha: float,
    step_ms: float,
) -> nn.Module:
    """The hidden neurons that ``model.neuron=module:name`` makes.

    Args:
        value: the option's value.
        neurons: N.
        tau: membrane time constant in steps.
        v_threshold: firing threshold.
        surrogate_alpha: steepness of the surrogate gradient.
        step_ms: length of a time step, ms.
    """
    part = OwnPart("model.neuron", value)
    kind = part.load()
    with part.guarded():
        made = call(
            kind,
            neurons=neurons,
            tau=tau,
            v_threshold=v_threshold,
            surrogate_alpha=surrogate_alpha,
            surrogate_function=surrogate.ATan(alpha=surrogate_alpha),
            step_ms=step_ms,
        )
        module = _module(part, made)
        if hasattr(module, "step_mode"):  # a neuron of SpikingJelly's
            module.step_mode = "m"
        _try(part, module, (STEPS, SAMPLES, neurons), (STEPS, SAMPLES, neurons))
        _check_silence(part, module, neurons, 4 * v_threshold)
    return cast(nn.Module, module)


def own_readout(value: str, *, classes: int) -> Callable[[Tensor], Tensor]:
    """From membranes [T, B, K] to scores [B, K]: a torch module, or a function."""
    part = OwnPart("model.readout", value)
    found = part.load()
    with part.guarded():
        scores = _module(part, call(found, classes=classes)) if isinstance(found, type) else found
        _try(part, scores, (STEPS, SAMPLES, classes), (SAMPLES, classes))
    return cast(Callable[[Tensor], Tensor], scores)


@functools.cache
def own_shape(value: str) -> Shape:
    """The shape of the taps around a delay; torch differentiates it."""
    part = OwnPart("model.delay_kernel", value)
    function = part.load()
    with part.guarded():
        _try(part, function, (STEPS, SAMPLES), (STEPS, SAMPLES))
    return Shape(value, function)


def own_loss(
    value: str, network: nn.Module, classes: int, soft: bool, per_step: bool = False
) -> Callable[..., Tensor]:
    """The mean loss of (scores [B, K], target), or of (outputs [S, B, K], target [T, B, K]).

    Args:
        value: the option's value.
        network: passed to a function that takes it.
        classes: K.
        soft: targets are probabilities [B, K] in training.
        per_step: targets are numbers at every step, and outputs are, too.
    """
    part = OwnPart("train.loss", value)
    function = part.load()
    with part.guarded():
        more = {"network": network} if "network" in parameters(function) else {}
        loss = functools.partial(function, **more)
        like = next(network.parameters())
        target = torch.arange(SAMPLES, device=like.device) % classes
        targets = [target, nn.functional.one_hot(target, classes).to(like)] if soft else [target]
        shape: tuple[int, ...] = (SAMPLES, classes)
        if per_step:
            shape = (STEPS, SAMPLES, classes)
            targets = [like.new_ones(STEPS - 1, SAMPLES, classes)]
        for each in targets:
            _try(part, _of_scores(loss, each), shape, (), like)
    return loss


def _module(part: OwnPart, made: Any) -> Any:
    if not isinstance(made, nn.Module):
        raise part.misfit(f"it makes {type(made).__name__}, which is no torch module")
    return made


def _try(
    part: OwnPart,
    function: Callable[[Tensor], Any],
    shape: tuple[int, ...],
    wanted: tuple[int, ...],
    like: Tensor | None = None,
) -> None:
    """Refuse a function whose output is of another shape, or has no gradient."""
    x = torch.zeros(shape) if like is None else like.new_zeros(shape)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        y = copy.deepcopy(function)(x.requires_grad_())
        if not isinstance(y, Tensor) or y.shape != wanted:
            made = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise part.misfit(f"of an input {list(shape)} it makes {made}, not {list(wanted)}")
        if not y.requires_grad or torch.autograd.grad(y.sum(), x, allow_unused=True)[0] is None:
            raise part.misfit("its output has no gradient, so that nothing before it would learn")


def _check_silence(part: OwnPart, module: nn.Module, neurons: int, largest: float) -> None:
    """Refuse a module whose state stays from one call to the next; inputs are 0 to ``largest``."""
    tried = copy.deepcopy(module).eval()
    spikes = []
    for _ in range(2):
        reset(stateful(tried))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            spikes.append(tried(largest * torch.rand(LONG_STEPS, SAMPLES, neurons)))
    if not torch.equal(*spikes):
        raise part.misfit(
            "it makes other spikes of the same input in a second call, since its state stays; let"
            " forward begin with new state, or write a method reset that clears the state"
        )


def _of_scores(loss: Callable[..., Any], target: Tensor) -> Callable[[Tensor], Any]:
    return lambda scores: loss(scores, target)
