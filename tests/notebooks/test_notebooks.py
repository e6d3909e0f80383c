"""The notebooks are clean, and execute from their first cell to their last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
strip_notebooks = pytest.importorskip("scripts.strip_notebooks")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_S = 300  # the first run of the package compiles

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What notebooks share: made data and matplotlib's fonts, in a cache of their own."""
    return tmp_path_factory.mktemp("notebooks")


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def test_there_are_six() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


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
def test_executes(path: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jupyter = [f"JUPYTER_{name}_DIR" for name in ("CONFIG", "DATA", "RUNTIME")]
    for name in ("XDG_CACHE_HOME", "IPYTHONDIR", *jupyter):
        monkeypatch.setenv(name, str(home / name))
    monkeypatch.setenv("SNN_DELAYS_QUICK", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = read(path)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, timeout=CELL_S, kernel_name="python3", resources=resources
    ).execute()
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
