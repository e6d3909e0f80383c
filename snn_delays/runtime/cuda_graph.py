"""Forward and backward captured as a CUDA graph and replayed: one launch instead of hundreds."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Size, Tensor, nn

MAX_CAPTURES = 32  # graphs; each holds a batch and all gradients

B = TypeVar("B", bound=Any)  # a dataclass some of whose values are tensors
T = TypeVar("T")


@dataclass(frozen=True)
class _Capture(Generic[B, T]):
    """A CUDA graph, its input batch, and the result and gradients that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: B
    result: T
    gradients: list[Tensor | None]

    def replay(self, batch: B) -> T:
        """The result of a batch of the same shape; overwritten by the next replay."""
        for name, tensor in _tensors(self.batch).items():
            tensor.copy_(getattr(batch, name))
        self.graph.replay()
        return self.result


class CapturedStep(Generic[B, T]):
    """Computes gradients of batches, with a CUDA graph for every shape that occurs twice.

    The first batch of a shape is computed without a graph, which compiles kernels and allocates
    memory; the second one is captured. Values that change between batches must be tensors that are
    written in place: parameters, running statistics, sigma.

    Args:
        compute: computes the gradients of a batch; it must not wait for the GPU.
        parameters: parameters that get the gradients.
        pool: memory pool of the graphs; may be shared with graphs whose outputs are not kept.
    """

    def __init__(
        self, compute: Callable[[B], T], parameters: Sequence[nn.Parameter], pool: Any = None
    ) -> None:
        self._compute, self._parameters = compute, parameters
        self._ran: set[tuple[Size, ...]] = set()
        self._captures: dict[tuple[Size, ...], _Capture[B, T]] = {}
        self._pool = torch.cuda.graph_pool_handle() if pool is None else pool

    def __call__(self, batch: B) -> T:
        """Compute the gradients of a batch."""
        shape = tuple(tensor.shape for tensor in _tensors(batch).values())
        capture = self._captures.get(shape)
        if capture is None:
            if shape not in self._ran or len(self._captures) == MAX_CAPTURES:
                self._ran.add(shape)
                return self._run_on_side_stream(batch)
            capture = self._captures[shape] = self._capture(batch)
        result = capture.replay(batch)
        for parameter, gradient in zip(self._parameters, capture.gradients, strict=True):
            parameter.grad = gradient
        return result

    def _run_on_side_stream(self, batch: B) -> T:
        """Compute on a side stream, as torch requires before a capture."""
        here, side = torch.cuda.current_stream(), _side_stream(torch.cuda.current_device())
        side.wait_stream(here)
        with torch.cuda.stream(side):
            result = self._compute(batch)
        here.wait_stream(side)
        return result

    def _capture(self, batch: B) -> _Capture[B, T]:
        batch = replace(batch, **{name: t.clone() for name, t in _tensors(batch).items()})
        gc.collect()  # tensors left over from an earlier pass belong to another stream
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.stream(torch.cuda.current_stream()),  # restored if the capture fails
            torch.cuda.graph(
                graph,
                pool=self._pool,
                capture_error_mode="thread_local",  # the loader's thread uses the GPU meanwhile
            ),
        ):
            result = self._compute(batch)
        return _Capture(graph, batch, result, [p.grad for p in self._parameters])


@functools.cache  # always the same stream, since torch reuses memory only within a stream
def _side_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _tensors(batch: Any) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
