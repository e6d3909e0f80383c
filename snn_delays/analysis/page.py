"""A report as one HTML page that needs nothing else, and its figures and numbers as files."""

from __future__ import annotations

import base64
import functools
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from pandas.api.types import is_numeric_dtype

from snn_delays.analysis.report_figure import DPI, ReportFigure, save_figure
from snn_delays.files import replace_file, replacing

PAGE_FILE = "report.html"
TEMPLATE = "page.html.j2"
FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.]+$)(?!$)")  # a spreadsheet runs text that starts so
DIGITS = 3  # that count, of the largest number of a quantity


@dataclass(frozen=True)
class Table:
    """Numbers that are shown as they are.

    Attributes:
        name: of its CSV file.
        title: above it.
        note: below it.
        data: with its index shown.
        folded: hidden until asked for, where it is long.
        wide: whether it takes the width of the page, rather than of a column.
        by_row: whether a row holds one quantity, rather than a column.
        words: how the page calls rows and columns; the CSV file keeps their names.
    """

    name: str
    title: str
    note: str
    data: pd.DataFrame
    folded: bool = False
    wide: bool = False
    by_row: bool = False
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A chapter: its parts in order."""

    title: str
    parts: Sequence[ReportFigure | Table] = ()


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
                    part.figure.set_layout_engine("none")  # once is enough, and takes as long
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
    return _template().render(report=report, picture=_picture, formatted=_formatted, rows=_rows)


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True).get_template(TEMPLATE)


def _picture(exhibit: ReportFigure) -> str:
    """PNG of a figure, in base64."""
    picture = io.BytesIO()
    exhibit.figure.savefig(picture, format="png", dpi=1.5 * DPI)
    return base64.b64encode(picture.getvalue()).decode()


def _rows(shown: pd.DataFrame) -> Iterator[tuple[Sequence[object], Sequence[object]]]:
    """Names and cells of each row."""
    for index, *cells in shown.itertuples():
        yield index if isinstance(index, tuple) else (index,), cells


def _formatted(table: Table) -> pd.DataFrame:
    """Names and cells as a person reads them, as many digits in all of one quantity."""
    data = table.data.T if table.by_row else table.data
    cells = [_cells(data.iloc[:, k]) for k in range(data.shape[1])]
    shown = pd.DataFrame(dict(enumerate(cells)), index=data.index).set_axis(data.columns, axis=1)
    shown = shown.T if table.by_row else shown
    return (
        shown.rename(table.words, axis=0).rename(table.words, axis=1).rename_axis(index=table.words)
    )


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
