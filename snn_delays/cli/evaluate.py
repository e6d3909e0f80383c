"""``snn-delays evaluate run=<folder>``: accuracy or error of a run's deployed network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_delays.cli.app import run_command
from snn_delays.cli.deployed import SHORT
from snn_delays.config import EvaluateConfig
from snn_delays.errors import UserError
from snn_delays.output import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from snn_delays.data.loaders import Loader, Samples
    from snn_delays.deploy import Deployed
    from snn_delays.deploy.hardware import Hardware
    from snn_delays.evaluate import Evaluation
    from snn_delays.nn.loss import Loss
    from snn_delays.training.checkpoint import LoadedRun


def main() -> None:
    """Entry point."""
    run_command("evaluate", _evaluate, prints=True)


def _evaluate(options: EvaluateConfig) -> None:
    from snn_delays.training.error_messages import explained

    with explained("give a lower batch_size"):
        report, refusal = _evaluated(options)
    print(report)
    if refusal:
        raise UserError(refusal)


def _evaluated(options: EvaluateConfig) -> tuple[str, str]:
    """The report, and why the network does not fit the target; empty where it does."""
    from snn_delays.data.loaders import Loader
    from snn_delays.deploy.describe import refuse_targets
    from snn_delays.deploy.module import StreamModule, module_of
    from snn_delays.evaluate import evaluate
    from snn_delays.nn.loss import build_loss
    from snn_delays.runtime.device import pick_device, pick_dtype, tensor_cores
    from snn_delays.training.checkpoint import load_run

    device = pick_device(options.device)
    run = load_run(options.run, options.checkpoint, device)
    loss = build_loss(run.config, run.network, len(run.meta.classes))
    run.network.set_backend(options.backend)
    if options.target is not None:
        refuse_targets(run.config)
    module = module_of(run, **_roundings(options))
    samples = _samples(run, options)
    if isinstance(module, StreamModule) and options.backend != "auto":
        raise UserError(
            f"backend={options.backend} has no use for rounded numbers, whose network runs step by"
            " step."
        )
    x = next(run.network.parameters()).detach().new_empty(1, 1, run.config.data.channels)
    reason = run.network.eval().why_not(options.backend, x)
    if reason:
        raise UserError(f"backend={options.backend} cannot evaluate this network: {reason}.")
    loader = Loader(
        samples,
        options.batch_size or run.config.train.batch_size,
        run.meta.steps,
        pick_dtype(run.config.precision),
        device,
    )
    if run.config.data.target == "per_step":
        return _step_report(run, options, samples, loader, loss), ""
    with tensor_cores(run.config.precision):
        evaluation = evaluate(module, loader, loss)
    rounded = module.network if isinstance(module, StreamModule) else None
    report = _report(run, options, samples, evaluation, rounded)
    if options.target is None:
        return report, ""
    lines, refusal = _hardware(run, options, loader, rounded)
    return "\n".join([report, "", *lines]), refusal


def _roundings(options: EvaluateConfig) -> dict[str, Any]:
    """The arguments of ``from_run`` that the options give; ``fit`` gives those of the target."""
    from snn_delays.deploy.hardware import hardware

    given = {
        "arithmetic": options.arithmetic,
        "weights": options.weights,
        "delays": options.delays,
    }
    if not options.fit:
        return given
    if options.target is None or options.weights or options.arithmetic:
        raise UserError("fit=true needs target=..., and gives weights= and arithmetic= itself.")
    return {**given, **hardware(options.target).fit}


def _hardware(
    run: LoadedRun, options: EvaluateConfig, loader: Loader, rounded: Deployed | None
) -> tuple[list[str], str]:
    """The limits of the target, the accuracy of the network that is rounded for it, a refusal."""
    from snn_delays.deploy.describe import from_loaded
    from snn_delays.deploy.hardware import check, hardware

    assert options.target is not None
    chip = hardware(options.target)
    fitted, why_not = (None, "") if options.fit else _fitted(run, options, chip)
    network = rounded or from_loaded(run)
    if fitted is not None and fitted.digest == network.digest:
        fitted = None  # it is the network already
    findings = check(network, chip, _recordings(loader), can_round=fitted is not None)
    lines = [f"limits of {chip.name} (stated, not measured)", *map(str, findings)]
    over = sum(finding.excess > 0 for finding in findings)
    if not over:
        return lines, ""
    end = ""
    if why_not:
        lines.append(f"No network was made with {chip.options}. {why_not}")
    if fitted is not None:
        lines.append(_accuracy_of(fitted, chip, loader))
        end = " fit=true evaluates the network with the roundings that the target needs."
    one = "1 limit" if over == 1 else f"{over} limits"
    return lines, f"The network exceeds {one} of target={options.target}, listed above.{end}"


def _fitted(run: LoadedRun, options: EvaluateConfig, chip: Hardware) -> tuple[Deployed | None, str]:
    """The network with the roundings that the chip needs; None, and why there is none."""
    from snn_delays.deploy.describe import from_loaded

    try:
        return from_loaded(run, delays=options.delays, **chip.fit), ""
    except UserError as error:
        return None, str(error)


def _accuracy_of(fitted: Deployed, chip: Hardware, loader: Loader) -> str:
    """A line on the network with the roundings that the chip needs."""
    from snn_delays.deploy.hardware import check
    from snn_delays.deploy.module import StreamModule
    from snn_delays.evaluate import evaluate

    try:
        score = evaluate(StreamModule(fitted), loader).score()
        found = check(fitted, chip, _recordings(loader))
    except UserError as error:  # a channel counts too many spikes in a step
        return f"There is no accuracy with {chip.options}. {error}"
    left, unknown = sum(f.excess > 0 for f in found), sum(f.limit.most is None for f in found)
    also = f", {unknown} unknown" if unknown else ""
    return f"{'with ' + chip.options:20} {score}; {left} limits exceeded{also}"


def _recordings(loader: Loader) -> Iterator[NDArray[Any]]:
    """The frames [T, I] of each recording; one batch of them is held at a time."""
    for batch in loader.epoch():
        yield from (x.numpy() for x in batch.x.cpu().unbind(1))


def _samples(run: LoadedRun, options: EvaluateConfig) -> Samples:
    from snn_delays.data.dataset import check_classes, other_source
    from snn_delays.data.frame_cache import cache_folder, open_frames
    from snn_delays.data.loaders import Samples

    if options.file is None:
        return _noted_samples(run, Path(options.run).expanduser(), options.split)
    if options.split != "test":
        raise UserError("file=... and split=... exclude each other.")
    source = other_source(run.config, Path(options.file).expanduser(), run.meta.classes)
    store = open_frames(source, cache_folder(run.config.data))
    check_classes(store, run.meta.classes)
    return Samples.of(store)


def _noted_samples(run: LoadedRun, folder: Path, split: str) -> Samples:
    """The samples in the run's split.json; the options might split the recordings otherwise."""
    from snn_delays.data.dataset import stored_samples
    from snn_delays.training.run_folder import read_split

    noted = read_split(folder, run.split)
    if split not in noted:
        raise UserError(
            f"The run's protocol is {run.config.train.protocol}, which has no validation data;"
            " evaluate split=test."
        )
    return stored_samples(run.config, noted, split)


def _report(
    run: LoadedRun,
    options: EvaluateConfig,
    samples: Samples,
    evaluation: Evaluation,
    rounded: Deployed | None,
) -> str:
    note = _note(run, options)
    lines = _head(run, options, samples, rounded)
    lines += ["", f"{'class':20} accuracy  [95 % interval]"]
    for name, score in evaluation.per_class(run.meta.classes).items():
        lines.append(f"{one_line(name):20} {score}{note}")
    groups = evaluation.per_speaker_group(
        samples.speakers, run.meta.speakers, run.meta.valid_speakers
    )
    for name, score in {**groups, "all": evaluation.score()}.items():
        lines.append(f"{name:20} {score}{note}")
    lines.append(f"loss {evaluation.loss:.4f}{note}")
    return "\n".join(lines)


def _head(
    run: LoadedRun, options: EvaluateConfig, samples: Samples, rounded: Deployed | None = None
) -> list[str]:
    what = options.file or f"{options.split} data ({samples.stores[0].source})"
    return [f"{Path(options.run)}: epoch {run.meta.epoch}, {_network(rounded)}", what]


def _step_report(
    run: LoadedRun, options: EvaluateConfig, samples: Samples, loader: Loader, loss: Loss
) -> str:
    """The error of outputs per step."""
    from snn_delays.regression import evaluate_steps
    from snn_delays.runtime.device import tensor_cores

    with tensor_cores(run.config.precision):
        measured = evaluate_steps(run.network, loader, loss)
    note = _note(run, options)
    lines = [*_head(run, options, samples), "", f"{measured.error}{note}"]
    return "\n".join([*lines, f"loss {measured.loss:.4f}{note}"])


def _network(rounded: Deployed | None) -> str:
    if rounded is None:
        return "deployed network (rounded delays)"
    numbers = "integers" if rounded.is_integer else "floats"
    return f"deployed network of {numbers}, digest {rounded.digest[:SHORT]}"


def _note(run: LoadedRun, options: EvaluateConfig) -> str:
    """A note beside every number, if the epoch was chosen on the evaluated samples."""
    if options.checkpoint != "best" or options.file is not None:
        return ""
    if options.split == "valid":
        return "  (the epoch was selected on these)"
    return "  (test-selected)" if run.config.selection == "test-selected" else ""


if __name__ == "__main__":
    main()
