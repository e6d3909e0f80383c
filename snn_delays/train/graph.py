"""A training step recorded as a CUDA graph and played back: one launch instead of hundreds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Size, Tensor

from snn_delays.train.optim import Optimizers

B = TypeVar("B", bound=Any)  # a dataclass some of whose values are tensors
T = TypeVar("T")


@dataclass(frozen=True)
class _Recording(Generic[B, T]):
    """A graph, the batch that it reads and the outcome that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: B
    outcome: T

    def play(self, batch: B) -> T:
        """The outcome of a batch of the same shape, good until the next one is played."""
        for name, tensor in _tensors(self.batch).items():
            tensor.copy_(getattr(batch, name))
        self.graph.replay()
        return self.outcome


class RecordedStep(Generic[B, T]):
    """A step of batches, recorded for each shape when it comes a second time.

    The first time it runs as it is, so that kernels are compiled and memory is there. Numbers that
    are no tensors (learning rates, sigma) are recorded as they are then: it serves one epoch.

    Args:
        step: of a batch; it must not wait for the GPU.
        optimizers: that it moves.
    """

    def __init__(self, step: Callable[[B], T], optimizers: Optimizers) -> None:
        self._step, self._optimizers = step, optimizers
        self._ran: set[tuple[Size, ...]] = set()
        self._recordings: dict[tuple[Size, ...], _Recording[B, T]] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, batch: B) -> T:
        """Take a step."""
        shape = tuple(tensor.shape for tensor in _tensors(batch).values())
        if shape not in self._ran:
            self._ran.add(shape)
            return self._aside(batch)
        if shape not in self._recordings:
            self._recordings[shape] = self._record(batch)
        outcome = self._recordings[shape].play(batch)
        self._optimizers.note_change()
        return outcome

    def _aside(self, batch: B) -> T:
        """On a stream of its own, as torch asks for before a recording."""
        here, aside = torch.cuda.current_stream(), _second_stream(torch.cuda.current_device())
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            outcome = self._step(batch)
        here.wait_stream(aside)
        return outcome

    def _record(self, batch: B) -> _Recording[B, T]:
        batch = replace(batch, **{name: t.clone() for name, t in _tensors(batch).items()})
        graph = torch.cuda.CUDAGraph()
        with (
            self._optimizers.recorded(),
            torch.cuda.graph(
                graph,
                pool=self._pool,
                capture_error_mode="thread_local",  # another thread makes batches meanwhile
            ),
        ):
            outcome = self._step(batch)
        return _Recording(graph, batch, outcome)


@functools.cache  # memory stays with the stream that asked for it
def _second_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _tensors(batch: Any) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
