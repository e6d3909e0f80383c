"""Strip notebooks in place: no outputs, no counts, no metadata of the machine (``make strip``)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def stripped(text: str) -> str:
    """A notebook's text with its cells' sources and ids alone."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        cell.pop("attachments", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return str(nbformat.writes(notebook)).rstrip("\n") + "\n"


def main(paths: Sequence[str]) -> None:
    """Strip the notebooks named, or all of this repository."""
    for path in map(Path, paths or sorted(map(str, NOTEBOOKS.glob("*.ipynb")))):
        text = path.read_text(encoding="utf-8")
        clean = stripped(text)
        if clean != text:
            path.write_text(clean, encoding="utf-8")
            print(f"stripped {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
