"""Compiled kernels in the user's cache folder: found again, never trusted where damaged."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import event

from snn_delays.runtime import kernel_cache
from snn_delays.runtime.specialise import specialise
from tests.processes import CONTEXT, PATIENCE, fork


class Compilations(event.Listener):
    def __init__(self) -> None:
        self.count = 0

    def on_start(self, event) -> None:
        self.count += 1

    def on_end(self, event) -> None:
        pass


def double(x):
    return 2 * x


def compile_and_call(options: str = "") -> tuple[float, int]:
    """What a fresh dispatcher returns for 3.0, and how many compilations that took."""
    dispatcher = numba.njit(double)
    kernel_cache.keep(dispatcher, options)
    with event.install_listener("numba:compile", Compilations()) as seen:
        result = dispatcher(3.0)
    return result, seen.count


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kernel_cache, "_folder", lambda: tmp_path)
    return tmp_path


def test_a_kernel_is_compiled_once(folder: Path) -> None:
    assert compile_and_call() == (6.0, 1)
    assert compile_and_call() == (6.0, 0)
    assert compile_and_call("other options") == (6.0, 1)


class Meeting(event.Listener):
    """Lets a compilation wait a second for that of another process."""

    def __init__(self, both: Any) -> None:
        self.both = both

    def on_start(self, event) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            self.both.wait(1)

    def on_end(self, event) -> None:
        pass


def compile_beside(folder: Path, start: Any, both: Any, counts: Any) -> None:
    """In a process of its own: compile when another does."""
    kernel_cache._folder = lambda: folder
    start.wait()
    with event.install_listener("numba:compile", Meeting(both)):
        counts.put(compile_and_call())


def test_of_two_processes_one_compiles(tmp_path: Path) -> None:
    start, both, counts = CONTEXT.Barrier(2), CONTEXT.Barrier(2), CONTEXT.Queue()
    processes = [fork(compile_beside, tmp_path, start, both, counts) for _ in range(2)]
    found = [counts.get(timeout=PATIENCE) for _ in processes]
    assert sorted(found) == [(6.0, 0), (6.0, 1)]
    for process in processes:
        process.join()
    assert [path.suffix for path in tmp_path.iterdir()] == [".kernel"]


def half_of(x):
    return x * 0.5


def quarter_of(x):
    return x * 0.25


def apply(x):
    return half_of(x)


def test_functions_that_a_kernel_calls_count(folder: Path) -> None:
    """They may be defined outside of this package, such as a neuron's in a notebook."""
    for inner, expected in ((half_of, 1.5), (quarter_of, 0.75)):
        names = {"half_of": numba.njit(specialise(inner, __name__, number=np.float32))}
        dispatcher = numba.njit(specialise(apply, __name__, **names))
        kernel_cache.keep(dispatcher, "")
        assert dispatcher(3.0) == expected


TAPS = """
import torch
from snn_delays.ops.taps import SHAPES, Synapses, delay_taps

torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
weight, delay = torch.randn(64, 40, 1, generator=g), 24 * torch.rand(64, 40, 1, generator=g)
taps = delay_taps(Synapses(weight, delay, 25, SHAPES["gauss"], torch.tensor(3.3)), 25)
print(taps.numpy().tobytes().hex())
"""


@pytest.mark.slow
def test_a_process_that_compiles_computes_the_same_bits_as_later_ones(
    tmp_path, monkeypatch
) -> None:
    """A kernel's copy of a function and the function itself round differently."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    runs = [
        subprocess.run([sys.executable, "-c", TAPS], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert "Compiling" in runs[0].stderr
    assert "Compiling" not in runs[1].stderr
    assert runs[0].stdout == runs[1].stdout


@pytest.mark.parametrize("damage", ["empty", "cut", "one byte", "another pickle"])
def test_a_damaged_file_is_compiled_again(folder: Path, damage: str) -> None:
    assert compile_and_call() == (6.0, 1)
    (path,) = folder.glob("*.kernel")
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[:middle],
            "one byte": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "another pickle": b"cos\nsystem\n(S'exit 1'\ntR.",
        }[damage]
    )
    assert compile_and_call() == (6.0, 1)
    assert compile_and_call() == (6.0, 0)  # and is whole again


def test_a_full_disk_compiles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel_cache, "replace_file", full)
    assert compile_and_call() == (6.0, 1)
    assert compile_and_call() == (6.0, 1)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system knows no owners")
def test_a_folder_of_others_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    find = kernel_cache._folder.__wrapped__
    assert find() == tmp_path
    tmp_path.chmod(0o777)
    assert find() is None
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert find() is None


def digest_of(monkeypatch: pytest.MonkeyPatch, folder: Path, **sources: str) -> bytes:
    """The digest of ``snn_delays.one``, in a package of these modules."""
    for name, source in sources.items():
        module = types.ModuleType(f"snn_delays.{name}")
        module.__file__ = str(folder / f"{name}.py")
        Path(module.__file__).write_text(source, "utf-8")
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return kernel_cache.source_digest.__wrapped__("snn_delays.one")


def test_only_what_shapes_a_kernel_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = "from snn_delays.two import g\ndef f(x):\n    '''Text.'''\n    return g(x)\n"
    two = "def g(x):\n    return x + 1\n"
    before = digest_of(monkeypatch, tmp_path, one=one, two=two)
    commented = "# a comment\n\n" + one.replace("Text", "Other text")
    assert digest_of(monkeypatch, tmp_path, one=commented, two=two) == before
    changed = two.replace("+ 1", "+ 2")
    assert digest_of(monkeypatch, tmp_path, one=one, two=changed) != before
