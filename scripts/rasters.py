"""Draw recordings of two files of SHD's format side by side, such as your words beside SHD's.

The picture shows the first recording of every class name that both files have.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from snn_delays.analysis.raster import Recording, plot_rasters
from snn_delays.analysis.report_figure import save_figure
from snn_delays.data.formats.spike_file import SpikeFile
from snn_delays.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.rasters", description=__doc__)
    parser.add_argument("left", type=Path, help="HDF5 file of SHD's format")
    parser.add_argument("right", type=Path, help="another")
    parser.add_argument("--out", type=Path, default=Path("rasters.png"), help="picture to write")
    parser.add_argument("--units", type=int, default=700, help="spike channels (700)")
    parser.add_argument("--most", type=int, default=4, help="classes to show (4)")
    options = parser.parse_args(arguments)
    try:
        files = [SpikeFile(path, units=options.units) for path in (options.left, options.right)]
        shared = [name for name in files[0].classes if name in files[1].classes]
        if not shared:
            raise UserError(f"{options.left} and {options.right} share no class by name.")
        columns = [[_first(file, name) for name in shared[: options.most]] for file in files]
        save_figure(plot_rasters(columns, options.units), options.out)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"written to {options.out}")
    return 0


def _first(file: SpikeFile, name: str) -> Recording:
    """The first recording of a class."""
    numbers = (file.labels == file.classes.index(name)).nonzero()[0]
    if not len(numbers):
        raise UserError(f"{file.path} holds no recording of {name}.")
    events, _ = file[int(numbers[0])]
    return f"{name} ({file.path.name})", events["t"], events["x"]


if __name__ == "__main__":
    sys.exit(main())
