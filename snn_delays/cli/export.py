"""``snn-delays export run=<folder> target=c out=<folder>``: a run's network in another form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from snn_delays.cli.app import run_without_hydra
from snn_delays.cli.deployed import deployed
from snn_delays.config import ExportConfig
from snn_delays.errors import UserError, message_of
from snn_delays.files import new_folder

if TYPE_CHECKING:
    from snn_delays.deploy import Deployed
    from snn_delays.deploy.verify import HeldOut


def main() -> None:
    """Entry point."""
    run_without_hydra("export", _export, prints=False)


def _export(given: ExportConfig) -> None:
    from snn_delays.deploy.export import target
    from snn_delays.deploy.verify import verify

    out = Path(given.out).expanduser()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"out={out} is there already: give a new folder, or an empty one.")
    network, form = deployed(given), target(given.target)
    network.ends(1)  # refuses one without a stored length
    reason = form.refusal(network)
    if reason:
        raise UserError(f"target={given.target} cannot hold this network: {reason}")
    held_out = _held_out(given, network) if given.verify else None
    try:
        with new_folder(out) as folder:
            form.write(network, folder)
            sentence, is_equal = verify(given.target, network, folder, held_out)
    except OSError as error:
        raise UserError(f"out={out} cannot be written: {message_of(error)}.") from error
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}. {sentence}")
    if not is_equal:
        raise UserError(f"The export in {out} is not the network: verify.json has the numbers.")


def _held_out(given: ExportConfig, network: Deployed) -> HeldOut:
    """Recordings to verify on, spread evenly over all of them."""
    from snn_delays.deploy.recordings import recordings
    from snn_delays.deploy.verify import HeldOut

    if given.source is None:
        return _of_run(given)
    found = [*recordings(Path(given.source).expanduser(), network.front)]
    return HeldOut([found[n].frames for n in _spread(len(found), given.verify)], given.source)


def _of_run(given: ExportConfig) -> HeldOut:
    """Recordings that the run was tested on, and what evaluation says of them."""
    from snn_delays.analysis.trained_run import held_out_samples, open_run
    from snn_delays.deploy.module import module_of
    from snn_delays.deploy.network import network_file
    from snn_delays.deploy.verify import HeldOut
    from snn_delays.evaluate import evaluate
    from snn_delays.training.checkpoint import load_run

    if network_file(given.run).is_file():
        raise UserError(
            f"run={given.run} is a deployed network, which keeps no recordings: give in=, the"
            " recordings to verify on, or verify=0."
        )
    subject = open_run(given.run)
    samples = held_out_samples(subject, given.run)
    samples = replace(samples, rows=samples.rows[_spread(len(samples), given.verify)])
    one_by_one = subject.loader(samples, 1).epoch(0)
    frames = [b.x[:t, 0].numpy() for b, t in zip(one_by_one, samples.steps, strict=True)]
    told = f"{subject.split} data of {given.run}"
    if given.steps is not None:  # evaluate pads recordings as in training
        return HeldOut(frames, told)
    module = module_of(
        load_run(given.run, given.checkpoint),
        arithmetic=given.arithmetic,
        weights=given.weights,
        delays=given.delays,
    )
    evaluation = evaluate(module, subject.loader(samples))
    return HeldOut(frames, told, evaluation)


def _spread(count: int, wanted: int) -> list[int]:
    """So many of the numbers below ``count``, at equal distances."""
    n = min(count, wanted)
    return [k * count // n for k in range(n)]


if __name__ == "__main__":
    main()
