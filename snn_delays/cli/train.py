"""``snn-delays train``: train a network and test it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snn_delays.cli.app import run_command
from snn_delays.cli.sweep import is_search
from snn_delays.config import Config
from snn_delays.errors import UserError
from snn_delays.runtime.distributed import process_info


def main() -> None:
    """Entry point."""
    run_command("train", _train, _check_search)


def _train(config: Config) -> float | dict[str, Any]:
    """Train.

    Returns:
        The content of result.json, and the folder as "out"; in a search the validation accuracy of
        the chosen epoch, which the search maximises.
    """
    from snn_delays.training.run import train  # late, since importing torch takes seconds

    result = train(config)
    if process_info().is_first:
        from snn_delays.analysis.curves import write_learning_curve

        write_learning_curve(Path(result["out"]))
        print(describe(result))
    return float(result["valid"]["accuracy"]) if is_search() else result


def _check_search(config: Config) -> None:
    """Refuse options with which a search would read the test set."""
    if not is_search():
        return
    if config.train.protocol not in ("validation", "refit"):
        raise UserError(
            "A search chooses on validation data, which train.protocol="
            f"{config.train.protocol} does not keep; give train.protocol=validation."
        )
    if config.train.test:
        raise UserError(
            "A search must not read the test set: give train.test=false, and test the options that"
            " it finds in a separate run."
        )


def describe(result: dict[str, Any]) -> str:
    """A result as text for the terminal."""
    from snn_delays.evaluate import Score

    def line(name: str, values: dict[str, Any], note: str = "") -> str:
        return f"  {name:20} {Score.from_dict(values)}{note}"

    how = f"epoch {result['epoch']} ({result['selection']}), 95 % interval"
    lines = [""]
    if "valid" in result:
        lines += [f"validation accuracy of {how}", line("all", result["valid"])]
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
