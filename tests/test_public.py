"""The public names: what they are, when they are imported, and what a wrong one answers."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import snn_delays

SOURCE = Path(snn_delays.__file__).read_text("utf-8")


def test_names_are_the_objects_that_editors_see() -> None:
    """What ``if TYPE_CHECKING`` imports, ``__all__`` names and ``__getattr__`` returns agree."""
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)
                 and ast.unparse(node.test) == "TYPE_CHECKING")  # fmt: skip
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert sorted(seen) == sorted(snn_delays.__all__) == sorted(dir(snn_delays))
    for name, module in seen.items():
        assert getattr(snn_delays, name) is getattr(importlib.import_module(str(module)), name)


def test_train_is_a_function_after_every_import() -> None:
    importlib.import_module("snn_delays.cli.train")
    assert snn_delays.train is importlib.import_module("snn_delays.training.run").train


def test_import_loads_neither_torch_nor_numpy() -> None:
    code = """
import sys
import snn_delays
before = {*sys.modules}
snn_delays.Config(name="mine")
print(len({"torch", "numpy", "hydra", "numba"} & before), len({"torch", "numpy"} & {*sys.modules}))
print(len([name for name in before if name.startswith("snn_delays.")]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0", "0"]


def test_unknown_name_answers_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'trian'. Did you mean 'train'\?$"):
        _ = snn_delays.trian
    assert not hasattr(snn_delays, "__wrapped__")


@pytest.mark.parametrize(
    ("group", "name", "value", "message"),
    [
        ("model", "hiden", [3], r"no option model\.hiden\. Did you mean 'hidden'\?"),
        ("", "epochs", 3, r"no option epochs\. Did you mean 'train\.epochs'\?"),
        ("", "data", "shd", r"data=shd must be a group of options \(DataConfig\)\."),
        ("", "model", snn_delays.Config(), r"must be a group of options \(ModelConfig\)"),
        ("", "out", Path("a"), r"out=a must be text, or null, not \w+Path\."),
        ("model", "hidden", (3, 4), r"list of whole numbers, as \[256,256\], not tuple\."),
    ],
)
def test_wrong_assignments_are_refused_before_anything_is_written(
    group, name, value, message, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = snn_delays.Config(device="cpu")
    setattr(getattr(config, group) if group else config, name, value)
    with pytest.raises(ValueError, match=message):
        snn_delays.train(config)
    assert not [*tmp_path.iterdir()]
