"""A report as one HTML page that needs nothing else, and its figures and numbers as files."""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from snn_delays.analysis.report_figure import DPI, ReportFigure, save_figure
from snn_delays.files import replace_file, replacing

PAGE_FILE = "report.html"
FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.]+$)(?!$)")  # a spreadsheet runs text that starts so
DIGITS = 3  # that count, of the largest number of a quantity
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #111; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin-top: 2.5rem; border-bottom: 1px solid #999; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .3rem; }
p.lead { color: #333; margin-top: 0; }
figure { margin: 0 0 1.5rem; break-inside: avoid; }
figure img { width: 100%; height: auto; }
figcaption, .note { font-size: .9rem; color: #333; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums;
  margin: .5rem 0 1rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ccc; text-align: right; }
th:first-child, td:first-child { text-align: left; }
tbody th { white-space: nowrap; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; }
details { margin: .5rem 0; }
@media print { body { max-width: none; margin: 0; } h2, h3, summary { break-after: avoid; }
  .scroll { overflow: visible; } table { font-size: .7rem; } thead { display: table-header-group; }
  tr, .whole { break-inside: avoid; } .note { break-before: avoid; } }
"""
# Folded tables are printed, too.
SCRIPT = """
addEventListener("beforeprint", () =>
  document.querySelectorAll("details").forEach((folded) => { folded.open = true; }));
"""


@dataclass(frozen=True)
class Table:
    """Numbers that are shown as they are.

    Attributes:
        name: of its CSV file.
        title: above it.
        note: below it.
        data: with its index shown.
        folded: hidden until asked for, where it is long.
        by_row: whether a row holds one quantity, rather than a column.
    """

    name: str
    title: str
    note: str
    data: pd.DataFrame
    folded: bool = False
    by_row: bool = False


@dataclass(frozen=True)
class Section:
    """A chapter: its parts in order."""

    title: str
    parts: list[ReportFigure | Table] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
        title: of the page.
        lead: sentences below it.
        sections: chapters.
    """

    title: str
    lead: list[str]
    sections: list[Section]


def write_report(report: Report, out: Path) -> Path:
    """Write the page, and every figure as PNG and SVG and every table and figure's data as CSV.

    The files of a report that is there are removed before.

    Args:
        report: what to write.
        out: folder, made if it is not there.

    Returns:
        Path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    _remove_old(out)
    for section in report.sections:
        for part in section.parts:
            _write_csv(part, out / f"{part.name}.csv")
            if isinstance(part, ReportFigure):
                for suffix in ("png", "svg"):
                    save_figure(part.figure, out / f"{part.name}.{suffix}")
    replace_file(out / PAGE_FILE, page(report).encode("utf-8", "backslashreplace"))
    return out / PAGE_FILE


def _write_csv(part: ReportFigure | Table, path: Path) -> None:
    """Write the numbers of a part."""
    indexed = isinstance(part, Table)
    data = part.data.apply(lambda cells: cells if is_numeric_dtype(cells) else cells.map(_inert))
    data = data.rename(index=_inert) if indexed else data
    with replacing(path) as file:
        data.to_csv(file, index=indexed, float_format="%.6g", errors="backslashreplace")


def _inert(cell: Any) -> Any:
    """Text behind an apostrophe where a spreadsheet would run it as a formula."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def _remove_old(out: Path) -> None:
    """Remove the files that the page there names."""
    old = out / PAGE_FILE
    named = re.findall(r"Numbers: (\w+)\.csv", old.read_text("utf-8")) if old.is_file() else []
    for name in named:
        for suffix in ("csv", "png", "svg"):
            (out / f"{name}.{suffix}").unlink(missing_ok=True)


def page(report: Report) -> str:
    """The HTML."""
    lead = "".join(f'<p class="lead">{html.escape(line)}</p>' for line in report.lead)
    body = "".join(_section(section) for section in report.sections if section.parts)
    title = html.escape(report.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>'
        f"<style>{STYLE}</style><script>{SCRIPT}</script></head>\n<body><h1>{title}</h1>{lead}{body}</body></html>\n"
    )


def _section(section: Section) -> str:
    parts = "".join(
        _exhibit(part) if isinstance(part, ReportFigure) else _table(part) for part in section.parts
    )
    return f"\n<h2>{html.escape(section.title)}</h2>{parts}"


def _exhibit(exhibit: ReportFigure) -> str:
    picture = io.BytesIO()
    exhibit.figure.savefig(picture, format="png", dpi=1.5 * DPI)
    data = base64.b64encode(picture.getvalue()).decode()
    title, caption = html.escape(exhibit.title), html.escape(exhibit.caption)
    return (
        f'\n<h3>{title}</h3><figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption} Numbers: {exhibit.name}.csv.</figcaption></figure>"
    )


def _table(table: Table) -> str:
    shown = _formatted(table).to_html(border=0, justify="right")
    shown = f'<div class="scroll">{shown}</div>'
    if table.folded:
        shown = f"<details><summary>{len(table.data):,} rows</summary>{shown}</details>"
    note = f'<p class="note">{html.escape(table.note)} Numbers: {table.name}.csv.</p>'
    kind = "long" if table.folded else "whole"
    return f'\n<div class="{kind}"><h3>{html.escape(table.title)}</h3>{shown}{note}</div>'


def _formatted(table: Table) -> pd.DataFrame:
    """Cells as a person reads them, as many digits in all of one quantity."""
    data = table.data.T if table.by_row else table.data
    cells = [_cells(data.iloc[:, k]) for k in range(data.shape[1])]
    shown = pd.DataFrame(dict(enumerate(cells)), index=data.index).set_axis(data.columns, axis=1)
    return shown.T if table.by_row else shown


def _cells(values: Iterable[object]) -> list[str]:
    numbers = [float(v) for v in values if _is_number(v) and math.isfinite(float(v))]  # type: ignore[arg-type]
    largest = max((abs(v) for v in numbers), default=0.0)
    whole = all(v == round(v) for v in numbers) or largest == 0
    digits = 0 if whole else max(1, DIGITS - 1 - math.floor(math.log10(largest)))
    return [_cell(value, digits) for value in values]


def _cell(value: object, digits: int) -> str:
    if not _is_number(value):
        return str(value)
    number = float(value)  # type: ignore[arg-type]
    return "-" if math.isnan(number) else f"{number:,.{digits}f}"


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def describe_options(values: Sequence[tuple[str, object]]) -> Table:
    """Options as a table."""
    data = pd.DataFrame({"value": [str(v) for _, v in values]}, index=[name for name, _ in values])
    return Table("config", "Options", "As resolved when the run started.", data, folded=True)
