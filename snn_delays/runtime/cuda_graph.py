"""Forward and back recorded as a CUDA graph and played back: one launch instead of hundreds."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Size, Tensor, nn

MOST = 32  # recordings; each holds a batch and all gradients

B = TypeVar("B", bound=Any)  # a dataclass some of whose values are tensors
T = TypeVar("T")


@dataclass(frozen=True)
class _Recording(Generic[B, T]):
    """A graph, the batch that it reads, the outcome and the gradients that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: B
    outcome: T
    gradients: list[Tensor | None]

    def play(self, batch: B) -> T:
        """The outcome of a batch of the same shape, good until the next one is played."""
        for name, tensor in _tensors(self.batch).items():
            tensor.copy_(getattr(batch, name))
        self.graph.replay()
        return self.outcome


class CapturedStep(Generic[B, T]):
    """What finds the gradients of batches, recorded for each shape when it comes a second time.

    The first time it runs as it is, so that kernels are compiled and memory is there. What changes
    while it serves must be a tensor that is written to: parameters, running statistics, sigma.

    Args:
        find: of a batch; it must not wait for the GPU.
        parameters: whose gradients it finds.
        pool: memory of the recordings, which others may share that leave nothing in it.
    """

    def __init__(
        self, find: Callable[[B], T], parameters: Sequence[nn.Parameter], pool: Any = None
    ) -> None:
        self._find, self._parameters = find, parameters
        self._ran: set[tuple[Size, ...]] = set()
        self._recordings: dict[tuple[Size, ...], _Recording[B, T]] = {}
        self._pool = torch.cuda.graph_pool_handle() if pool is None else pool

    def __call__(self, batch: B) -> T:
        """Find the gradients of a batch."""
        shape = tuple(tensor.shape for tensor in _tensors(batch).values())
        recording = self._recordings.get(shape)
        if recording is None:
            if shape not in self._ran or len(self._recordings) == MOST:
                self._ran.add(shape)
                return self._aside(batch)
            recording = self._recordings[shape] = self._record(batch)
        outcome = recording.play(batch)
        for parameter, gradient in zip(self._parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        return outcome

    def _aside(self, batch: B) -> T:
        """On a stream of its own, as torch asks for before a recording."""
        here, aside = torch.cuda.current_stream(), _second_stream(torch.cuda.current_device())
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            outcome = self._find(batch)
        here.wait_stream(aside)
        return outcome

    def _record(self, batch: B) -> _Recording[B, T]:
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
            outcome = self._find(batch)
        return _Recording(graph, batch, outcome, [p.grad for p in self._parameters])


@functools.cache  # memory stays with the stream that asked for it
def _second_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _tensors(batch: Any) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
