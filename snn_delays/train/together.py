"""Runs of one network with several seeds, in lockstep: each step is one pass of all networks.

For GPUs that one network does not fill. A run is its own in all else: order of the data, random
state, optimisers, evaluation, folder. So it ends, up to rounding, as if it had trained alone.
"""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snn_delays.config import Config, validate
from snn_delays.device import autocast, deterministic, pick_device, tensor_cores
from snn_delays.errors import UserError
from snn_delays.nn import Network, build_network, together
from snn_delays.ops.recorded import Recorded
from snn_delays.train.faults import explained
from snn_delays.train.run import turns
from snn_delays.train.signals import StopSignal
from snn_delays.train.step import Outcome, Turn, Turns, move, settle, statistics

Result = dict[str, Any]
Within = Callable[[], AbstractContextManager[object]]
Step = Callable[["JointBatch"], list[Outcome]]


def why_not_together(config: Config) -> str | None:
    """Why runs that differ in seed cannot train together, or None where they can."""
    if config.train.protocol == "paper":
        return "train.protocol=paper pads every batch to a length of its own"
    if config.tracking.name == "wandb":
        return "tracking=wandb follows one run at a time"
    return together.why_not_together(build_network(config, 2))


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
        _Run(turns(config, device, stop, len(configs)), device, context)
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
            run.go_on(None)
        with StopSignal() as heard:
            steps = _Steps(first.precision, device)
            while abreast := _last_ones(runs):
                signal.received = heard.received
                outcomes = steps.take(abreast)
                for run, outcome in zip(abreast, outcomes, strict=True):
                    run.go_on(outcome)
    return [run.end for run in runs]


class _Run:
    """One of the runs, waiting at its turn, or at its end.

    Args:
        turns: of its training.
        device: where it draws.
        within: makes the context in which it works.

    Attributes:
        turn: what it waits at, or None at its end.
        end: its result, or what it raised.
    """

    def __init__(self, turns: Turns[Result], device: torch.device, within: Within) -> None:
        self._turns, self._within = turns, within
        self._device, self._random = device, _random_state(device)
        self.turn: Turn | None = None
        self.end: Result | Exception = {}

    def go_on(self, outcome: Outcome | None) -> None:
        """To its next turn, with the outcome of this one, or None: it takes the step itself."""
        turn = None
        with self._within(), self._drawing():
            try:
                with explained():
                    turn = self._turns.send(outcome)
            except StopIteration as stop:
                self.end = stop.value
            except Exception as error:
                self.end = _without_frames(error)
        self.turn = turn

    def draw_masks(self) -> Tensor:
        """Dropout's, [B, N]."""
        assert self.turn is not None
        with self._drawing():
            return together.draw_masks(self.turn.network, len(self.turn.batch.y))

    def close(self) -> None:
        """Let go of its folder, where something keeps it from its end."""
        self._turns.close()

    @contextlib.contextmanager
    def _drawing(self) -> Any:
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


def _last_ones(runs: Sequence[_Run]) -> list[_Run]:
    """The runs that are the furthest behind, at one place and with batches of one shape."""
    waiting = [(run, run.turn) for run in runs if run.turn is not None]
    if not waiting:
        return []

    def where(turn: Turn) -> tuple[Any, ...]:
        return turn.place, tuple(turn.batch.x.shape), tuple(turn.batch.target.shape)

    last = min(where(turn) for _, turn in waiting)
    return [run for run, turn in waiting if where(turn) == last]


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

    def take(self, runs: list[_Run]) -> list[Outcome | None]:
        """One step of all; None for one that is alone, as it steps faster itself."""
        turns = [run.turn for run in runs if run.turn is not None]
        if len(turns) == 1:
            return [None]
        networks = [turn.network for turn in turns]
        if self._known[0] != networks:
            self._known = networks, self._build(turns)
        batches = [turn.batch for turn in turns]
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

    def _build(self, turns: Sequence[Turn]) -> Step:
        networks = [turn.network for turn in turns]
        optimizers = [turn.optimizers for turn in turns]
        find: Step = functools.partial(find_joint_gradients, networks, precision=self._precision)
        if self._device.type == "cuda":
            find = Recorded(find, [p for network in networks for p in network.parameters()])

        def step(batch: JointBatch) -> list[Outcome]:
            found = zip(networks, optimizers, find(batch), strict=True)
            return [move(*values) for values in found]

        return step


def find_joint_gradients(
    networks: Sequence[Network], batch: JointBatch, precision: str
) -> list[Outcome]:
    """``find_gradients`` of several networks, by one pass forward and back."""
    before = [statistics(network) for network in networks]
    for network in networks:
        network.zero_grad()
    with autocast(precision, batch.x.device):
        scores = together.forward(networks, batch.x, batch.masks)
    every = functional.cross_entropy(
        scores.flatten(0, 1), batch.target.flatten(0, 1), reduction="none"
    )
    losses = every.view(batch.y.shape).mean(0)
    losses.sum().backward()
    rights = (scores.argmax(2) == batch.y).sum(0)
    of_each = zip(networks, before, losses.detach(), rights, strict=True)
    return [settle(*values) for values in of_each]
