"""How a result was made: commit, versions, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("snn_delays", "torch", "spikingjelly", "tonic", "numpy", "hydra-core")


def commit() -> str | None:
    """The commit of the package's code.

    Returns:
        The commit's hash, with "+changes" where the working tree differs from it; where the package
        is installed from a wheel, the tag of its release, such as "v0.1.0"; None where it has no
        metadata either.
    """
    return _git_commit() or _release_tag()


def _git_commit() -> str | None:
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return done.stdout.strip()

    try:
        tracked = git("ls-files", "--", str(Path(__file__).name))
        if not tracked:  # installed inside somebody else's repository
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _release_tag() -> str | None:
    try:
        return f"v{metadata.version(PACKAGES[0])}"
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine(device: torch.device) -> dict[str, str | int]:
    """Processor, threads, and the GPU if ``device`` is one."""
    found: dict[str, str | int] = {
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": device.type,
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
