"""A module imports only from what lies above it in the order of the layers."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "snn_delays"
LAYERS = (
    "errors",
    "output",
    "place",
    "files",
    "documents",
    "config",
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
    "hydra": {f"cli/{name}.py" for name in ("app", "compose", "explain", "launch", "sweep")},
    "omegaconf": {f"cli/{name}.py" for name in ("app", "compose", "explain", "launch", "sweep")},
    "numba": {"runtime/numba_jit.py", "runtime/kernel_cache.py", "ops/spectral/gemm_llvm.py"},
    "llvmlite": {"runtime/numba_jit.py", "ops/spectral/gemm_llvm.py"},
    "triton": {"runtime/triton_jit.py"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
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


def files_imported() -> dict[str, set[str]]:
    """Which files each file of the package imports from, those for types alone included."""
    files = {}
    for name, _ in modules():
        dotted = f"snn_delays.{name.removesuffix('.py').replace('/', '.')}"
        files[dotted.removesuffix(".__init__")] = name
    found = {}
    for name, path in modules():
        wanted = {m if m in files else m.rpartition(".")[0] for m in imports(path)}
        found[name] = {files[m] for m in wanted if m in files}
    return found


def circle(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is left of a graph without those that lead nowhere: empty where it has no circle."""
    while ends := {name for name, to in graph.items() if not to}:
        graph = {name: to - ends for name, to in graph.items() if name not in ends}
    return graph


def test_no_files_import_each_other() -> None:
    assert circle(files_imported()) == {}
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set()}).keys() == {"a", "b", "c"}


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


TEXT_FILES = ("read_text", "write_text", "open", "fdopen", "NamedTemporaryFile", "TextIOWrapper")


def opens_text_by_locale(call: ast.Call) -> bool:
    """Whether a call reads or writes a text file in the encoding that the locale names."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    given = [n for a in [*call.args, *call.keywords] for n in ast.walk(a)]
    texts = [n.value for n in given if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    says_encoding = "utf-8" in texts or any(word.arg == "encoding" for word in call.keywords)
    if name not in TEXT_FILES or says_encoding:
        return False
    is_method = isinstance(function, ast.Attribute)
    if name in ("read_text", "write_text"):
        return is_method
    if name == "NamedTemporaryFile" or (name == "open" and is_method):  # bytes, if nothing is said
        return any(re.fullmatch("[rwax]t?[+]?", text) for text in texts)
    return not any(re.fullmatch("[rwax]?[+]?b[+]?", text) for text in texts)


def test_text_files_are_utf_8_everywhere() -> None:
    folders = (PACKAGE.parent / name for name in ("snn_delays", "scripts", "tests"))
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            by_locale = isinstance(node, ast.Call) and opens_text_by_locale(node)
            assert not by_locale, f"{path}:{node.lineno} names no encoding"


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("open(path, 'rb')", False),
        ("open(path, 'ab' if more else 'wb')", False),
        ("path.open('a', buffering=1)", True),
        ("Image.open(path)", False),
        ("NamedTemporaryFile('w')", True),
    ],
)
def test_what_opens_text_by_locale(call, wrong) -> None:
    assert opens_text_by_locale(ast.parse(call, mode="eval").body) is wrong
