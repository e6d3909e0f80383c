"""Several processes that train one network, in step; the first writes, and speaks for all.

torchrun starts them. Each has the whole network and a part of every batch, and gradients are added
up after backward, in one vector that carries loss and right answers along: a sum that is not finite
is so in all processes, and all act alike. torch's DistributedDataParallel adds up while backward
runs, which is worth little for the few MB of these networks; it wraps the network, and averages
where parts of unequal size ask for a sum.

Before training, processes ask one another whether they are well. In the midst of it a process that
fails just ends; the others find their connection gone, or torchrun ends them.
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
from snn_delays.train.signals import ending_at_once

T = TypeVar("T")

GONE = "Another process of this training ended; resume=auto goes on from the last checkpoint."
MEETING = datetime.timedelta(minutes=10)  # for all to be started
PATIENCE = 5  # seconds after which a process says that it waits
WAIT = datetime.timedelta(hours=24)  # for the first process, which may have frames to make


def is_first() -> bool:
    """Whether this is the process that writes, or the only one."""
    return rank() == 0


@contextlib.contextmanager
def group(device: torch.device, options: str) -> Iterator[None]:
    """Within it, this process is one of those that torchrun started; without torchrun, alone.

    Sums travel by gloo between CPUs, and by NCCL between GPUs, one to a process. All but the first
    are silent, unless they fail.

    Args:
        device: where this process computes.
        options: a digest of what it was asked for.

    Raises:
        UserError: the processes differ in these.
        OtherRankFailed: another process says it.
    """
    here = process_info()
    if here.world_size == 1:
        yield
        return
    _meet(here, "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        with _failing_in(here), _silent(not here.is_first):
            _check_alike(f"{device.type} {options}")
            yield
    finally:
        dist.destroy_process_group()


def _meet(here: ProcessInfo, backend: str) -> None:
    """Wait until all processes are there."""
    where = meeting_point()
    minutes = MEETING.total_seconds() / 60
    line = (
        f"{str(here).capitalize()} waits at {where} for the others, {minutes:.3g} minutes at most."
    )
    patience = threading.Timer(PATIENCE, print, [line], {"file": sys.stderr, "flush": True})
    patience.start()
    try:
        with ending_at_once():
            store, *_ = next(dist.rendezvous("env://", timeout=MEETING))
            store.set_timeout(WAIT)
            store = dist.PrefixStore("snn_delays", store)  # torchrun's has keys of its own
            dist.init_process_group(
                backend, store=store, rank=here.rank, world_size=here.world_size, timeout=WAIT
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"{str(here).capitalize()} has not met the others at {where}"
            f" ({str(error).splitlines()[0]}): start all {here.world_size} within"
            f" {minutes:.3g} minutes, with the same MASTER_ADDR and a free MASTER_PORT, or {ALONE}."
        ) from error
    finally:
        patience.cancel()


def _check_alike(mine: str) -> None:
    """A search, whose sampler draws in each process, would train another network in each."""
    if len(set(gather_interleaved([mine]))) > 1:
        sentence = (
            "The processes have other options than one another, or some no GPU: give all the same"
            " command line on machines that are alike; a search takes one process."
        )
        raise said_once(UserError(sentence))


@contextlib.contextmanager
def _failing_in(here: ProcessInfo) -> Iterator[None]:
    """Errors say which process they are of; that another one is gone is no error of this one's."""
    try:
        yield
    except (OtherRankFailed, Interrupted):
        raise
    except UserError as error:
        if here.is_first:
            raise
        raise UserError(f"{here}: {error}") from error
    except Exception as error:
        if _is_lost(error):
            raise said_once(UserError(GONE)) from error
        error.add_note(f"This was {here}.")
        raise


def _is_lost(error: Exception) -> bool:
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


# ---- in step -----------------------------------------------------------------------------------


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` gives in the first process, in all of them.

    Raises:
        OtherRankFailed: it failed there.
    """
    made, error = _tried(make) if is_first() else (None, None)
    _refuse(error)
    if world_size() == 1:
        return made  # type: ignore[return-value]
    carried = [made]
    with ending_at_once():
        dist.broadcast_object_list(carried)
    return carried[0]  # type: ignore[return-value]


def first_then_others(make: Callable[[], T]) -> T:
    """``make`` in the first process, which may make files for all, and then in the others.

    Raises:
        OtherRankFailed: it failed in another process.
    """
    made: T | None = None
    for turn in (is_first(), not is_first()):
        error = None
        if turn:
            made, error = _tried(make)
        _refuse(error)
    return made  # type: ignore[return-value]


def _tried(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return make(), None
    except Exception as error:
        if world_size() == 1:
            raise
        return None, error


def said_once(error: UserError) -> UserError:
    """An error that all processes have, as this one is to raise it: the first says it."""
    return error if is_first() else OtherRankFailed(str(error))


def _refuse(error: Exception | None) -> None:
    """Where one process has an error, end all; the first that has one says it."""
    if world_size() == 1:  # it has raised its own
        return
    with ending_at_once():
        failed = gather_interleaved([error is not None])
    if not any(failed):
        return
    if error is not None and failed.index(True) == rank():
        raise error
    raise OtherRankFailed("Another process of this training failed.")


def agreed(late: bool, received: int | None) -> tuple[bool, int | None]:
    """Whether it is late by the first process's clock, and the signal that any has received.

    So that all save, and stop, after the same batch.
    """
    if world_size() == 1:
        return late, received
    numbers = torch.tensor([late and is_first(), received or 0])
    dist.all_reduce(numbers, dist.ReduceOp.MAX)
    late_there, signal = numbers.tolist()
    return bool(late_there), signal or None


# ---- gradients ---------------------------------------------------------------------------------


@torch.no_grad()
def add_up(network: nn.Module, batch: Batch, loss: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Add up over all processes what each has of a batch; gradients in place.

    Args:
        network: where backward has run, of ``batch.share`` times the loss.
        batch: this process's part.
        loss: mean over the part.
        right: number of right answers in the part.

    Returns:
        Mean loss and number of right answers over the whole batch.
    """
    if world_size() == 1:
        return loss, right
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    means = batch.share * torch.stack([loss, right / len(batch.y)])
    flat = torch.cat([*(g.flatten() for g in gradients), means.to(gradients[0].dtype)])
    dist.all_reduce(flat)
    *sums, means = flat.split([*(g.numel() for g in gradients), len(means)])
    for gradient, total in zip(gradients, sums, strict=True):
        gradient.copy_(total.view_as(gradient))
    return means[0], (means[1] * len(batch.numbers)).round()
