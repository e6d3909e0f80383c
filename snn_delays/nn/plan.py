"""How each layer of a network computes a pass: decided here, for each layer by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from snn_delays.nn.block import Block, How
from snn_delays.nn.delayed_linear import DelayedLinear
from snn_delays.nn.neurons import ScannedNode
from snn_delays.nn.readout import Readout
from snn_delays.nn.stock import is_stock
from snn_delays.nn.sync import BatchNorm1d, Dropout
from snn_delays.ops.maps import BACKENDS, Problem, choose_backend
from snn_delays.runtime import triton_jit
from snn_delays.runtime.distributed import largest_part
from snn_delays.runtime.tracing import watcher

WATCHED = "a hook or monitor watches it"


def plan_layers(blocks: Iterable[nn.Module], readout: nn.Module, x_TBI: Tensor) -> list[How]:
    """How each layer computes a pass in its present mode, the readout's last.

    Args:
        blocks: the hidden layers.
        readout: the last layer.
        x_TBI: the network's input, of which shape, precision and device count. Layers of foreign
            classes are taken to keep the number of steps.
    """
    layers = [*blocks, readout]
    if watched := watcher():
        return [How(None, why=watched)] * len(layers)
    plan: list[How] = []
    steps, channels = x_TBI.shape[0], x_TBI.shape[2]
    for layer in layers:
        linear: Any = getattr(layer, "linear", None)
        if not isinstance(linear, DelayedLinear):
            plan.append(How(None, why="its class is foreign"))
            continue
        problem = linear.problem(x_TBI, steps)
        fits = channels == problem.weight[1]  # else the layer refuses a sequence, as it should
        after_spectra = fits and bool(plan) and plan[-1].path == "spectra"
        decide = _of_readout if layer is readout else _of_block
        plan.append(decide(layer, problem, x_TBI, after_spectra))
        if plan[-1].takes_spectra:
            plan[-2] = replace(plan[-2], onward=(linear.taps, linear.extra_steps))
        steps, channels = steps + linear.extra_steps, len(linear.weight)
    return plan


def describe(plan: Sequence[How]) -> str:
    """A plan in words, for a run's log."""
    *blocks, _ = plan
    backends = ", ".join(dict.fromkeys(how.backend for how in plan if how.backend))
    slow = {number: how.why for number, how in enumerate(blocks, 1) if how.path == "modules"}
    if not blocks:
        return backends
    if not slow:
        return f"{backends} (blocks fused)"
    if len(slow) == len(blocks) and len(set(slow.values())) == 1:
        return f"{backends} (module by module: {slow[1]})"
    reasons = "; ".join(f"block {number} module by module: {why}" for number, why in slow.items())
    return f"{backends} ({'blocks fused; ' * (len(slow) < len(blocks))}{reasons})"


# ---- the choice --------------------------------------------------------------------------------


def _of_block(layer: Any, problem: Problem, x_TBI: Tensor, after_spectra: bool) -> How:
    backend, reason = _backend(layer.linear, problem), _why_not_fused(layer, problem)
    if reason is None and triton_jit.serves(x_TBI):
        return How(backend, "scan")
    if reason and not after_spectra:
        return How(backend, why=reason)
    # all processes decide alike, and training has gradients
    shared = problem._replace(batch=largest_part(problem.batch), gradients=True)
    spectral = _backend(layer.linear, shared)
    none_taken = _why_not_plain(layer, Block, problem) or _why_not_spectral(spectral, shared)
    reason = reason or none_taken or _why_not_between_spectra(layer)
    if reason is None:
        return How(spectral, "spectra", takes_spectra=after_spectra)
    if after_spectra and none_taken is None:
        return How(spectral, why=reason, takes_spectra=True)
    return How(backend, why=reason)


def _of_readout(layer: Any, problem: Problem, x_TBI: Tensor, after_spectra: bool) -> How:
    """A spectrum that is there already is multiplied, whatever another map would cost."""
    backend = _backend(layer.linear, problem)
    if not after_spectra:
        return How(backend)
    if reason := _why_not_plain(layer, Readout, problem):
        return How(backend, why=reason)
    for name in BACKENDS if layer.linear.backend == "auto" else [backend]:
        if _why_not_spectral(name, problem) is None:
            return How(name, "spectra", takes_spectra=True)
    return How(backend, why=_why_not_spectral(backend, problem) or "")


def _backend(linear: DelayedLinear, problem: Problem) -> str:
    return choose_backend(problem) if linear.backend == "auto" else linear.backend


def _why_not_fused(layer: Any, problem: Problem) -> str | None:
    """Why norm, neuron and dropout must run one after another, or None where they need not."""
    if not layer.training:
        return "it is not training"
    if problem.batch == 0 or problem.steps + problem.extra_steps < 2:
        return "there are too few numbers for BatchNorm"
    if reason := _why_not_plain(layer, Block, problem):
        return reason
    return WATCHED if _is_watched(*layer.modules()) else why_not_one_function(layer)


def _why_not_plain(layer: Any, kind: type, problem: Problem) -> str | None:
    """Why a layer and its map must be called as modules are, with a sequence in time."""
    if not (is_stock(layer, kind) and is_stock(layer.linear, DelayedLinear)):
        return "the class or a method of it or of its delayed linear layer is foreign"
    if any(parameter.dtype != problem.dtype for parameter in layer.parameters()):
        return "input and parameters differ in precision"
    return WATCHED if _is_watched(layer, layer.linear) else None


def _why_not_spectral(backend: str, problem: Problem) -> str | None:
    """Why a map cannot multiply the spectrum of its input."""
    if not BACKENDS[backend].spectra:
        return f"backend={backend} takes no spectra"
    return BACKENDS[backend].why_not(problem)


def _why_not_between_spectra(layer: Any) -> str | None:
    """Why a fused block cannot be one function of spectra, its map included."""
    if layer.linear.bias is not None:
        return "it has a bias"
    return None if is_stock(layer.filter, nn.Identity) else "it has a synaptic filter"


def _is_watched(*modules: nn.Module) -> bool:
    """Whether a hook, a monitor for one, wants to see one of these run."""
    hooks = (m._forward_hooks or m._forward_pre_hooks for m in modules)
    backward = (m._backward_hooks or m._backward_pre_hooks for m in modules)
    return any(hooks) or any(backward) or _has_any_global_hook()


def why_not_one_function(block: Any) -> str | None:
    """Why a block's norm, neuron and dropout cannot be one function, or None where they can."""
    if block.recurrence is not None:
        return "it is recurrent"
    if block.measured:
        return "its firing rates are penalised"
    if not _is_plain_norm(block.norm):
        return (
            "it has no BatchNorm of nn.sync that learns scale and shift and tracks its statistics"
        )
    if len(block.norm.weight) != len(block.linear.weight):
        return "its BatchNorm has another number of channels"
    if not is_stock(block.dropout, nn.Identity, Dropout) or not block.dropout.training:
        return "its dropout is not that of nn.sync, or does not train"
    return _why_not_neuron(block.neuron)


def _is_plain_norm(norm: Any) -> bool:
    plain = is_stock(norm, BatchNorm1d) and norm.momentum is not None
    return plain and norm.training and norm.affine and norm.track_running_stats


def _why_not_neuron(node: Any) -> str | None:
    if not isinstance(node, ScannedNode):
        return "its neuron is foreign"
    if not node.is_plain():
        return "its neuron, or the reset or surrogate of it, is foreign"
    if node.step_mode != "m":
        return "its neuron runs step by step"
    return "its neuron stores its membrane" if node.store_v_seq else None
