"""``snn-delays train``: train a network and test it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snn_delays.cli.app import run_command
from snn_delays.config import Config


def main() -> None:
    """Entry point."""
    run_command("train", _train)


def _train(config: Config) -> None:
    from snn_delays.train.run import train  # torch loads in seconds; --help need not wait

    print(describe(train(config)))


def describe(result: dict[str, Any]) -> str:
    """A result as a person reads it."""
    from snn_delays.evaluate import Score

    def line(name: str, values: dict[str, Any]) -> str:
        return f"  {name:20} {Score.from_dict(values)}{note}"

    note = "  (test-selected)" if result["selection"] == "test-selected" else ""
    lines = [f"\ntest accuracy of epoch {result['epoch']} ({result['selection']}), 95 % interval"]
    lines.append(line("all", result))
    lines += [line(name, values) for name, values in result["per_speaker_group"].items()]
    if "batch_accuracy" in result:
        lines.append(f"  averaged over batches {result['batch_accuracy']:.2%}{note}")
    lines.append(f"{result['parameters']:,} parameters, {result['seconds']:.0f} s")
    lines.append(f"written to {Path(result['out'])}/")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
