"""The start of a run: importing the package, and the first step with kernels cached and without.

Every measurement is a process of its own. Cold: numba's cache folder is empty, so that the step's
kernels are compiled. Warm: the folder holds the kernels of the cold step.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from scripts.benchmarks.common import Columns, Report, Row, make_parser, run, say, spread, summary
from scripts.benchmarks.networks import CASES
from snn_delays.errors import UserError

IMPORT = "import snn_delays.training.run"
STEP = (
    f"{IMPORT}\n"
    "import dataclasses, sys, time, scripts.benchmarks.networks as networks\n"
    "case, backend, seed = sys.argv[1:]\n"
    "problem = dataclasses.replace(networks.CASES[case], backend=backend, seed=int(seed))\n"
    "step = networks.our_step(problem)\n"
    "started = time.perf_counter()\n"
    "step()\n"
    "print(time.perf_counter() - started)\n"
)
COLUMNS: Columns = {
    "case": lambda row: row["case"],
    "import, s": lambda row: spread(row["import_seconds"]),
    "first step, kernels cached, s": lambda row: spread(row["cached_seconds"]),
    "first step, cold, s": lambda row: spread(row["cold_seconds"]),
    "kernels compiled": lambda row: str(row["kernels"]),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("start", __doc__, rounds=3)
    add = parser.add_argument
    add("--case", choices=(*CASES, "all"), default="all", help="network and batch (all)")
    return run(parser, measure, arguments)


def measure(options: argparse.Namespace) -> Report:
    """Time the import, then the first steps of each case."""
    cases = [*CASES] if options.case == "all" else [options.case]
    say("importing")
    imports = summary([_import_seconds() for _ in range(options.rounds)])
    rows = [{"case": case, "import_seconds": imports, **_steps(case, options)} for case in cases]
    return Report("Start of a run, every measurement in a new process.", COLUMNS, rows)


def _import_seconds() -> float:
    """The whole process, Python's own start included."""
    started = time.perf_counter()
    _python([IMPORT], os.environ)
    return time.perf_counter() - started


def _steps(case: str, options: argparse.Namespace) -> Row:
    code, cold, cached = [STEP, case, options.backend, str(options.seed)], [], []
    for number in range(options.rounds):
        say(f"{case}: round {number + 1} of {options.rounds}")
        with tempfile.TemporaryDirectory() as folder:  # private to the user, as the cache wants it
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
            cold.append(float(_python(code, environment)))
            kernels = len([name for name in os.listdir(folder) if name.endswith(".kernel")])
            cached.append(float(_python(code, environment)))
    return {
        "cold_seconds": summary(cold),
        "cached_seconds": summary(cached),
        "kernels": kernels,
    }


def _python(code: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", *code], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise UserError(f"A measuring process failed: {done.stderr.strip()[-300:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
