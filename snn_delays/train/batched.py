"""Runs of one network with several seeds, in lockstep: each step is one pass of all networks.

For GPUs that one network does not fill. A run is its own in all else: order of the data, random
state, optimisers, evaluation, folder. So it ends, up to rounding, as if it had trained alone.
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
from snn_delays.train.error_messages import explained
from snn_delays.train.loop import Training
from snn_delays.train.run import Run
from snn_delays.train.signals import StopSignal
from snn_delays.train.step import PendingStep, StepResult, apply, finish, statistics

Result = dict[str, Any]
Within = Callable[[], AbstractContextManager[object]]
Step = Callable[["JointBatch"], list[StepResult]]


def why_not_together(config: Config) -> str | None:
    """Why runs that differ in seed cannot train together, or None where they can."""
    if config.train.protocol == "paper":
        return "train.protocol=paper pads every batch to a length of its own"
    if config.tracking.name == "wandb":
        return "tracking=wandb follows one run at a time"
    return batched.why_not_together(build_network(config, 2))


def train_together(
    configs: Sequence[Config], within: Sequence[Within] | None = None
) -> list[Result | Exception]:
    """``train`` of several configurations that differ in seed and folder alone.

    Where some are behind, since they were stopped or are new, they catch up first. Where one fails,
    the others go on; a signal stops all after the same batch.

    Args:
        configs: the options of every run.
        within: of every run, makes the context in which it works, to catch what it prints.

    Returns:
        What ``train`` gives or raises, of every run.

    Raises:
        UserError: the networks cannot be trained together, or memory ran out.
    """
    if not configs:
        return []
    for config in configs:
        validate(config)
    first, device = configs[0], pick_device(configs[0].device)
    reason = why_not_together(first)
    if reason:
        raise UserError(f"Seeds of {first.name} cannot be trained at once: {reason}.")
    signal = StopSignal()  # as it was before the round: so that all stop after the same batch
    stop = contextlib.nullcontext(signal)
    within = within or [contextlib.nullcontext for _ in configs]
    runs = [
        _Member(Run(config, device, stop, len(configs)), device, context)
        for config, context in zip(configs, within, strict=True)
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
        with StopSignal() as heard, contextlib.closing(_Steps(first.precision, device)) as steps:
            while abreast := _last_ones(runs):
                signal.received = heard.received
                outcomes = steps.take(abreast)
                for run, outcome in zip(abreast, outcomes, strict=True):
                    run.go_on(outcome)
    return [run.end for run in runs]


class _Member:
    """A run that waits for the result of a step, or has ended.

    Args:
        run: the run, not yet entered.
        device: where it computes and draws random numbers.
        within: makes the context in which it works.

    Attributes:
        pending: the step that it waits for, or None at its end.
        end: its result, or what it raised.
    """

    def __init__(self, run: Run, device: torch.device, within: Within) -> None:
        self._run: Run | None = run  # until its end; its network and data go with it
        self._within = within
        self._device, self._random = device, _random_state(device)
        self._held = contextlib.ExitStack()
        self._training: Training | None = None
        self.pending: PendingStep | None = None
        self.end: Result | Exception = {}

    def begin(self) -> None:
        """Up to the first step."""
        self._work(self._enter)

    def go_on(self, outcome: StepResult | None) -> None:
        """Go to the next step; the outcome of this one is None where the run takes it itself."""
        self._work(functools.partial(self._add, outcome))

    def _work(self, first: Callable[[], None]) -> None:
        """Do the first thing, then go to the next step; an error is the run's end."""
        with self._within(), self._drawing():
            try:
                with explained():
                    first()
                    self.pending = self._next_step()
            except Exception as error:
                self._held.__exit__(type(error), error, error.__traceback__)
                self.pending = self._training = self._run = None
                self.end = _without_frames(error)

    def _enter(self) -> None:
        assert self._run is not None
        self._held.enter_context(self._run)
        self._training = self._run.next_training()

    def _add(self, outcome: StepResult | None) -> None:
        assert self.pending is not None
        assert self._training is not None
        self._training.add(outcome or self._training.step(self.pending.batch))

    def _next_step(self) -> PendingStep | None:
        """The next step of this training or of the next one; None: the run has its result."""
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
        """Dropout's, [B, N]."""
        assert self.pending is not None
        with self._drawing():
            return batched.draw_masks(self.pending.network, len(self.pending.batch.y))

    def close(self) -> None:
        """Let go of its folder, where something keeps it from its end."""
        self._held.close()

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        """Within it torch's random state is this run's."""
        torch.set_rng_state(self._random[0])
        if len(self._random) > 1:
            torch.cuda.set_rng_state(self._random[1])
        try:
            yield
        finally:
            self._random = _random_state(self._device)


def _without_frames(error: Exception) -> Exception:
    """An error that lets go of what its frames hold, a network and its data; their lines stay."""
    outermost = error.__traceback__  # is running, and cannot be cleared
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


def _last_ones(runs: Sequence[_Member]) -> list[_Member]:
    """The runs that are the furthest behind, at one place and with batches of one shape."""
    waiting = [(run, run.pending) for run in runs if run.pending is not None]
    if not waiting:
        return []

    def where(step: PendingStep) -> tuple[Any, ...]:
        return step.place, tuple(step.batch.x.shape), tuple(step.batch.target.shape)

    last = min(where(step) for _, step in waiting)
    return [run for run, step in waiting if where(step) == last]


# ---- the step ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class JointBatch:
    """A batch of every network.

    Attributes:
        x: [T, B, S, I].
        y: [B, S] labels.
        target: what the loss takes, [B, S] labels or [B, S, K] probabilities.
        masks: dropout's, [B, S, N], N the neurons of all hidden layers.
    """

    x: Tensor
    y: Tensor
    target: Tensor
    masks: Tensor


class _Steps:
    """Joint steps; on a GPU recorded as CUDA graphs, anew for each set of networks."""

    def __init__(self, precision: str, device: torch.device) -> None:
        self._precision, self._device = precision, device
        self._known: tuple[list[Network], Step | None] = [], None

    def close(self) -> None:
        """Let go of the networks: the frames of an error that a run ended with lead to this."""
        self._known = [], None

    def take(self, runs: list[_Member]) -> list[StepResult | None]:
        """One step of all; None for one that is alone, as it steps faster itself."""
        pending = [run.pending for run in runs if run.pending is not None]
        if len(pending) == 1:
            return [None]
        networks = [step.network for step in pending]
        if self._known[0] != networks:
            self._known = networks, self._build(pending)
        batches = [step.batch for step in pending]
        masks = [run.draw_masks() for run in runs]
        joint = JointBatch(
            torch.stack([batch.x for batch in batches], 2),
            torch.stack([batch.y for batch in batches], 1),
            torch.stack([batch.target for batch in batches], 1),
            torch.stack(masks, 1),
        )
        step = self._known[1]
        assert step is not None
        return [*step(joint)]

    def _build(self, pending: Sequence[PendingStep]) -> Step:
        networks = [step.network for step in pending]
        optimizers = [step.optimizers for step in pending]
        find: Step = functools.partial(find_joint_gradients, networks, precision=self._precision)
        if self._device.type == "cuda":
            find = CapturedStep(find, [p for network in networks for p in network.parameters()])

        def step(batch: JointBatch) -> list[StepResult]:
            found = zip(networks, optimizers, find(batch), strict=True)
            return [apply(*values) for values in found]

        return step


def find_joint_gradients(
    networks: Sequence[Network], batch: JointBatch, precision: str
) -> list[StepResult]:
    """``find_gradients`` of several networks, by one pass forward and back."""
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
    rights = (scores.argmax(2) == batch.y).sum(0, dtype=losses.dtype)
    of_each = zip(networks, before, losses.detach(), rights, strict=True)
    return [finish(*values) for values in of_each]
