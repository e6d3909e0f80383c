"""Searches: optuna draws the options of each run, to maximise the validation accuracy."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import OmegaConf

from snn_delays.cli.groups import Schema
from snn_delays.cli.sweep import Failed, all_overrides, check_run
from snn_delays.cli.sweep_summary import best_trial
from snn_delays.config import Config, SearchConfig, validate
from snn_delays.errors import UserError
from snn_delays.files import replace_file
from snn_delays.runtime.distributed import process_info

if TYPE_CHECKING:
    from optuna import Study

INSTALL = "pip install 'snn-delays[search]'"


@contextlib.contextmanager
def searches(command: str) -> Iterator[None]:
    """A context in which ``hydra/sweeper=optuna`` searches options of ``command``.

    The class ``Plugins`` is patched, since Hydra only instantiates sweepers of its package
    ``hydra_plugins``.
    """
    make: Any = Plugins.instantiate_sweeper

    def instantiate(plugins: Plugins, *, config: Any, **context: Any) -> Any:
        if OmegaConf.get_type(config.hydra.sweeper) is not SearchConfig:
            return make(plugins, config=config, **context)
        return Search(command, config, context)

    Plugins.instantiate_sweeper = instantiate  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Plugins.instantiate_sweeper = make  # type: ignore[method-assign]


class Search:
    """Hydra's sweeper for a search.

    Args:
        command: the command whose options are searched.
        config: the configuration of the multirun.
        context: Hydra's context and the task, as its launchers take them.
    """

    def __init__(self, command: str, config: Any, context: dict[str, Any]) -> None:
        self.config, self.hydra_context = config, context["hydra_context"]
        options: Any = OmegaConf.to_object(config.hydra.sweeper)
        validate(options)
        self._command, self._options = command, options
        self.params = options.params or {}
        self._launcher = Plugins.instance().instantiate_launcher(config=config, **context)
        self._trials: list[tuple[list[str], float | None]] = []  # as ``best_trial`` takes them

    def sweep(self, arguments: list[str]) -> None:
        """Run all trials, then print the best one, also of a search that ends early.

        Args:
            arguments: overrides of the command line, in Hydra's grammar.

        Raises:
            UserError: optuna is not installed, an option is invalid, or too many trials failed.
        """
        study = new_study(self._options.seed)
        given = {o.get_key_element(): o for o in all_overrides(self, arguments)}
        space = {name: distribution(o) for name, o in given.items() if o.is_sweep_override()}
        fixed = {n: o.get_value_element_as_str() for n, o in given.items() if n not in space}
        if not space:
            raise UserError("A search needs an option to search: model.tau_ms=interval(11,60).")
        self._check(fixed, space)
        try:
            self._run(study, fixed, space)
        finally:
            self._conclude(study)

    def _check(self, fixed: dict[str, str], space: dict[str, Any]) -> None:
        """Refuse options that are invalid at an end of what is searched."""
        ends = {name: getattr(d, "choices", None) or (d.low, d.high) for name, d in space.items()}
        first = {name: among[0] for name, among in ends.items()}
        for name, among in ends.items():
            for value in among:
                run = _overrides({**fixed, **first, name: value})
                _check_search(check_run(self, self._command, run, f"With {name}={value}"))

    def _run(self, study: Study, fixed: dict[str, str], space: dict[str, Any]) -> None:
        from optuna.trial import TrialState

        count, rate = self._options.n_trials, self._options.max_failure_rate
        for start in range(0, count, self._options.n_jobs):
            size = min(self._options.n_jobs, count - start)
            asked = [study.ask(space) for _ in range(size)]
            runs = [_overrides({**fixed, **trial.params}) for trial in asked]
            jobs = self._launcher.launch(runs, initial_job_idx=start)
            for trial, run, job in zip(asked, runs, jobs, strict=True):
                failed = job.return_value == Failed()
                accuracy = None if failed else job.return_value["valid"]["accuracy"]
                study.tell(trial, accuracy, TrialState.FAIL if failed else TrialState.COMPLETE)
                self._trials.append((run, accuracy))
            failures = sum(accuracy is None for _, accuracy in self._trials)
            if failures > rate * count or failures == count:
                raise UserError(
                    f"The search has ended after {len(self._trials)} of {count} trials, of which"
                    f" {failures} failed (hydra.sweeper.max_failure_rate={rate:g})."
                )

    def _conclude(self, study: Study) -> None:
        """Print and write the best trial, if one has ended."""
        if self._trials:
            print(f"\n{best_trial(self._trials)}", flush=True)
        if any(accuracy is not None for _, accuracy in self._trials):
            best = {"best_params": study.best_params, "best_value": study.best_value}
            path = Path(self.config.hydra.sweep.dir) / "optimization_results.yaml"
            replace_file(path, yaml.safe_dump(best).encode())


def new_study(seed: int) -> Study:
    """A study of optuna that maximises, with its tree-structured Parzen estimator.

    Raises:
        UserError: optuna is not installed, or torchrun has started this process.
    """
    if process_info().world_size > 1:
        raise UserError("A search takes one process; start it without torchrun.")
    try:
        import optuna
    except ImportError as error:
        raise UserError(f"A search needs optuna: {INSTALL}.") from error
    if not hasattr(optuna.distributions, "FloatDistribution"):
        raise UserError(f"A search needs a newer optuna than {optuna.__version__}: {INSTALL}.")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed)
    return optuna.create_study(direction="maximize", sampler=sampler)


def distribution(override: Override) -> Any:
    """The distribution of an option with several values: a choice, a range or an interval.

    Raises:
        UserError: optuna cannot draw from the values.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: Any = override.value()
    is_range = override.is_range_sweep()
    if not is_range and not override.is_interval_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    numbers = list(space.range()) if is_range else [space.start, space.end]
    if not numbers:
        raise UserError(f"{override.input_line} holds no value.")
    step = {"step": abs(space.step)} if is_range else {}
    kind: Any = IntDistribution if all(isinstance(n, int) for n in numbers) else FloatDistribution
    try:
        return kind(min(numbers), max(numbers), log="log" in space.tags, **step)
    except ValueError as error:  # such as the logarithm of 0
        raise UserError(f"{override.input_line} cannot be searched: {error}") from error


def option_at(name: str, values: Any, place: float) -> str:
    """The override that sets an option to a value at a place within those that are searched.

    Args:
        name: the option.
        values: a list, or text in Hydra's grammar: choice(...), range(...), interval(...), or
            tag(log, interval(...)), whose values have three digits.
        place: in [0, 1); equal parts of it hold equally many values, of log intervals equal ratios.

    Raises:
        UserError: the values cannot be read, or are a single one.
    """
    if isinstance(values, list) and values:
        return f"{name}={json.dumps(values[int(place * len(values))])}"
    text = f"{name}={values}"
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise UserError(f"The searched values {text} cannot be read.") from error
    if not override.is_sweep_override():
        raise UserError(
            f"{text} holds no values to search: write a list, range(...), interval(...) or"
            " tag(log, interval(...))."
        )
    space: Any = override.value()
    if not override.is_interval_sweep():
        among = list(override.sweep_string_iterator())
        return f"{name}={among[int(place * len(among))]}"
    low, high = space.start, space.end
    if "log" in space.tags and low <= 0:
        raise UserError(f"{text} cannot be searched: a logarithm needs values above 0.")
    value = low * (high / low) ** place if "log" in space.tags else low + place * (high - low)
    return f"{name}={value:.3g}"


def _overrides(values: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


def _check_search(config: Schema) -> None:
    """Refuse options with which a search would read the test set."""
    if not isinstance(config, Config):
        raise UserError("hydra/sweeper=optuna searches options of `snn-delays train` alone.")
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
