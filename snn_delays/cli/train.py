"""``snn-delays train``: train a network and test it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snn_delays.cli.app import run_command
from snn_delays.config import Config
from snn_delays.runtime.distributed import process_info


def main() -> None:
    """Entry point."""
    run_command("train", _train)


def _train(config: Config) -> dict[str, Any]:
    """Train.

    Returns:
        The content of result.json, and the folder as "out".
    """
    from snn_delays.training.run import train  # late, since importing torch takes seconds

    result = train(config)
    if process_info().is_first:
        from snn_delays.analysis.curves import write_learning_curve

        write_learning_curve(Path(result["out"]))
        print(describe(result))
    return result


def describe(result: dict[str, Any]) -> str:
    """A result as text for the terminal."""
    from snn_delays.evaluate import Score
    from snn_delays.regression import StepError

    def line(name: str, values: dict[str, Any], note: str = "") -> str:
        kind = StepError if "nrmse" in values else Score
        return f"  {name:20} {kind.from_dict(values)}{note}"

    chosen = f"epoch {result['epoch']} ({result['selection']})"
    how, lines = f"{chosen}, 95 % interval", [""]
    if "valid" in result:
        per_step = "nrmse" in result["valid"]
        what = f"validation error of {chosen}" if per_step else f"validation accuracy of {how}"
        lines += [what, line("all", result["valid"])]
    if "nrmse" in result:
        lines += [f"test error of {chosen}", line("all", result)]
    if "accuracy" in result:
        note = "  (test-selected)" if result["selection"] == "test-selected" else ""
        lines += [f"test accuracy of {how}", line("all", result, note)]
        groups = result["per_speaker_group"]
        lines += [line(name, values, note) for name, values in groups.items()]
    if "batch_accuracy" in result:
        lines.append(f"  averaged over batches {result['batch_accuracy']:.2%}{note}")
    lines.append(f"{result['parameters']:,} parameters, {result['seconds']:.0f} s")
    lines.append(f"written to {Path(result['out'])}/")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
