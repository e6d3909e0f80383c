"""``snn-delays evaluate run=<folder>``: accuracy of a run's deployed network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snn_delays.cli.app import run_command
from snn_delays.config import EvaluateConfig
from snn_delays.errors import UserError

if TYPE_CHECKING:
    from snn_delays.data.loaders import Samples
    from snn_delays.evaluate import Evaluation
    from snn_delays.train.checkpoint import Run


def main() -> None:
    """Entry point."""
    run_command("evaluate", _evaluate)


def _evaluate(options: EvaluateConfig) -> None:
    from snn_delays.data.loaders import Loader
    from snn_delays.device import pick_device, pick_dtype
    from snn_delays.evaluate import evaluate
    from snn_delays.train.checkpoint import load_run

    device = pick_device(options.device)
    run = load_run(options.run, options.checkpoint, device)
    try:
        run.network.set_backend(options.backend)
    except ValueError as error:
        raise UserError(str(error)) from error
    samples = _samples(run, options)
    loader = Loader(
        samples,
        options.batch_size or run.config.train.batch_size,
        run.meta.steps,
        pick_dtype(run.config.precision),
        device,
    )
    print(_report(run, options, samples, evaluate(run.network, loader)))


def _samples(run: Run, options: EvaluateConfig) -> Samples:
    from snn_delays.data.cache import open_frames
    from snn_delays.data.loaders import Samples
    from snn_delays.data.sources import check_classes, find_files, load_data

    if options.file is not None:
        store = open_frames(Path(options.file).expanduser(), run.config)
    elif options.split == "test":
        store = open_frames(find_files(run.config)["test"], run.config)
    else:
        return load_data(run.config).valid
    check_classes(store, run.meta.classes)
    return Samples.of(store)


def _report(run: Run, options: EvaluateConfig, samples: Samples, evaluation: Evaluation) -> str:
    test_selected = run.config.selection == "test-selected" and options.checkpoint == "best"
    note = "  (test-selected)" if test_selected and options.split == "test" else ""
    what = options.file or f"{options.split} data ({samples.stores[0].source})"
    lines = [f"{Path(options.run)}: epoch {run.meta.epoch}, deployed network (rounded delays)"]
    lines += [f"{what}", "", f"{'class':20} accuracy  [95 % interval]"]
    for name, score in evaluation.per_class(run.meta.classes).items():
        lines.append(f"{name:20} {score}{note}")
    groups = evaluation.per_speaker_group(samples.speakers, run.meta.speakers)
    for name, score in {**groups, "all": evaluation.score()}.items():
        lines.append(f"{name:20} {score}{note}")
    lines.append(f"loss {evaluation.loss:.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
