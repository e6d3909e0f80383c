"""``snn-delays demo``: compare learned, fixed and no delays on synthetic data, in minutes."""

from __future__ import annotations

import datetime
import sys
import time
from pathlib import Path
from typing import Any

from snn_delays.benchmark.suite import named
from snn_delays.cli.app import refuse_torchrun, report_errors
from snn_delays.cli.compose import compose
from snn_delays.cli.wrapping import wrapped
from snn_delays.config import Config
from snn_delays.errors import UserError

VARIANTS = {
    "learned": "learned delays",
    "fixed": "fixed random delays",
    "none": "no delays",
}

USAGE = """usage: snn-delays demo [out=<folder>] [option=value ...]

Compares learned, fixed and no delays on synthetic data, in minutes.
Options are those of `snn-delays train` and apply to all three networks."""


def main() -> None:
    """Entry point; options of ``snn-delays train`` apply to all three networks."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        report_errors(lambda: print(wrapped(USAGE)))
        return
    refuse_torchrun("demo")
    report_errors(lambda: demo(sys.argv[1:]))


def demo(overrides: list[str]) -> dict[str, dict[str, Any]]:
    """Train the demo's three networks and print their test accuracies side by side.

    Args:
        overrides: options for all three, as on the command line.

    Returns:
        The result of each variant: "learned", "fixed" and "none".
    """
    for override in overrides:
        if named(override) in ("model.delays", "experiment"):
            raise UserError(f"The demo takes options of `snn-delays train`, but not {override}.")
    configs = {v: compose("train", [f"experiment=demo/{v}", *overrides]) for v in VARIANTS}
    out = Path(configs["learned"].out or f"runs/demo/{datetime.datetime.now():%Y%m%d-%H%M%S}")
    for variant, config in configs.items():
        config.out = str(out / variant)
    from snn_delays.analysis.curves import write_learning_curve
    from snn_delays.training.run import train
    from snn_delays.training.run_folder import run_folder

    for config in configs.values():
        run_folder(config)

    started = time.perf_counter()
    results = {}
    for number, (variant, config) in enumerate(configs.items(), 1):
        print(f"\n[{number}/{len(configs)}] {VARIANTS[variant]}")
        results[variant] = train(config)
        write_learning_curve(Path(results[variant]["out"]))
    _draw(results["learned"]["out"])
    print(_table(results, configs))
    seconds = time.perf_counter() - started
    print(
        f"\n{seconds:.0f} s; runs in {out}/, pictures of the delays delays.png, movement.png there"
    )
    return results


def _draw(folder: str) -> None:
    from snn_delays.analysis.delays import distribution, movement
    from snn_delays.analysis.report_figure import save_figure
    from snn_delays.analysis.trained_run import open_run

    subject = open_run(folder)
    for exhibit in (distribution(subject), movement(subject)):
        save_figure(exhibit.figure, Path(folder).with_name(f"{exhibit.name}.png"))


def _table(results: dict[str, dict[str, Any]], configs: dict[str, Config]) -> str:
    from snn_delays.evaluate import Score

    selection = results["learned"]["selection"]
    note = "  (test-selected)" if selection == "test-selected" else ""
    lines = ["", f"{'network':22}{'parameters':>11}{'tau':>9}   test accuracy [95 % interval]"]
    for variant, result in results.items():
        score = f"{Score.from_dict(result)}{note}"
        tau = f"{configs[variant].model.tau_ms:g} ms"
        lines.append(f"{VARIANTS[variant]:22}{result['parameters']:>11,}{tau:>9}   {score}")
    lines.append(f"({selection})")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
