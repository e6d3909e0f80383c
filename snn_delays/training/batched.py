"""Batched training: runs that differ in seed take each step together, as one pass of all networks.

Batching pays on GPUs that a single network does not fill. Order of the data, random state,
optimisers, evaluation and folder belong to each run alone. A run's result therefore equals that of
a training on its own, up to rounding.
"""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snn_delays.config import Config, validate
from snn_delays.errors import UserError
from snn_delays.nn import Network, batched, build_network
from snn_delays.runtime.cuda_graph import CapturedStep
from snn_delays.runtime.device import autocast, deterministic, pick_device, tensor_cores
from snn_delays.training.error_messages import explained
from snn_delays.training.loop import Training
from snn_delays.training.run import Run
from snn_delays.training.signals import StopSignal
from snn_delays.training.step import PendingStep, StepResult, apply, finish, statistics

Result = dict[str, Any]
Context = Callable[[], AbstractContextManager[object]]
Step = Callable[["StackedBatch"], list[StepResult]]


def why_not_batched(config: Config) -> str | None:
    """The reason why runs that differ in seed cannot be batched, or None if they can."""
    if config.train.protocol == "paper":
        return "train.protocol=paper pads every batch to a length of its own"
    if config.tracking.name == "wandb":
        return "tracking=wandb follows one run at a time"
    if config.train.loss != "cross_entropy":
        return f"train.loss={config.train.loss} is not cross_entropy"
    if config.train.running_loss:
        return "train.running_loss needs the scores after every step"
    if config.train.delay_noise:
        return "train.delay_noise draws from the random state of one run"
    if config.train.delay_penalty:
        return "train.delay_penalty is added to the loss of one run"
    return batched.why_not_batched(build_network(config, 2))


def train_batched(
    configs: Sequence[Config], contexts: Sequence[Context] | None = None
) -> list[Result | Exception]:
    """``train`` for several configurations that differ in seed and folder alone.

    Runs that are behind the others, because they were stopped or are new, catch up first. If a run
    fails, the others continue; a signal stops all runs after the same batch.

    Args:
        configs: the options of every run.
        contexts: for every run a function that makes the context in which it works, such as one
            that redirects its output.

    Returns:
        The result of ``train`` for every run, or the exception that it raised.

    Raises:
        UserError: the networks cannot be batched, or memory ran out.
    """
    if not configs:
        return []
    for config in configs:
        validate(config)
    first, device = configs[0], pick_device(configs[0].device)
    reason = why_not_batched(first)
    if reason:
        raise UserError(f"Seeds of {first.name} cannot be batched: {reason}.")
    signal = StopSignal()  # set once a round, so that all runs stop after the same batch
    stop = contextlib.nullcontext(signal)
    contexts = contexts or [contextlib.nullcontext for _ in configs]
    runs = [
        _BatchedRun(Run(config, device, stop, len(configs)), device, context)
        for config, context in zip(configs, contexts, strict=True)
    ]
    with (
        explained(),
        deterministic(first.train.deterministic),
        tensor_cores(first.precision),
        contextlib.ExitStack() as opened,
    ):
        for run in runs:
            opened.callback(run.close)
            run.begin()
        with (
            StopSignal() as outer,
            contextlib.closing(_BatchedSteps(first.precision, device)) as steps,
        ):
            while group := _furthest_behind(runs):
                signal.received = outer.received
                results = steps.take(group)
                for run, result in zip(group, results, strict=True):
                    run.advance(result)
    return [run.end for run in runs]


class _BatchedRun:
    """A run that waits for the result of a step, or has ended.

    Args:
        run: the run, not yet entered.
        device: device of its network and of its random state.
        context: makes the context in which it works.

    Attributes:
        pending: the step whose result it waits for; None once the run has ended.
        end: its result, or the exception that it raised.
    """

    def __init__(self, run: Run, device: torch.device, context: Context) -> None:
        self._run: Run | None = run  # None once it has ended, which frees its network and data
        self._context = context
        self._device, self._random = device, _random_state(device)
        self._stack = contextlib.ExitStack()
        self._training: Training | None = None
        self.pending: PendingStep | None = None
        self.end: Result | Exception = {}

    def begin(self) -> None:
        """Work up to the first step."""
        self._guard_step(self._enter)

    def advance(self, result: StepResult | None) -> None:
        """Take this step's result and work up to the next; None: the run takes the step itself."""
        self._guard_step(functools.partial(self._add, result))

    def _guard_step(self, first: Callable[[], None]) -> None:
        """Call ``first``, then go to the next step; an error ends the run."""
        with self._context(), self._own_random_state():
            try:
                with explained():
                    first()
                    self.pending = self._next_step()
            except Exception as error:
                self._stack.__exit__(type(error), error, error.__traceback__)
                self.pending = self._training = self._run = None
                self.end = _without_frames(error)

    def _enter(self) -> None:
        assert self._run is not None
        self._stack.enter_context(self._run)
        self._training = self._run.next_training()

    def _add(self, result: StepResult | None) -> None:
        assert self.pending is not None
        assert self._training is not None
        self._training.add(result or self._training.step(self.pending.batch))

    def _next_step(self) -> PendingStep | None:
        """The run's next step, in this training or the following one; None: the run has ended."""
        assert self._run is not None
        while self._training is not None:
            if self._training.done:
                self._training = self._run.next_training()
            elif (pending := self._training.next_step()) is not None:
                return pending
            else:
                self._training.end_epoch()
        self.end = self._run.finish()
        self.close()
        self._run = None
        return None

    def draw_masks(self) -> Tensor:
        """Dropout masks of the pending step, [B, N]."""
        assert self.pending is not None
        with self._own_random_state():
            return batched.draw_masks(self.pending.network, len(self.pending.batch.y))

    def close(self) -> None:
        """Unlock the run's folder, if the run has not reached its end."""
        self._stack.close()

    @contextlib.contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """A context in which torch's random state is this run's."""
        torch.set_rng_state(self._random[0])
        if len(self._random) > 1:
            torch.cuda.set_rng_state(self._random[1])
        try:
            yield
        finally:
            self._random = _random_state(self._device)


def _without_frames(error: Exception) -> Exception:
    """An error whose frames no longer hold a network and its data; its traceback's lines stay."""
    outermost = error.__traceback__  # still runs, so it cannot be cleared
    error = error.with_traceback(outermost and outermost.tb_next)
    waiting: list[BaseException | None] = [error]
    seen: list[BaseException] = []
    while waiting:
        link = waiting.pop()
        if link is not None and link not in seen:
            traceback.clear_frames(link.__traceback__)
            seen.append(link)
            waiting += [link.__cause__, link.__context__]
    return error


def _random_state(device: torch.device) -> list[Tensor]:
    on_gpu = device.type == "cuda"
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if on_gpu else [])]


def _furthest_behind(runs: Sequence[_BatchedRun]) -> list[_BatchedRun]:
    """The runs that are furthest behind, all at the same step and with batches of one shape."""
    waiting = [(run, run.pending) for run in runs if run.pending is not None]
    if not waiting:
        return []

    def position(step: PendingStep) -> tuple[Any, ...]:
        return step.epoch_and_batch, tuple(step.batch.x.shape), tuple(step.batch.target.shape)

    last = min(position(step) for _, step in waiting)
    return [run for run, step in waiting if position(step) == last]


# ---- the step ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class StackedBatch:
    """The batches of S networks, stacked.

    Attributes:
        x: [T, B, S, I].
        y: [B, S] labels.
        target: targets of the loss, [B, S] labels or [B, S, K] probabilities.
        masks: dropout masks, [B, S, N], N the neurons of all hidden layers.
    """

    x: Tensor
    y: Tensor
    target: Tensor
    masks: Tensor


class _BatchedSteps:
    """Batched steps; on a GPU captured as CUDA graphs, again for each set of networks."""

    def __init__(self, precision: str, device: torch.device) -> None:
        self._precision, self._device = precision, device
        # networks, each with whether its delays are frozen, and their step
        self._built: tuple[list[tuple[Network, bool]], Step | None] = [], None

    def close(self) -> None:
        """Release the networks, which the frames of a run's exception may still reach."""
        self._built = [], None

    def take(self, runs: list[_BatchedRun]) -> list[StepResult | None]:
        """Take one step of all runs; [None] for a single run, which is faster on its own."""
        pending = [run.pending for run in runs if run.pending is not None]
        if len(pending) == 1:
            return [None]
        networks = [(step.network, step.network.frozen) for step in pending]
        if self._built[0] != networks:
            self._built = networks, self._build(pending)
        batches = [step.batch for step in pending]
        masks = [run.draw_masks() for run in runs]
        joint = StackedBatch(
            torch.stack([batch.x for batch in batches], 2),
            torch.stack([batch.y for batch in batches], 1),
            torch.stack([batch.target for batch in batches], 1),
            torch.stack(masks, 1),
        )
        step = self._built[1]
        assert step is not None
        return [*step(joint)]

    def _build(self, pending: Sequence[PendingStep]) -> Step:
        networks = [step.network for step in pending]
        optimizers = [step.optimizers for step in pending]
        compute: Step = functools.partial(
            compute_batched_gradients, networks, precision=self._precision
        )
        if self._device.type == "cuda":
            compute = CapturedStep(
                compute, [p for network in networks for p in network.parameters()]
            )

        def step(batch: StackedBatch) -> list[StepResult]:
            found = zip(networks, optimizers, compute(batch), strict=True)
            return [apply(*values) for values in found]

        return step


def compute_batched_gradients(
    networks: Sequence[Network], batch: StackedBatch, precision: str
) -> list[StepResult]:
    """``compute_gradients`` of several networks, by one pass forward and backward."""
    before = [statistics(network) for network in networks]
    for network in networks:
        network.zero_grad()
    with autocast(precision, batch.x.device):
        scores = batched.forward(networks, batch.x, batch.masks)
    every = functional.cross_entropy(
        scores.flatten(0, 1), batch.target.flatten(0, 1), reduction="none"
    )
    losses = every.view(batch.y.shape).mean(0)
    losses.sum().backward()
    correct = (scores.argmax(2) == batch.y).sum(0, dtype=losses.dtype)
    each = zip(networks, before, losses.detach(), correct, strict=True)
    return [finish(*values) for values in each]
