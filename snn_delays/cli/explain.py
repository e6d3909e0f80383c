"""Errors of Hydra and OmegaConf as one sentence each, with the nearest valid name."""

from __future__ import annotations

import re

from hydra.errors import OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from snn_delays.cli.groups import SCHEMAS, groups, meant_options, option_names
from snn_delays.config.options import (
    WRITTEN,
    did_you_mean,
    listed,
    nearest_choice,
    not_one_of,
    options,
    shown,
)
from snn_delays.errors import message_of

SEVERAL = "gives several values; add -m to run with each of them"
# Messages of Hydra and OmegaConf, and the sentences that replace them.
WORDINGS = {
    r"Ambiguous value for argument '(.+?)' 1\. ": rf"\1 {SEVERAL}, or write [a,b] for a list.",
    r"Sweep parameters '(.+)' requires --multirun": rf"\1 {SEVERAL}.",
    r"Could not append to config\. An item is already at '(.+?)'": (
        r"There is an option \1 already; leave the + in front of it out."
    ),
    r"Value '(.*)' of type '\w+' could not be converted to Integer": r"'\1' is not a whole number.",
    r"Value '(.*)' of type '\w+' could not be converted to Float": r"'\1' is not a number.",
    r"Value '(.*)' is not a valid bool": r"'\1' is neither true nor false.",
    r"Multiple values for (\S+?)\. ": r"\1 has a value already; leave the + in front of it out.",
}


def explain(error: Exception, command: str) -> str:
    """A sentence that explains ``error``.

    Args:
        error: an error of Hydra or OmegaConf in reading the options of ``command``.
        command: a key of ``SCHEMAS``.
    """
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    within = re.match(r"In '(.+?)': .*\n", str(cause))
    place = f"{within[1]}.yaml: " if within else ""
    sentence = _of_option(str(cause)[within.end() if within else 0 :], cause, command)
    return f"{place}{sentence}" if sentence else _of_override(error, command)


def _of_option(text: str, cause: Exception, command: str) -> str | None:
    """A sentence about the option that OmegaConf names, or None if it names none."""
    named = re.search(r"full_key: (\S+)", text)
    key = getattr(cause, "full_key", None) or (named[1] if named else "")
    written = WRITTEN.get(key, key)
    known = key.startswith("hydra.") or key.partition("[")[0] in option_names(command)
    if "not in '" in text:
        return _no_option(key, command)
    if known and "is not a ListConfig" in text:
        return f"{written} is a list; write '{written}=[a,b]'."
    if known and "is not Optional" in text:
        return f"{written}=null is not allowed; give a value."
    sentence = _reworded(text) or f"{text.partition(chr(10))[0].rstrip('.')}."
    return f"{written}: {sentence}" if known else None


def _of_override(error: Exception, command: str) -> str:
    """A sentence about an override that Hydra refuses."""
    text = message_of(error)
    absent = re.search(r"Could not find '([^']+)'", text)
    if absent:
        return _no_such_value(absent[1], command)
    absent = re.search(r"Could not override '([^']+)'", text)
    if absent:
        return _no_option(absent[1], command)
    if isinstance(error, OverrideParseException):
        return (
            f"The override {shown(error.override or '')} cannot be read; a text is quoted:"
            " option=\"'text'\"."
        )
    return _reworded(text) or text


def _reworded(text: str) -> str | None:
    """The sentence that replaces a message, or None if the message has none."""
    found = ((re.search(theirs, text), ours) for theirs, ours in WORDINGS.items())
    return next((match.expand(ours) for match, ours in found if match), None)


def _no_option(key: str, command: str) -> str:
    if key.partition(".")[0] == "experiment" or "@experiment" in key:
        return "The experiment's file must begin with the line `# @package _global_`."
    return f"There is no option {key}.{did_you_mean(meant_options(command, key.lower()))}"


def _no_such_value(path: str, command: str) -> str:
    """A sentence about a missing ``path`` group/value; the value may contain slashes."""
    for group, values in groups(command).items():
        if path.startswith(f"{group}/"):
            value = path.removeprefix(f"{group}/")
            named = [f for name, _, f in options(SCHEMAS[command]()) if name == f"{group}.name"]
            hint = nearest_choice(value, values, *(f.metadata["synonyms"] for f in named))
            return not_one_of(f"{group}={value}", values, hint)
    return f"There is no configuration {path}."


def unforeseen(error: Exception, overrides: list[str], command: str) -> str:
    """A sentence about an error in reading the options that is not one of Hydra's own.

    Args:
        error: any error.
        overrides: the overrides that caused it, if known.
        command: a key of ``SCHEMAS``.
    """
    given = " ".join(map(shown, overrides)) or "Hydra"
    group, _, value = overrides[0].lstrip("+").partition("=") if overrides else ("", "", "")
    choices = groups(command).get(group)
    if choices and value not in choices:
        choice = f"leave it out, or choose one of {listed(choices)}"
        return f"The options cannot be read: {given} names no file; {choice}."
    reason = message_of(error).partition("full_key")[0].rstrip() or type(error).__name__
    return f"The options cannot be read: {given}: {reason.rstrip('.')}."
