"""Compiled loops where things are not as usual: no numba, no cache, forks, threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_delays.config import Config
from snn_delays.nn import Network, build_network
from snn_delays.runtime import numba_jit
from snn_delays.runtime.specialise import specialise

needs_numba = pytest.mark.skipif(not numba_jit.available(), reason="numba is not installed")
ROOT = Path(__file__).parents[2]

SCAN = """
from snn_delays.ops.neurons import LIF, Cell
from snn_delays.ops.scan import scan
import torch
print(scan(torch.full((3, 1, 2), 0.6), Cell(LIF, (2.0,)))[0].sum().item())
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def network(backend="numba") -> Network:
    config = Config(backend=backend)
    config.data.units, config.data.units_per_channel = 14, 1
    config.model.hidden, config.model.taps, config.model.dropout = [20], 9, 0.0
    torch.manual_seed(0)
    return build_network(config, 4)


def gradient(seed: int, ours: Network | None = None) -> torch.Tensor:
    ours = ours or network()
    x = torch.rand(40, 5, 14, generator=torch.Generator().manual_seed(seed))
    ours(x).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in ours.parameters()])


@needs_numba
@pytest.mark.slow
def test_first_compilation_is_announced_and_kept(tmp_path) -> None:
    first = run(SCAN, NUMBA_CACHE_DIR=str(tmp_path))
    assert first.stdout == "2.0\n", first.stderr
    assert "Compiling the fast kernels" in first.stderr
    second = run(SCAN, NUMBA_CACHE_DIR=str(tmp_path))
    assert second.stdout == "2.0\n"
    assert "Compiling" not in second.stderr


@needs_numba
def test_nowhere_to_keep_compiled_code() -> None:
    result = run(SCAN, NUMBA_CACHE_DIR=os.devnull)
    assert result.stdout == "2.0\n", result.stderr


def test_everything_works_without_numba() -> None:
    code = """
import sys
sys.modules["numba"] = None
import torch
from tests.runtime.test_numba_jit import network
from snn_delays.runtime import numba_jit
assert numba_jit.why_not().startswith("numba is not installed")
ours = network("auto")
x = torch.rand(40, 5, 14, generator=torch.Generator().manual_seed(1))
ours(x).square().sum().backward()
torch.save(torch.cat([p.grad.flatten() for p in ours.parameters()]), sys.argv[1])
print(*{how.backend for how in ours.plan})
"""
    path = ROOT / ".pytest_cache" / "without_numba.pt"
    path.parent.mkdir(exist_ok=True)
    result = run(code.replace("sys.argv[1]", repr(str(path))))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in ("dense", "fft")
    if numba_jit.available():
        theirs = torch.load(path)
        assert (theirs - gradient(1)).norm() <= 1e-4 * theirs.norm()


@needs_numba
def test_jobs_are_torchs_threads() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, before):
            torch.set_num_threads(threads)
            assert numba_jit._state.jobs() == threads
            gradient(1)
    finally:
        torch.set_num_threads(before)


@needs_numba
def test_several_threads_at_once() -> None:
    expected = [gradient(seed) for seed in range(4)]
    networks = [network() for _ in range(4)]  # drawn here: threads share torch's random state
    results: dict[int, torch.Tensor] = {}

    def work(seed: int) -> None:
        results[seed] = gradient(seed, networks[seed])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        torch.testing.assert_close(results[seed], expected[seed])


@needs_numba
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child() -> None:
    code = """
import os, signal, sys, torch
from snn_delays.runtime import numba_jit
from tests.runtime.test_numba_jit import gradient
torch.set_num_threads(2)
expected = gradient(1)
child = os.fork()
if child == 0:
    signal.alarm(120)
    serial = numba_jit._state.jobs() == 1 < torch.get_num_threads()
    torch.set_num_threads(1)  # torch's own rule for forked children
    os._exit(0 if serial and torch.allclose(gradient(1), expected) else 1)
print(os.waitpid(child, 0)[1])
"""
    result = run(code)
    assert result.stdout == "0\n", result.stderr


def successor(number):
    return number + 1


def fill(jobs, filled):
    for job in numba_jit.prange(jobs):
        filled[job] = successor(job)


def count(jobs, filled):
    for job in range(jobs):
        filled[job] = successor(successor(job))


@needs_numba
def test_only_kernels_become_machine_code(monkeypatch) -> None:
    from numba.core.codegen import JITCodeLibrary

    compiled, compile_ = [], JITCodeLibrary._finalize_specific
    monkeypatch.setattr(
        JITCodeLibrary, "_finalize_specific", lambda lib: (compiled.append(lib.name), compile_(lib))
    )
    monkeypatch.setattr(numba_jit.kernel_cache, "keep", lambda *arguments: None)
    inner = numba_jit.inner(successor)
    filled = np.zeros(3)
    numba_jit.kernel(specialise(fill, __name__, successor=inner)).parallel(3, filled)
    assert filled.tolist() == [1, 2, 3]
    assert compiled == ["fill"]
    with pytest.raises(TypeError, match="successor can be called by kernels, not from Python"):
        inner(1)


@needs_numba
def test_kernels_share_a_function_in_the_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(numba_jit.kernel_cache, "_folder", lambda: tmp_path)
    for function, expected in ((fill, [1, 2, 3]), (count, [2, 3, 4])):
        inner, filled = numba_jit.inner(successor), np.zeros(3)
        numba_jit.kernel(specialise(function, __name__, successor=inner)).serial(3, filled)
        assert filled.tolist() == expected
        assert sum(inner.stats.cache_hits.values()) == (function is count)


@needs_numba
def test_numbas_own_parallel_functions_work_beside_kernels(monkeypatch, tmp_path) -> None:
    import numba

    numba_jit._prepare()
    kinds = {"nopython": True, "target": "parallel"}
    double = numba.guvectorize(["(float32[:], float32[:])"], "(n)->(n)", **kinds)(_double)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert np.array_equal(double(x), 2 * x)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    kept = numba.guvectorize(["(float32[:], float32[:])"], "(n)->(n)", cache=True)(_double)
    assert np.array_equal(kept(x), 2 * x)
    halve = numba.vectorize(["float32(float32)"], **kinds)(lambda value: value / np.float32(2))
    assert np.array_equal(halve(x), x / 2)


def _double(x, y):
    for n in range(len(x)):
        y[n] = 2 * x[n]
