"""What a training step costs at least on this machine: its matrix products, and its memory traffic.

A delayed map is a complex matrix product per frequency, of three real products (of one where the
spectrum is real), and the step has one product for each of the map's output, its input's gradient
and its weights' gradient. The bound is the longer of two times, as if products and traffic
overlapped without loss: all products out of the caches, by the faster of torch and this package,
and copying as many bytes as the passes over a layer's arrays read and write.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore
architectures", CACM 2009.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from scripts.benchmarks.networks import Problem, configure
from snn_delays.ops.spectral.complex_gemm import complex_product, new_room
from snn_delays.ops.spectral.layer import Plan, make_plan
from snn_delays.runtime.numba_jit import kernel, prange

NUMBER = 4  # bytes of a float32
REAL = 3  # real products of a complex one
TRIALS = 3  # of which the fastest counts, to choose who multiplies
COPIED = 1 << 27  # bytes of an array to copy, beyond every cache


@dataclass(frozen=True)
class Products:
    """Real matrix products [m, k] [k, n] of one shape."""

    count: int
    m: int
    k: int
    n: int

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.count * self.m * self.k * self.n


@dataclass(frozen=True)
class _Layer:
    """The sizes of a layer's arrays; the first layer's input wants no gradient."""

    plan: Plan
    next_plan: Plan | None
    batch: int
    inputs: int
    outputs: int
    is_first: bool

    def products(self) -> Iterator[Products]:
        N, F = self.plan.length, self.plan.frequencies
        real = 2 - N % 2  # frequencies at which spectra are real
        count = REAL * (F - real) + real
        yield Products(count, self.batch, self.inputs, self.outputs)
        yield Products(count, self.outputs, self.batch, self.inputs)
        if not self.is_first:
            yield Products(count, self.batch, self.outputs, self.inputs)

    def numbers(self) -> int:
        """Numbers that the passes of the fused step read and write, each array once a pass."""
        spectrum = 2 * self.plan.frequencies * self.batch
        X, Y = spectrum * self.inputs, spectrum * self.outputs
        K = 2 * self.plan.frequencies * self.inputs * self.outputs
        y = self.batch * self.plan.out_steps * self.outputs
        # spectrum of the weights; products; their gradients; from the gradient to the weights'
        of_map = K + (X + K + Y) + (Y + X + 2 * K + (0 if self.is_first else X)) + K
        if self.next_plan is None:  # the readout: to membranes and back
            return of_map + 2 * (Y + y)
        Z = 2 * self.next_plan.frequencies * self.batch * self.outputs
        return of_map + (Y + y) + (y + Z) + (Z + 2 * y) + (2 * y + Y)


def _layers(problem: Problem) -> list[_Layer]:
    config = configure(problem)
    sizes = [config.data.channels, *problem.hidden, problem.classes]
    extra = config.model.layer_extra_steps
    count = len(sizes) - 1
    plans = [make_plan(problem.steps + n * extra, problem.taps, extra) for n in range(count)]
    following = [*plans[1:], None]
    return [
        _Layer(plans[n], following[n], problem.batch, sizes[n], sizes[n + 1], n == 0)
        for n in range(count)
    ]


def products(problem: Problem) -> list[Products]:
    """All matrix products of a training step."""
    return [part for layer in _layers(problem) for part in layer.products()]


def traffic(problem: Problem) -> int:
    """Bytes that the passes of a training step read and write."""
    first = _layers(problem)[0]
    frames = problem.steps * problem.batch * first.inputs
    spectrum = 2 * first.plan.frequencies * problem.batch * first.inputs
    return NUMBER * (frames + spectrum + sum(layer.numbers() for layer in _layers(problem)))


def multiply(problem: Problem) -> Callable[[], None]:
    """All products of a step out of the caches, each by the faster of torch and this package."""
    calls = [_fastest(_by_torch(part), _by_ours(part)) for part in products(problem)]

    def step() -> None:
        for call in calls:
            call()

    return step


def _fastest(*calls: Callable[[], None]) -> Callable[[], None]:
    def seconds(call: Callable[[], None]) -> float:
        call()
        return min(timeit.repeat(call, number=1, repeat=TRIALS))

    return min(calls, key=seconds)


def _by_torch(part: Products) -> Callable[[], None]:
    threads = torch.get_num_threads()
    a, b = torch.rand(threads, part.m, part.k), torch.rand(threads, part.k, part.n)
    out = a @ b

    def call() -> None:
        for _ in range(-(-part.count // threads)):
            torch.bmm(a, b, out=out)

    return call


def _by_ours(part: Products) -> Callable[[], None]:
    threads = torch.get_num_threads()
    a, b = torch.rand(threads, 2, part.m, part.k), torch.rand(threads, 2, part.n, part.k)
    out = torch.empty(threads, 2, part.m, part.n)
    arrays = a.numpy(), b.numpy(), out.numpy()
    return lambda: _complex_products(part.count / REAL, *arrays)


@kernel
def _complex_products(jobs, count, a, b, out):  # type: ignore[no-untyped-def]
    """Each job multiplies its own matrices again and again."""
    for job in prange(jobs):
        room = new_room(out)
        for _ in range(round(job * count / jobs), round((job + 1) * count / jobs)):
            complex_product(a[job], False, b[job], True, False, False, out[job], room)


def copy(problem: Problem) -> Callable[[], None]:
    """Copies so large that as many bytes are read and written as a step's passes do."""
    left, size = traffic(problem) // (2 * NUMBER), COPIED // NUMBER
    source, out = torch.rand(size), torch.empty(size)

    def step() -> None:
        for first in range(0, left, size):
            n = min(size, left - first)
            out[:n].copy_(source[:n])

    return step
