"""A module imports only from what lies above it in the order of the layers."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "snn_delays"
LAYERS = (
    "errors",
    "place",
    "files",
    "documents",
    "config",
    "device",
    "runtime",
    "ops",
    "nn",
    "data",
    "evaluate",
    "train",
    "benchmark",
    "deploy",
    "analysis",
    "cli",
)
ONLY_PLACE = {
    "tonic": {f"data/datasets/{name}.py" for name in ("download", "published", "spikes", "words")},
    "wandb": {"train/tracking.py"},
    "hydra": {"cli/app.py", "cli/launch.py"},
    "omegaconf": {"cli/app.py", "cli/launch.py"},
    "numba": {"ops/compiled.py", "runtime/kernel_cache.py", "ops/vectors.py"},
    "llvmlite": {"ops/compiled.py", "ops/vectors.py"},
    "triton": {"ops/gpu.py"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> list[tuple[str, Path]]:
    return [(str(p.relative_to(PACKAGE)), p) for p in sorted(PACKAGE.rglob("*.py"))]


def test_imports_point_downward() -> None:
    for name, path in modules():
        mine = name.split("/")[0].removesuffix(".py")
        if mine == "__init__":
            continue
        for module in imports(path):
            parts = module.split(".")
            if parts[0] == "snn_delays":
                assert LAYERS.index(parts[1]) <= LAYERS.index(mine), f"{name} imports {module}"


def test_each_outside_library_has_one_place() -> None:
    for name, path in modules():
        for module in imports(path):
            places = ONLY_PLACE.get(module.split(".")[0])
            assert places is None or name in places, f"{name} imports {module}"


def test_ops_import_torch_and_numpy_alone() -> None:
    allowed = {"torch", "numpy", *sys.stdlib_module_names}
    for name, path in modules():
        if name.startswith("ops/"):
            outside = {
                m
                for m in imports(path)
                if not m.startswith(("snn_delays.ops.", "snn_delays.runtime."))
            }
            places = {m.split(".")[0] for m in outside} - ONLY_PLACE.keys()
            assert places <= allowed, name


def test_options_import_the_standard_library_alone() -> None:
    for name in ("errors.py", "config.py"):
        for module in imports(PACKAGE / name):
            top = module.split(".")[0]
            assert top in sys.stdlib_module_names or module == "snn_delays.errors.UserError"
