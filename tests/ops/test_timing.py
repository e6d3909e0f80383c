"""The backend that the clock chooses, with implementations made slow or too large."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from snn_delays.ops import maps as maps
from snn_delays.ops.maps import timing
from tests.ops.synapses import synapses
from tests.ops.test_delay import case


def fastest(taps=5, steps=6):
    x, weight, delay = case(steps, 2, 3, 4, taps, 1)
    learned = synapses(weight.requires_grad_(), delay.requires_grad_(), 1.3, taps)
    return timing.fastest_backend(x, learned)


@pytest.fixture
def change(monkeypatch):
    """Have a backend do something before it runs; gives the names of those that ran."""
    ran = []

    def change(name, first) -> None:
        real = maps.BACKENDS[name].run

        def run(*arguments):
            ran.append(name)
            first()
            return real(*arguments)

        monkeypatch.setitem(maps.BACKENDS, name, replace(maps.BACKENDS[name], run=run))

    change.ran = ran
    return change


def no_memory() -> None:
    raise torch.OutOfMemoryError("too large")


def no_memory_for_cufft() -> None:
    raise RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED")


def broken() -> None:
    raise RuntimeError("an illegal instruction")


def nothing() -> None:
    pass


@pytest.mark.parametrize("quick", ["dense", "matmul", "fft"])
def test_the_quickest_is_chosen(change, quick, monkeypatch) -> None:
    now = [0.0]

    def last(seconds) -> None:
        now[0] += seconds

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    for name in ("dense", "matmul", "fft"):
        change(name, partial(last, 1.0 if name == quick else 1.1))
    assert fastest() == quick
    assert len(change.ran) == 3 * (timing.ROUNDS + 1) * timing.CALLS


def test_what_does_not_fit_is_left_out(change) -> None:
    change("dense", no_memory)
    change("matmul", nothing)
    change("fft", no_memory_for_cufft)
    assert fastest() == "matmul"
    assert change.ran.count("dense") == change.ran.count("fft") == 1
    change("matmul", no_memory)
    with pytest.raises(torch.OutOfMemoryError, match="no memory for a layer"):
        fastest()
    change("dense", broken)
    with pytest.raises(RuntimeError, match="illegal"):
        fastest()


def test_only_what_serves_is_tried(change) -> None:
    for name in ("dense", "matmul", "fft"):
        change(name, nothing)
    assert fastest(taps=1) == "dense"
    with torch.autocast("cpu", torch.bfloat16):
        fastest()
    assert set(change.ran) == {"dense", "matmul"}
    change.ran.clear()
    fastest(steps=2 * maps.matmul.MATRIX_LENGTH)
    assert set(change.ran) == {"dense", "fft"}


def test_gradients_are_taken_as_in_training() -> None:
    inside = []
    x = torch.ones(6, 2, 3)
    weight = torch.ones(4, 3, 1, requires_grad=True)
    weight.register_hook(lambda g: inside.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        timing.fastest_backend(x, synapses(weight, torch.ones(4, 3, 1), 1.3, 5))
    assert inside == [False] * len(inside)
    assert inside


def test_gradients_and_random_state_stay_as_they_are() -> None:
    before = torch.get_rng_state()
    x, weight, delay = case(6, 2, 3, 4, 5, 1)
    leaves = [tensor.requires_grad_() for tensor in (x, weight, delay)]
    timing.fastest_backend(x, synapses(weight, delay, 1.3, 5), extra_steps=2)
    assert all(leaf.grad is None for leaf in leaves)
    assert torch.equal(before, torch.get_rng_state())
