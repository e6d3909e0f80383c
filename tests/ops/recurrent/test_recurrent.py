"""Recurrent neurons are the sum that defines them, whichever loop computes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor

from scripts.reference.recurrent import scheduled
from snn_delays.ops import recurrent
from snn_delays.ops.neurons import ADAPTIVE, LIF, PLIF, Cell
from snn_delays.ops.recurrent import DelayLines, plain
from snn_delays.ops.resets import RESETS
from snn_delays.ops.scan import plain as plain_scan
from snn_delays.ops.surrogates import SURROGATES
from snn_delays.runtime import numba_jit

needs_numba = pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
SOFT = Cell(LIF, (2.0,), alpha=1.0, reset=RESETS["soft", False], surrogate=SURROGATES["triangle"])
CELLS = {
    "lif": Cell(LIF, (1.5,)),
    "plif": Cell(PLIF),
    "soft and attached": SOFT,
    "adaptive": Cell(ADAPTIVE, reset=RESETS["soft", False], surrogate=SURROGATES["boxcar"]),
}
SIZES = [(1, 1, 5), (2, 3, 7), (63, 1, 20), (63, 19, 33)]  # a part of a tile, two tiles


@dataclass(frozen=True)
class Case:
    """A layer: cell, y, R, delays, widths (None: deployed), mask, states [S, B, N], parameters."""

    cell: Cell
    y: Tensor
    weight: Tensor
    delay: Tensor
    width: Tensor | None
    mask: Tensor
    state: Tensor
    own: tuple[Tensor, ...] = ()

    @classmethod
    def draw(cls, T: int, B: int, N: int, *, cell: Cell = CELLS["lif"], sigma: float = 3) -> Case:
        """With a neuron of delay 0 and one of a delay that is longer than the sequence."""
        g = torch.Generator().manual_seed(T * B * N)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=g, dtype=torch.float64)

        delay = 8 * uniform(N)
        delay[0], delay[1] = 0, T + 20
        own = tuple(uniform(N) for _ in range(cell.neuron.parameters))
        width = 1 + 2 * sigma * uniform(N) if sigma else None
        mask = (uniform(B, N) > 0.3) / 0.7
        y = 0.3 + 1.5 * normal(T, B, N)
        return cls(
            cell,
            y,
            normal(N, N) / N**0.5,
            delay,
            width,
            mask.double(),
            normal(cell.neuron.states, B, N),
            own,
        )


def fire(case: Case, compute=recurrent.scan) -> list[Tensor]:
    """Spikes, last membrane, and the gradients of all that has one."""
    parts = [case.y, case.weight, case.delay, case.width, case.state, *case.own]
    leaves = [None if a is None else a.clone().requires_grad_() for a in parts]
    y, weight, delay, width, state, *own = leaves
    lines = DelayLines(delay, width)
    spikes, states = compute(y, case.cell, lines, weight, case.mask, state.unbind(), own)
    last = torch.stack(tuple(states))
    g = torch.Generator().manual_seed(1)
    pull = torch.randn(spikes.shape, generator=g, dtype=torch.float64)
    sum_ = (spikes * pull).sum() + (last * pull[0]).sum()
    wanted = [a for a in leaves if a is not None]
    return [
        spikes,
        last,
        *torch.autograd.grad(sum_, wanted, allow_unused=True, materialize_grads=True),
    ]


def by_register(y, cell, lines, weight, mask, states, own):
    spikes, history = plain.scan(cell, y, lines, weight, mask, states, own)
    return spikes, history[-1]


def triangle(j: int, lines: DelayLines) -> Tensor:
    """``h_j`` as the paper writes it."""
    if lines.width is None:
        return (j == 1 + lines.delay.round()).double()
    return torch.relu(lines.width - (j - (1 + lines.delay)).abs()) / lines.width**2


def by_sums(y, cell, lines, weight, mask, states, own):
    """Step by step, each current the sum over all earlier spikes."""
    spikes: list[Tensor] = []
    for t, current in enumerate(y):
        for j in range(1, t + 1):
            current = current + mask * ((triangle(j, lines) * spikes[t - j]) @ weight.T)
        out, states = plain_scan.scan(cell, current[None], states, own)
        spikes.append(out[0])
    return torch.stack(spikes), states


def by_schedule(y, cell, lines, weight, mask, states, own):
    """Each spike adds to the current of the steps in which it will arrive."""
    kept = [states]

    def step(x: Tensor) -> Tensor:
        out, kept[0] = plain_scan.scan(cell, x[None], kept[0], own)
        return out[0]

    if lines.width is None:
        lines = DelayLines(lines.delay.round(), torch.ones_like(lines.delay))
    spikes = scheduled(y, weight, lines.delay, lines.width, mask, step)
    return spikes, kept[0]


def assert_equal(ours: list[Tensor], expected: list[Tensor]) -> None:
    assert torch.equal(ours[0], expected[0])
    torch.testing.assert_close(ours[1], expected[1], rtol=0, atol=1e-10)
    for a, b in zip(ours[2:], expected[2:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("compute", [by_register, by_schedule])
@pytest.mark.parametrize("sigma", [3, 0])
@pytest.mark.parametrize(("T", "B", "N"), [(1, 1, 5), (2, 3, 7), (17, 1, 20)])
def test_a_register_and_a_schedule_are_the_sum(T, B, N, sigma, compute) -> None:
    case = Case.draw(T, B, N, sigma=sigma)
    ours, expected = fire(case, compute), fire(case, by_sums)
    if not sigma:  # a triangle of one step has a slope, and the deployed tap has none
        ours[4] = expected[4]
    assert_equal(ours, expected)


@needs_numba
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("sigma", [3, 0])
@pytest.mark.parametrize(("T", "B", "N"), SIZES)
def test_the_compiled_loop_is_the_register(T, B, N, sigma, kind) -> None:
    case = Case.draw(T, B, N, sigma=sigma, cell=CELLS[kind])
    expected = fire(case, by_register)
    assert T < 10 or 0.05 < expected[0].mean() < 0.5
    assert_equal(fire(case), expected)


@needs_numba
def test_single_precision_stays_near_double() -> None:
    case = Case.draw(20, 19, 33)
    names = ("y", "weight", "delay", "width", "mask", "state")
    single = replace(case, **{name: getattr(case, name).float() for name in names})
    for a, b in zip(fire(single), fire(case), strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm()


@needs_numba
def test_memory_order_does_not_matter() -> None:
    case = Case.draw(20, 3, 7)
    turned = replace(
        case,
        y=case.y.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        weight=case.weight.T.clone().T,
    )
    for a, b in zip(fire(turned), fire(case), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@needs_numba
def test_delays_beyond_the_sequence_are_no_recurrence() -> None:
    case = Case.draw(12, 3, 7, sigma=0)
    case = replace(case, delay=torch.full((7,), 12.0).double())
    spikes, last, g_y, g_weight, *_ = fire(case)
    state, y = case.state[0].clone().requires_grad_(), case.y.clone().requires_grad_()
    alone, (v,) = plain_scan.scan(case.cell, y, (state,))
    assert torch.equal(spikes, alone)
    assert torch.equal(last, v[None])
    assert not g_weight.any()
    assert g_y.any()


@needs_numba
def test_no_delay_is_spikingjellys_recurrent_container() -> None:
    case = replace(Case.draw(30, 3, 7), delay=torch.zeros(7).double(), width=torch.ones(7).double())
    case = replace(case, mask=torch.ones_like(case.mask), state=torch.zeros_like(case.state))
    node = neuron.LIFNode(
        tau=1.5, decay_input=False, detach_reset=True, surrogate_function=surrogate.ATan(alpha=5.0)
    )
    theirs = layer.LinearRecurrentContainer(node, 7, 7, bias=False).double()
    theirs.rc.weight.data = torch.cat((torch.eye(7).double(), case.weight), 1)
    node.v, theirs.y = torch.zeros(3, 7).double(), torch.zeros(3, 7).double()
    y = case.y.clone().requires_grad_()
    spikes = torch.stack([theirs(current) for current in y])
    ours = fire(replace(case, own=()))
    assert torch.equal(ours[0], spikes)
    g = torch.Generator().manual_seed(1)
    pull = torch.randn(spikes.shape, generator=g, dtype=torch.float64)
    grads = torch.autograd.grad(
        (spikes * pull).sum() + (node.v * pull[0]).sum(), (y, theirs.rc.weight)
    )
    torch.testing.assert_close(ours[2], grads[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours[3], grads[1][:, 7:], rtol=1e-9, atol=1e-9)


@needs_numba
def test_a_triangular_weight_is_a_stack_of_delayed_layers() -> None:
    """Groups of neurons of which each hears the one before it."""
    case = Case.draw(40, 3, 12, sigma=0)
    groups = [slice(0, 4), slice(4, 8), slice(8, 12)]
    weight = torch.zeros(12, 12).double()
    for early, late in zip(groups, groups[1:], strict=False):
        weight[late, early] = 2 * case.weight[late, early]
    case = replace(case, weight=weight, delay=case.delay.clamp(max=9))
    spikes, arriving = [], torch.zeros(40, 3, 4).double()
    for number, group in enumerate(groups):
        y = case.y[..., group] + case.mask[:, group] * arriving
        out, _ = plain_scan.scan(case.cell, y, (case.state[0][:, group],))
        spikes.append(out)
        if number < 2:
            shifted = torch.zeros_like(out)
            for n in range(4):
                steps = 1 + int(case.delay[group][n].round())
                shifted[steps:, :, n] = out[:-steps, :, n]
            arriving = shifted @ weight[groups[number + 1], group].T
    assert torch.equal(fire(case)[0], torch.cat(spikes, 2))


def test_the_table_of_taps_leaves_none_out() -> None:
    delay = torch.tensor([0.0, 0.4, 3.0, 7.5, 30.0, 55.5]).double()
    j = torch.arange(1, 20)
    for width in (torch.tensor(1.0), torch.tensor(11.0), torch.linspace(1, 21, 6), None):
        lines = DelayLines(delay, None if width is None else width.double())
        first, taps = lines.table(20)
        whole = torch.zeros(6, 19).double()
        for n in range(6):
            for k in range(taps.shape[1]):
                if first[n] + k < 20:
                    whole[n, first[n] + k - 1] = taps[n, k]
        expected = torch.stack([triangle(int(step), lines).expand(6) for step in j], 1)
        torch.testing.assert_close(whole, expected, rtol=1e-12, atol=1e-12)


def test_a_triangle_that_begins_before_the_first_step_loses_what_lies_there() -> None:
    lines = DelayLines(torch.tensor([0.0, 40.0]).double(), torch.tensor(11.0).double())
    assert lines.taps(torch.arange(1, 100)[:, None]).sum(0).tolist() == pytest.approx([6 / 11, 1])


@pytest.mark.parametrize("scope", ["scalar", "each"])
def test_gradients_of_the_taps_pass_gradcheck(scope) -> None:
    """Away from the corners of the triangle."""
    delay = torch.tensor([0.3, 2.4, 1.7]).double().requires_grad_()
    width = torch.tensor(1.65 if scope == "scalar" else [1.6, 2.3, 1.2]).double().requires_grad_()
    j = torch.arange(1, 9)[:, None]
    assert torch.autograd.gradcheck(lambda d, w: DelayLines(d, w).taps(j), (delay, width))


def test_without_numba_the_register_serves(monkeypatch) -> None:
    case = Case.draw(9, 3, 7)
    expected = fire(case, by_register)
    monkeypatch.setattr(numba_jit, "why_not", lambda: "no")
    monkeypatch.setattr(recurrent._Scan, "apply", None)
    assert_equal(fire(case), expected)


@needs_numba
def test_nothing_is_read_that_was_not_written(monkeypatch) -> None:
    """Memory comes filled with NaN."""
    case = Case.draw(20, 3, 7)
    expected = fire(case)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda x, *s: x.new_full(_flat(s), torch.nan))
    monkeypatch.setattr(torch, "empty_like", lambda x: torch.full_like(x, torch.nan))
    for a, b in zip(fire(case), expected, strict=True):
        assert torch.equal(a, b)


def _flat(sizes):
    return sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes


@needs_numba
def test_batches_of_several_threads_are_those_of_one() -> None:
    case, found = Case.draw(11, 40, 9), []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(fire(case))
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
