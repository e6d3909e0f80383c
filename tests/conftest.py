"""Shared fixtures: small files of SHD's format, configurations that train in a second."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hydra.core.config_store import ConfigStore

# pytest's workers together have more threads than there are cores, so a waiting thread must leave
# its core to others instead of spinning. OpenMP reads the variable when the package is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from snn_delays.config import Config
from snn_delays.data.frame_cache import FrameStore, cache_folder, open_frames
from snn_delays.data.sources import SpikeSource


def _interpret_kernels_without_gpu() -> None:
    """Triton's interpreter must be asked for before the first kernel is made."""
    import torch  # not before the package, whose __init__ says why

    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")


_interpret_kernels_without_gpu()


gc.set_threshold(50_000, 20, 20)  # fewer searches of a heap that is mostly of imported modules
# Hydra copies the schemas of all commands for each configuration that it composes.
ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]


FSDD = Path(__file__).parents[2] / "shared" / "data" / "fsdd"

needs_fsdd = pytest.mark.skipif(
    not (FSDD / "fsdd_train.h5").is_file(), reason="the folder shared/data/fsdd is not beside this"
)


LONGEST = [  # first, for two workers to end at about the same time
    "cli/test_benchmark.py", "ops/test_triton.py", "analysis/test_report.py",
    "training/test_distributed.py", "cli/test_cli.py", "notebooks/test_notebooks.py",
    "training/test_resume.py", "docs/test_pages.py",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first, then as collected."""
    files = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: files.get(item.path, len(files)))


def write_spikes(
    path: Path,
    times: Sequence[Any],
    units: Sequence[Any],
    labels: Sequence[int],
    *,
    keys: Sequence[str] | None = None,
    speakers: Sequence[int] | None = None,
    times_dtype: Any = np.float16,
) -> Path:
    """Write a file of SHD's format."""
    with h5py.File(path, "w") as file:
        for name, values, dtype in (("times", times, times_dtype), ("units", units, np.uint16)):
            data = file.create_dataset(f"spikes/{name}", (len(values),), h5py.vlen_dtype(dtype))
            for i, value in enumerate(values):
                data[i] = np.asarray(value, dtype)
        file["labels"] = np.asarray(labels, np.int64)
        if keys is not None:
            file["extra/keys"] = [k.encode() for k in keys]
        if speakers is not None:
            file["extra/speaker"] = np.asarray(speakers, np.uint16)
    return path


def open_spikes(path: Path, config: Config) -> FrameStore:
    """The frames of a file of spikes, as a run of ``config`` reads them."""
    source = SpikeSource(path, config.data, config.frame_arithmetic)
    return open_frames(source, cache_folder(config.data))


def random_spikes(
    path: Path, samples: int, seed: int, *, classes: int = 3, speakers: int | None = 4
) -> Path:
    """Write random recordings in which the class decides which third of the units fires."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    count = rng.integers(20, 60, samples)
    times = [np.sort(rng.uniform(0, rng.uniform(0.1, 0.3), n)) for n in count]
    width = 700 // classes
    units = [k * width + rng.integers(0, width, n) for k, n in zip(labels, count, strict=True)]
    return write_spikes(
        path,
        times,
        units,
        labels,
        keys=[f"class {k}" for k in range(classes)],
        speakers=None if speakers is None else (np.arange(samples) // classes) % speakers,
    )


def add_targets(path: Path, *, step_ms: float = 10.0, outputs: int = 2) -> Path:
    """Add targets per step to a file: of other lengths than the spikes, some of them missing."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "a") as file:
        times = file["spikes/times"]
        targets = file.create_dataset("targets", (len(times),), h5py.vlen_dtype(np.float32))
        for number, seconds in enumerate(times):
            steps = int(np.ceil(seconds.max() * 1000 / step_ms)) + rng.integers(1, 5)
            values = np.cumsum(rng.normal(size=(steps, outputs)), axis=0)
            values[: rng.integers(0, 3)] = np.nan
            targets[number] = values.ravel().astype(np.float32)
        file["extra/outputs"] = [f"output {k}".encode() for k in range(outputs)]
    return path


def as_on_a_gpu(patch: pytest.MonkeyPatch) -> None:
    """Let the CPU augment in the way that GPUs do."""
    from snn_delays.data import augment, augment_random

    patch.setattr(augment_random, "numpy_draws", lambda counts: False)
    patch.setattr(augment, "shift_by_copy", augment.shift_by_gather)


def without_data(patch: pytest.MonkeyPatch) -> None:
    """Let torch's device "meta" draw nothing, for which it knows no way of its own."""
    import torch

    from snn_delays.data import augment_random

    patch.setattr(augment_random, "device_generator", lambda *_: None)
    patch.setattr(torch, "binomial", lambda count, kept, generator: count * kept)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the Triton kernels that have run, in order, without the one that tries Triton."""
    from snn_delays.runtime import triton_jit

    ran: list[str] = []

    def launch(kernel: Any, *arguments: Any, real: Any = triton_jit.launch, **options: Any) -> None:
        real(kernel, *arguments, **options)
        if kernel is not triton_jit._fill:
            ran.append(kernel.fn.__name__)

    monkeypatch.setattr(triton_jit, "launch", launch)
    return ran


@pytest.fixture(autouse=True)
def _kernels_run(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test marked ``gpu`` fails where no Triton kernel ran, and everything fell back to torch.

    ``pytest.mark.gpu(kernels=False)`` is for what torch alone computes there.
    """
    marker = request.node.get_closest_marker("gpu")
    if marker is None:
        yield
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    from snn_delays.runtime import triton_jit
    from snn_delays.runtime.device import pick_device

    launches = request.getfixturevalue("launches")
    reason = triton_jit.why_not(torch.ones(1, device=pick_device("cuda")))
    assert reason is None, reason
    yield
    assert launches or not marker.kwargs.get("kernels", True), "no Triton kernel ran"


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that a test adds to Python's path are searched in that test alone."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of other machines cannot be looked up."""

    def lookup(host: Any, *arguments: Any, real: Any = socket.getaddrinfo, **options: Any) -> Any:
        if host not in ("localhost", "127.0.0.1", "::1", None, ""):
            raise OSError(f"the network is closed to tests ({host})")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


@pytest.fixture
def step_config(
    spike_files: dict[str, Path], small_config: Callable[..., Config]
) -> Callable[..., Config]:
    """``small_config`` with targets per step of two outputs."""
    for path in spike_files.values():
        add_targets(path)

    def make(**train: Any) -> Config:
        config = small_config(**{"loss": "mse", **train})
        config.data.target, config.model.readout = "per_step", "last"
        return config

    return make


def write_spike_files(folder: Path) -> dict[str, Path]:
    """Write a training and a test file."""
    return {
        "train": random_spikes(folder / "train.h5", 48, 0),
        "test": random_spikes(folder / "test.h5", 30, 1, speakers=6),
    }


@pytest.fixture
def spike_files(tmp_path: Path) -> dict[str, Path]:
    """A training and a test file."""
    return write_spike_files(tmp_path)


@pytest.fixture
def small_config(tmp_path: Path, spike_files: dict[str, Path]) -> Callable[..., Config]:
    """A configuration on ``spike_files`` that trains in about a second."""

    def make(**train: Any) -> Config:
        config = Config(out=str(tmp_path / "run"), device="cpu")
        config.data.name = "spikes"
        config.data.cache = str(tmp_path / "cache")
        config.data.train_file = str(spike_files["train"])
        config.data.test_file = str(spike_files["test"])
        config.data.units_per_channel = 50
        config.model.hidden = [12]
        config.model.taps = 5
        config.train.epochs = 3
        config.train.batch_size = 16
        for key, value in train.items():
            setattr(config.train, key, value)
        return config

    return make
