"""Additions and multiplications that a delayed linear map takes forward, about."""

from __future__ import annotations

import functools
import math

from snn_delays.ops.maps.backend import Problem
from snn_delays.ops.spectral.layer import Plan, make_plan

TRANSFORM_COST = 32  # operations that take as long as N log2 N says


def of_convolution(problem: Problem) -> float:
    """A product per tap."""
    outputs, inputs, _ = problem.weight
    out_steps = problem.steps + problem.extra_steps
    return 2 * out_steps * problem.taps * problem.batch * inputs * outputs


@functools.lru_cache(256)
def of_spectra(problem: Problem) -> float:
    """A product per frequency, and the transforms; infinite for one tap, which is no convolution.

    On a GPU transforms are counted as products by matrices (by count, not measured).
    """
    if problem.taps == 1:
        return math.inf
    plan = make_plan(problem.steps, problem.taps, problem.extra_steps)
    outputs, inputs, _ = problem.weight
    if problem.device.type == "cuda":
        return _of_matrices(plan, problem.batch, inputs, outputs)
    return _of_fast_transforms(plan, problem.batch, inputs, outputs)


def _of_fast_transforms(plan: Plan, batch: int, inputs: int, outputs: int) -> float:
    """Per frequency a complex product takes three real ones.

    A transform takes longer than its 5/2 N log2 N operations say, since it moves more than it
    computes.
    """
    length = plan.length
    transform = TRANSFORM_COST * length * math.log2(length + 1)
    sequences = batch * (inputs + outputs) + inputs * outputs
    return 3 * length * batch * inputs * outputs + transform * sequences


def _of_matrices(plan: Plan, batch: int, inputs: int, outputs: int) -> float:
    F = plan.frequencies
    transforms = 8 * F * plan.steps * batch * inputs + 4 * F * plan.out_steps * batch * outputs
    of_kernel = 4 * F * plan.taps * inputs * outputs
    return transforms + of_kernel + 8 * F * batch * inputs * outputs
