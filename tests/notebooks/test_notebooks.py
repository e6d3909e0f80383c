"""The notebooks are clean, and execute from their first cell to their last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from snn_delays.files import user_cache

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
strip_notebooks = pytest.importorskip("scripts.strip_notebooks")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_S = 300  # the first run of the package compiles

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Executes all notebooks in one process, whose caches are empty but for compiled kernels."""
    home, kernels = tmp_path_factory.mktemp("notebooks"), user_cache() / "kernels"
    jupyter = [f"JUPYTER_{name}_DIR" for name in ("CONFIG", "DATA", "RUNTIME")]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "IPYTHONDIR", *jupyter):
            patch.setenv(name, str(home / name))
        patch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR", str(kernels)))
        patch.setenv("MPLCONFIGDIR", mpl.get_cachedir())  # its list of fonts takes seconds
        patch.setenv("SNN_DELAYS_QUICK", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        empty = nbformat.v4.new_notebook()
        client = nbclient.NotebookClient(empty, kernel_name="python3", timeout=CELL_S)
        with client.setup_kernel():
            yield client


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def test_there_are_seven() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06", "07"]


@each
def test_valid_with_a_switch_cell_on_top(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    top = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "\nRUN = None" in top
    assert "SNN_DELAYS_QUICK" in top


@each
def test_stripped(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    clean = strip_notebooks.stripped(text) == text
    assert clean, f"{path.name} holds outputs, or metadata of a machine: strip with make strip."


@each
def test_executes(path: Path, kernel: Any, tmp_path: Path) -> None:
    notebook = read(path)
    fresh = f"%reset -f\nimport os\nos.chdir({str(tmp_path)!r})"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(fresh))
    kernel.nb = notebook
    kernel.execute(cleanup_kc=False)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_strip_takes_away_what_an_execution_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, clean = tmp_path / "a.ipynb", NOTEBOOKS[0].read_text(encoding="utf-8")
    notebook = nbformat.reads(clean, as_version=4)
    notebook.metadata["widgets"] = {}
    notebook.metadata["language_info"]["version"] = "3.11.2"
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.execution_count = 1
    cell.metadata["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00Z"}
    cell.outputs = [nbformat.v4.new_output("stream", text="a\n")]
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    strip_notebooks.main([str(path)])
    assert path.read_text(encoding="utf-8") == clean
    assert capsys.readouterr().out == f"stripped {path}\n"
