"""A module imports only from what lies above it in the order of the layers, and in no circle."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snn_delays.cli import COMMANDS

PACKAGE = Path(__file__).parents[1] / "snn_delays"
LAYERS = (
    "errors",
    "output",
    "files",
    "documents",
    "config",
    "runtime",
    "ops",
    "nn",
    "data",
    "evaluate",
    "regression",
    "training.run_files",
    "training.checkpoint",
    "training.provenance",
    "deploy",
    "training",
    "benchmark",
    "analysis",
    "cli",
)
WITHIN = {  # the order of what lies in a layer
    "config": ("options", "datasets", "neurons", "schema", "commands", "rules"),
    "ops": ("taps", "surrogates", "resets", "neurons", "scan", "spectral", "recurrent", "maps"),
}
ONLY_PLACE = {
    "tonic": {
        f"data/{name}.py"
        for name in ("download", "formats/spike_file", "formats/word_recordings", "published")
    },
    "filelock": {"files.py"},
    "platformdirs": {"files.py"},
    "sounddevice": {"deploy/live.py"},
    "wandb": {"training/tracking.py"},
    "hydra": {
        f"cli/{name}.py" for name in ("app", "compose", "explain", "launch", "search", "sweep")
    },
    "omegaconf": {
        f"cli/{name}.py" for name in ("app", "compose", "explain", "launch", "search", "sweep")
    },
    "optuna": {"cli/search.py"},
    "numba": {"runtime/numba_jit.py", "runtime/kernel_cache.py", "ops/spectral/gemm_llvm.py"},
    "llvmlite": {"runtime/numba_jit.py", "ops/spectral/gemm_llvm.py"},
    "triton": {"runtime/triton_jit.py"},
    "nest": {"deploy/export/programs/nest.py"},  # of another licence: no other module loads it
    "brian2": {"deploy/export/programs/brian2.py"},
    "lava": {"deploy/export/programs/lava.py"},
    "onnxruntime": {"deploy/export/programs/onnx.py"},
    "onnx": {"deploy/export/onnx.py"},
    "nir": {"deploy/export/nir.py", "deploy/export/programs/nir.py"},
}


def imports(path: Path, *, at_once: bool = False) -> set[str]:
    """What a file imports; ``at_once``: as it is loaded, not in functions nor for types alone."""
    found, tree = set(), ast.parse(path.read_text("utf-8"))
    for node in outer_nodes(tree) if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def outer_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes outside functions and outside ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not for_types and not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield node
            yield from outer_nodes(node)


def modules() -> list[tuple[str, Path]]:
    return [(str(p.relative_to(PACKAGE)), p) for p in sorted(PACKAGE.rglob("*.py"))]


def test_imports_point_downward() -> None:
    for name, path in modules():
        mine = name.removesuffix(".py").split("/")
        if mine == ["__init__"]:
            continue
        for module in imports(path):
            package, *parts = module.split(".")
            if package == "snn_delays":
                assert is_above(parts, mine), f"{name} imports {module}"


def is_above(parts: list[str], mine: list[str]) -> bool:
    """Whether a module, by the parts of its name, is in the layer of another or in one above."""
    if parts[0] != mine[0]:
        return layer_of(parts) < layer_of(mine)
    order = WITHIN.get(mine[0], ())
    if {parts[1], mine[1]} <= set(order):
        return order.index(parts[1]) <= order.index(mine[1])
    return True


def layer_of(parts: list[str]) -> int:
    """The place of a module's layer, or of the part of a layer that stands for itself."""
    part = ".".join(parts[:2])
    return LAYERS.index(part if part in LAYERS else parts[0])


def files_imported(*, at_once: bool = False) -> dict[str, set[str]]:
    """The files that each file of the package imports from; ``at_once``: see ``imports``."""
    files = {}
    for name, _ in modules():
        dotted = f"snn_delays.{name.removesuffix('.py').replace('/', '.')}"
        files[dotted.removesuffix(".__init__")] = name
    found = {}
    for name, path in modules():
        wanted = {m if m in files else m.rpartition(".")[0] for m in imports(path, at_once=at_once)}
        found[name] = {files[m] for m in wanted if m in files}
    return found


def in_circles(graph: dict[str, set[str]]) -> set[str]:
    """The names from which arrows lead back to themselves."""
    return {name for name in graph if name in reached(graph, name)}


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """The names to which arrows lead from ``start``."""
    found: set[str] = set()
    new = graph[start]
    while new:
        found |= new
        new = {far for near in new for far in graph[near]} - found
    return found


def test_a_training_on_prepared_frames_loads_no_reader_of_recordings() -> None:
    graph = files_imported(at_once=True)
    packages = {name for name in graph if name.endswith("__init__.py")}
    for name, found in graph.items():
        graph[name] = found | {f"{name.split('/')[0]}/__init__.py" for name in found} & packages
    loaded = reached(graph, "training/run.py")
    assert "deploy/network.py" in loaded
    for name in loaded:
        roots = {module.partition(".")[0] for module in imports(PACKAGE / name, at_once=True)}
        assert not roots & {"tonic", "h5py", "matplotlib"}, name


def test_no_files_import_each_other() -> None:
    assert in_circles(files_imported()) == set()
    assert in_circles({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set()}) == {"b", "c"}


def test_commands_start_without_torch() -> None:
    """The command line asks many things before it needs torch, which takes seconds to load."""
    graph = files_imported(at_once=True)
    starts = {"cli/__init__.py", *(f"cli/{command}.py" for command in COMMANDS)}
    for name in starts.union(*(reached(graph, start) for start in starts)):
        tops = {module.split(".")[0] for module in imports(PACKAGE / name, at_once=True)}
        assert "torch" not in tops, name


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


def test_scripts_import_no_test() -> None:
    for path in sorted((PACKAGE.parent / "scripts").rglob("*.py")):
        assert not any(m.split(".")[0] == "tests" for m in imports(path)), path


def test_options_import_the_standard_library_alone() -> None:
    for name, path in modules():
        if name == "errors.py" or name.startswith("config/"):
            for module in imports(path):
                own = module.startswith(("snn_delays.config.", "snn_delays.errors."))
                assert own or module.split(".")[0] in sys.stdlib_module_names, f"{name}: {module}"


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
