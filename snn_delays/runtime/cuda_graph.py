"""Forward and back recorded as a CUDA graph and played back: one launch instead of hundreds."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Size, Tensor, nn

MAX_CAPTURES = 32  # recordings; each holds a batch and all gradients

B = TypeVar("B", bound=Any)  # a dataclass some of whose values are tensors
T = TypeVar("T")


@dataclass(frozen=True)
class _Capture(Generic[B, T]):
    """A graph, the batch that it reads, the result and the gradients that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: B
    result: T
    gradients: list[Tensor | None]

    def replay(self, batch: B) -> T:
        """The result of a batch of the same shape, good until the next one is played."""
        for name, tensor in _tensors(self.batch).items():
            tensor.copy_(getattr(batch, name))
        self.graph.replay()
        return self.result


class CapturedStep(Generic[B, T]):
    """What finds the gradients of batches, recorded for each shape when it comes a second time.

    The first time it runs as it is, so that kernels are compiled and memory is there. What changes
    while it serves must be a tensor that is written to: parameters, running statistics, sigma.

    Args:
        compute: computes the gradients of a batch; it must not wait for the GPU.
        parameters: whose gradients it finds.
        pool: memory of the recordings, which others may share that leave nothing in it.
    """

    def __init__(
        self, compute: Callable[[B], T], parameters: Sequence[nn.Parameter], pool: Any = None
    ) -> None:
        self._compute, self._parameters = compute, parameters
        self._ran: set[tuple[Size, ...]] = set()
        self._captures: dict[tuple[Size, ...], _Capture[B, T]] = {}
        self._pool = torch.cuda.graph_pool_handle() if pool is None else pool

    def __call__(self, batch: B) -> T:
        """Find the gradients of a batch."""
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
        """On a stream of its own, as torch asks for before a capture."""
        here, side = torch.cuda.current_stream(), _side_stream(torch.cuda.current_device())
        side.wait_stream(here)
        with torch.cuda.stream(side):
            result = self._compute(batch)
        here.wait_stream(side)
        return result

    def _capture(self, batch: B) -> _Capture[B, T]:
        batch = replace(batch, **{name: t.clone() for name, t in _tensors(batch).items()})
        gc.collect()  # what is left of an earlier pass would tie this one to that one's stream
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.stream(torch.cuda.current_stream()),  # to come back to, should this fail
            torch.cuda.graph(
                graph,
                pool=self._pool,
                capture_error_mode="thread_local",  # another thread makes batches meanwhile
            ),
        ):
            result = self._compute(batch)
        return _Capture(graph, batch, result, [p.grad for p in self._parameters])


@functools.cache  # memory stays with the stream that asked for it
def _side_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _tensors(batch: Any) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
