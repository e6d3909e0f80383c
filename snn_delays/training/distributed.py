"""Distributed training: several ranks train one network; the first rank writes and prints.

torchrun starts the ranks. Each has the whole network and a part of every batch. Gradients are
summed after backward, in one vector that also carries the loss and the number of correct answers:
a sum that is not finite is so on all ranks, and all act alike. torch's DistributedDataParallel sums
while backward runs, which gains little for the few MB of these networks; it also wraps the network,
and averages where parts of unequal size need a sum.

Before training, the ranks tell one another of errors. A rank that fails during training just ends;
the others then lose their connection, or torchrun ends them.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from snn_delays.data.loaders import Batch
from snn_delays.errors import Interrupted, OtherRankFailed, UserError
from snn_delays.runtime.distributed import (
    ALONE,
    ProcessInfo,
    gather_interleaved,
    meeting_point,
    process_info,
    rank,
    world_size,
)
from snn_delays.training.signals import default_signals

T = TypeVar("T")

RANK_LOST = "Another process of this training ended; resume=auto goes on from the last checkpoint."
RENDEZVOUS_LIMIT = datetime.timedelta(minutes=10)  # until all ranks are started
WAIT_NOTICE = 5  # seconds until a waiting rank prints that it waits
COLLECTIVE_LIMIT = datetime.timedelta(hours=24)  # the first rank may have frames to make


def is_first() -> bool:
    """Whether this is the first rank, which writes, or the only one."""
    return rank() == 0


@contextlib.contextmanager
def process_group(device: torch.device, options: str) -> Iterator[None]:
    """A context in which the processes that torchrun started are one group; else nothing changes.

    Sums use gloo between CPUs, and NCCL between GPUs (one GPU per rank). Only the first rank
    prints, unless another one fails.

    Args:
        device: device of this rank.
        options: digest of this rank's options.

    Raises:
        UserError: the ranks differ in device or options.
        OtherRankFailed: the same, on ranks other than the first.
    """
    here = process_info()
    if here.world_size == 1:
        yield
        return
    _rendezvous(here, "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        with _naming_rank(here), _silent(not here.is_first):
            _check_same_options(f"{device.type} {options}")
            yield
    finally:
        dist.destroy_process_group()


def _rendezvous(here: ProcessInfo, backend: str) -> None:
    """Wait until all ranks have started, and connect to them."""
    where = meeting_point()
    minutes = RENDEZVOUS_LIMIT.total_seconds() / 60
    line = (
        f"{str(here).capitalize()} waits at {where} for the others, {minutes:.3g} minutes at most."
    )
    patience = threading.Timer(WAIT_NOTICE, print, [line], {"file": sys.stderr, "flush": True})
    patience.start()
    try:
        with default_signals():
            store, *_ = next(dist.rendezvous("env://", timeout=RENDEZVOUS_LIMIT))
            store.set_timeout(COLLECTIVE_LIMIT)
            store = dist.PrefixStore("snn_delays", store)  # torchrun uses other keys of this store
            dist.init_process_group(
                backend,
                store=store,
                rank=here.rank,
                world_size=here.world_size,
                timeout=COLLECTIVE_LIMIT,
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"{str(here).capitalize()} has not met the others at {where}"
            f" ({str(error).splitlines()[0]}): start all {here.world_size} within"
            f" {minutes:.3g} minutes, with the same MASTER_ADDR and a free MASTER_PORT, or {ALONE}."
        ) from error
    finally:
        patience.cancel()


def _check_same_options(mine: str) -> None:
    """Refuse ranks with different options."""
    if len(set(gather_interleaved([mine]))) > 1:
        sentence = (
            "The processes differ in their options, or only some have a GPU: give all the same"
            " command line on machines that are alike."
        )
        raise reported_once(UserError(sentence))


@contextlib.contextmanager
def _naming_rank(here: ProcessInfo) -> Iterator[None]:
    """A context whose errors name this rank; a lost connection becomes an error of all ranks."""
    try:
        yield
    except (OtherRankFailed, Interrupted):
        raise
    except UserError as error:
        if here.is_first:
            raise
        raise UserError(f"{here}: {error}") from error
    except Exception as error:
        if _is_lost_connection(error):
            raise reported_once(UserError(RANK_LOST)) from error
        error.add_note(f"This was {here}.")
        raise


def _is_lost_connection(error: Exception) -> bool:
    words = ("connection closed", "connection reset", "broken pipe", "connection refused")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


@contextlib.contextmanager
def _silent(on: bool) -> Iterator[None]:
    if not on:
        yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as nothing,
            contextlib.redirect_stdout(nothing),
            contextlib.redirect_stderr(nothing),
        ):
            yield
    finally:
        logging.disable(before)


# ---- the same on all ranks ---------------------------------------------------------------------


def broadcast_from_first(make: Callable[[], T]) -> T:
    """Call ``make`` on the first rank and return its result on all ranks.

    Raises:
        OtherRankFailed: ``make`` raised an error on the first rank.
    """
    made, error = _attempt(make) if is_first() else (None, None)
    _raise_if_any(error)
    if world_size() == 1:
        return made  # type: ignore[return-value]
    carried = [made]
    with default_signals():
        dist.broadcast_object_list(carried)
    return carried[0]  # type: ignore[return-value]


def first_then_others(make: Callable[[], T]) -> T:
    """Call ``make`` on the first rank, which may write files for all, and then on the others.

    Raises:
        OtherRankFailed: ``make`` raised an error on another rank.
    """
    made: T | None = None
    for now in (is_first(), not is_first()):
        error = None
        if now:
            made, error = _attempt(make)
        _raise_if_any(error)
    return made  # type: ignore[return-value]


def _attempt(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return make(), None
    except Exception as error:
        if world_size() == 1:
            raise
        return None, error


def reported_once(error: UserError) -> UserError:
    """An error that occurs on all ranks, in a form that only the first rank prints."""
    return error if is_first() else OtherRankFailed(str(error))


def _raise_if_any(error: Exception | None) -> None:
    """If any rank has an error, raise one on all ranks; the lowest such rank raises its own."""
    if world_size() == 1:  # its error was raised already
        return
    with default_signals():
        failed = gather_interleaved([error is not None])
    if not any(failed):
        return
    if error is not None and failed.index(True) == rank():
        raise error
    raise OtherRankFailed("Another process of this training failed.")


def agree_on_stop(late: bool, received: int | None) -> tuple[bool, int | None]:
    """Whether a checkpoint is due by the first rank's clock, and a signal that any rank received.

    All ranks get the same answer, so all save and stop after the same batch.
    """
    if world_size() == 1:
        return late, received
    numbers = torch.tensor([late and is_first(), received or 0])
    dist.all_reduce(numbers, dist.ReduceOp.MAX)
    late_there, signal = numbers.tolist()
    return bool(late_there), signal or None


# ---- gradients ---------------------------------------------------------------------------------


@torch.no_grad()
def all_reduce_step(
    network: nn.Module, batch: Batch, loss: Tensor, correct: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum gradients (in place), losses and correct answers or squared errors over all ranks.

    Args:
        network: after backward of ``batch.loss_weight`` times the loss.
        batch: this rank's part.
        loss: mean over this rank's part.
        correct: of this rank's part, see ``StepResult.values``.

    Returns:
        Mean loss, and ``correct`` of the whole batch.
    """
    if world_size() == 1:
        return loss, correct
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    means = batch.loss_weight * torch.stack([loss, correct / len(batch.y)])
    flat = torch.cat([*(g.flatten() for g in gradients), means.to(gradients[0].dtype)])
    dist.all_reduce(flat)
    *sums, means = flat.split([*(g.numel() for g in gradients), len(means)])
    for gradient, total in zip(gradients, sums, strict=True):
        gradient.copy_(total.view_as(gradient))
    total = means[1] * len(batch.indices)
    return means[0], total if batch.per_step else total.round()
