"""Adam in pieces is torch's."""

from __future__ import annotations

import importlib

import pytest
import torch

from snn_delays.training import adam

torchs = importlib.import_module("torch.optim.adam")  # where torch.optim hides the module


def trained(make, shapes, device, check=None):
    g = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s, generator=g).to(device)) for s in shapes]
    optimizer = make(params, lr=1e-2, weight_decay=1e-2, fused=True)
    for number in range(5):
        for p in params:
            p.grad = torch.randn(p.shape, generator=g).to(device)
        if number == 2:
            params[-1].grad = None
        optimizer.found_inf = torch.tensor(float(number == 3), device=device)
        optimizer.step()
    state = [value for p in params for value in optimizer.state[p].values()]
    assert [s.shape for s in state[:3]] == [(), shapes[0], shapes[0]]
    return [*params, *state]


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu(kernels=False))]
)
@pytest.mark.parametrize("most", [4096, 64])
def test_pieces_change_nothing(device, most, monkeypatch) -> None:
    shapes = [(7, 5, 1), (140, 60), (300,), (50, 41)]
    theirs = trained(torch.optim.Adam, shapes, device)
    sizes = []

    def watched(params, *others, real=torchs.adam, **options):
        sizes.extend(p.numel() for p in params)
        real(params, *others, **options)

    monkeypatch.setattr(adam, "SMALLEST", most)
    monkeypatch.setattr(torchs, "adam", watched)
    whole = trained(adam.Adam, shapes, device)
    sizes.clear()
    ours = trained(adam.AdamInPieces, shapes, device)
    assert len(sizes) > 5 * len(shapes)
    assert len(sizes) / 5 <= 36
    for mine in (ours, whole):
        for one, other in zip(mine, theirs, strict=True):
            assert torch.equal(one, other)
