"""Matrix products by either BLAS."""

from __future__ import annotations

import pytest
import threadpoolctl
import torch

from snn_delays.ops import compiled, openblas, products

needs_openblas = pytest.mark.skipif(
    not compiled.available() or openblas._blas() is None, reason="SciPy's BLAS cannot be called"
)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def assert_near(ours: torch.Tensor, exact: torch.Tensor, tolerance=1e-6) -> None:
    assert (ours - exact).norm() <= tolerance * exact.norm()


@pytest.fixture(params=["torch", pytest.param("scipy", marks=needs_openblas)])
def blas(request, monkeypatch) -> None:
    monkeypatch.setattr(openblas, "preferred", lambda: request.param == "scipy")


@pytest.mark.usefixtures("blas")
@pytest.mark.parametrize(("n", "m", "k", "j"), [(1, 1, 1, 1), (5, 7, 33, 3), (3, 64, 1, 140)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (-1.0, 1.0), (0.5, 2.0)])
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
def test_batches(n, m, k, j, alpha, beta, transposed) -> None:
    a = draw(n, k, m).transpose(1, 2) if "a" in transposed else draw(n, m, k)
    b = draw(n, j, k).transpose(1, 2) if "b" in transposed else draw(n, k, j)
    out = torch.full((n, 2, m, j), torch.nan)[:, 1] if beta == 0 else draw(n, 2, m, j)[:, 1]
    exact = alpha * a.double() @ b.double() + (beta * out.double() if beta else 0)
    products.multiply(out, a, b, alpha, beta)
    assert_near(out, exact)


@pytest.mark.usefixtures("blas")
@pytest.mark.parametrize("columns", [1, 4096, 10_000])
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_wide_matrices(columns, beta) -> None:
    a, b = draw(11, 6).T, draw(11, columns)
    out = torch.full((6, columns), torch.nan) if beta == 0 else draw(6, columns)
    exact = a.double() @ b.double() + (out.double() if beta else 0)
    products.multiply_wide(out, a, b, beta)
    assert_near(out, exact)


def test_half_precision_rounds_the_product_alone() -> None:
    a, b, out = draw(4, 30, 20), draw(4, 20, 10), draw(4, 30, 10)
    exact = out.double() - a.double() @ b.double()
    products.multiply(out, a, b, -1, 1, half=True)
    assert_near(out, exact, 1e-2)


@needs_openblas
def test_the_threads_of_other_libraries_are_left_as_they_were() -> None:
    before = [library["num_threads"] for library in threadpoolctl.threadpool_info()]
    openblas.multiply(torch.empty(2, 3, 4), draw(2, 3, 5), draw(2, 5, 4))
    assert [library["num_threads"] for library in threadpoolctl.threadpool_info()] == before
