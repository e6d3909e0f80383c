"""Options as dataclass fields with help texts and bounds, and the checks of their values.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from snn_delays.errors import UserError

# Upper bounds of numbers without a bound of their own, so that no arithmetic overflows.
MOST = 1_000_000  # of counts: epochs, samples, steps, channels, neurons
LARGEST_SEED = 2**63 - 1  # the limit of torch's generators
LARGEST = 1e38  # of real numbers; float32 ends at 3.4e38

MOST_MEANT = 4  # names in "Did you mean ...?"
WRITTEN = {"source": "in"}  # field name -> option name, which is a keyword of Python
PLAIN = (type(None), bool, int, float, str, list, dict)  # the types of values in YAML
MOST_LISTED = 10  # choices in a message
# a user's class or function: its module, its name, and the start of the module's SHA-256
OWN_PART = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)(?:@([0-9a-f]{12}))?")


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    path: bool | str = False,
    own: str = "",
    synonyms: dict[str, str] | None = None,
) -> Any:
    """A dataclass field with its help text and bounds; a list default is copied per instance.

    Args:
        default: of the option.
        help: one phrase, with the unit.
        choices: the allowed values, if there are few.
        at_least: lower bound of the number, or of every number in a list.
        above: lower bound, itself excluded.
        at_most: upper bound.
        below: upper bound, itself excluded.
        path: whether the text is a path, in which ``~`` is the home folder; "folder": a folder's.
        own: the interface of a user's class or function, which may be named in place of a choice.
        synonyms: common words, in small letters, for one of ``choices``, for a hint in the error
            message.
    """
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    if own:
        help = f"{help}; module:name: {own}"
    metadata: dict[str, Any] = {"help": help, "choices": choices, "bounds": bounds, "path": path}
    metadata["own"] = own
    metadata["synonyms"] = synonyms or {}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    if dataclasses.is_dataclass(default):
        return field(default_factory=default, metadata=metadata)  # type: ignore[arg-type]
    return field(default=default, metadata=metadata)


def options(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Every leaf option as (dotted name, value, field)."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from options(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", value, f


def from_dict(kind: type[Any], values: dict[str, Any], prefix: str = "") -> Any:
    """A configuration from nested plain values, the result of ``dataclasses.asdict``.

    Raises:
        UserError: ``values`` is not a dictionary, or has an unknown key.
    """
    if not isinstance(values, dict):
        where = prefix.rstrip(".") or "the whole"
        raise UserError(f"{where}={shown(values)} must be a group of options.")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in values.keys() - fields.keys():
        raise UserError(f"There is no option {prefix}{key}.{nearest(str(key), list(fields))}")
    made = {}
    for key, value in values.items():
        factory = fields[key].default_factory
        if isinstance(factory, type) and dataclasses.is_dataclass(factory):
            value = from_dict(factory, value, f"{prefix}{key}.")
        made[key] = value
    return kind(**made)


def shown(value: object, most: int = 80) -> str:
    """A value as a command line has it, for a message; cut after ``most`` letters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value).replace(", ", ",") if isinstance(value, list) else str(value)
    return text if len(text) <= most else f"{text[:most]}..."


def did_you_mean(names: Sequence[str]) -> str:
    """`` Did you mean 'x' or 'y'?``, or nothing without names."""
    *rest, last = map(repr, names or [""])
    return f" Did you mean {', '.join(rest)}{' or ' * bool(rest)}{last}?" if names else ""


def is_own(value: object) -> bool:
    """Whether a value names a class or function of the user's, as ``module:name``."""
    return isinstance(value, str) and ":" in value


def not_one_of(given: str, choices: Sequence[str], hint: str) -> str:
    """The sentence that refuses a value, with the hint alone where there are many choices.

    Args:
        given: the option and its value, as in "data=shdd".
        choices: the allowed values.
        hint: what ``nearest_choice`` returned.
    """
    if hint and len(choices) > MOST_LISTED:
        return f"There is no {given}.{hint} --help lists all {len(choices)}."
    return f"{given} is not one of {listed(choices)}.{hint}"


def listed(names: Sequence[str]) -> str:
    """Names between commas, at most ten of them."""
    more = len(names) - MOST_LISTED
    rest = f" and {more} more, which --help lists" if more > 0 else ""
    return ", ".join(names[:MOST_LISTED]) + rest


def nearest(name: str, valid: Sequence[str]) -> str:
    """`` Did you mean 'x'?`` for the valid names that ``close_matches`` finds, or nothing."""
    return did_you_mean(close_matches(name, valid))


def nearest_choice(
    value: str, choices: Sequence[str], synonyms: Mapping[str, str] | None = None
) -> str:
    """`` Did you mean 'x'?`` for the choice of an option that ``value`` may mean, or nothing."""
    synonym = (synonyms or {}).get(value.lower())
    return did_you_mean([synonym]) if synonym else nearest(value, choices)


def close_matches(name: str, valid: Sequence[str], cutoff: float = 0.5) -> list[str]:
    """The valid names that ``name`` may mean, without regard to case; at most ``MOST_MEANT``.

    The first of these that there is: the name whose last part ``name`` is, and the shortest of
    several; names whose last part begins so; the one name that is spelled most alike.

    Args:
        name: the name that the user wrote.
        valid: the valid names, such as "train.epochs".
        cutoff: smallest accepted similarity, from 0 to 1.
    """
    name = name.lower()
    whole = {full.lower(): full for full in valid}
    ends = {full.rpartition(".")[2]: full for full in sorted(whole, key=len, reverse=True)}
    if name in whole or name in ends:
        return [whole[name if name in whole else ends[name]]]
    if begun := [full for end, full in ends.items() if name and end.startswith(name)]:
        first = sorted(begun, key=lambda full: (full.count("."), list(whole).index(full)))
        return [whole[full] for full in first[:MOST_MEANT]]
    close = difflib.get_close_matches(name, whole, n=1, cutoff=cutoff)
    close = close or difflib.get_close_matches(name, ends, n=1, cutoff=max(cutoff, 0.6))
    return [whole[ends.get(end, end)] for end in close]


def check_types(config: Any, prefix: str = "") -> None:
    """Check that every attribute of a dataclass, including nested ones, is a field of its type.

    Raises:
        UserError: an attribute is no field, or has another type; the message names it.
    """
    hints = typing.get_type_hints(type(config))
    for name in vars(config).keys() - hints.keys():
        known = [option for option, _, _ in options(config)]
        raise UserError(f"There is no option {prefix}{name}.{nearest(name, known)}")
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), f"{prefix}{f.name}"
        if not _fits(value, hints[f.name]):
            written, kind = WRITTEN.get(name, name), type(value)
            given = "" if kind in PLAIN else f", not {kind.__name__}"
            raise UserError(f"{written}={shown(value)} must be {type_name(hints[f.name])}{given}.")
        if dataclasses.is_dataclass(value):
            check_types(value, f"{name}.")


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is types.UnionType:
        return any(_fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        (part,) = typing.get_args(hint)
        return isinstance(value, list) and all(_fits(v, part) for v in value)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, int | float) if hint is float else isinstance(value, hint)


def type_name(hint: Any) -> str:
    """A type in words: "a number, or null"."""
    if typing.get_origin(hint) is types.UnionType:
        return ", or ".join(type_name(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        names = typing.get_args(hint) == (str,)
        return "a list of " + (
            "names, such as [anna,3]" if names else "whole numbers, as [256,256]"
        )
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return f"a group of options ({hint.__name__})"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(
        hint, "null"
    )


def check_values(config: Any) -> None:
    """Check the choices and bounds of every option.

    Raises:
        UserError: names the option, its value and what is allowed.
    """
    for name, value, f in options(config):
        _check_value(WRITTEN.get(name, name), value, f.metadata)


def check_options(group: type, **values: Any) -> None:
    """Check values against the choices and bounds of a group's options.

    Raises:
        UserError: a value is not allowed.
    """
    for option in dataclasses.fields(group):
        if option.name in values:
            _check_value(option.name, values[option.name], option.metadata)


def _check_value(name: str, value: Any, metadata: Any) -> None:
    choices = metadata["choices"]
    if metadata["own"] and is_own(value):
        _check_own(name, value)
    elif choices and value is not None and value not in choices:
        hint = nearest_choice(str(value), choices, metadata["synonyms"])
        own = " Write your own as module:name." if metadata["own"] else ""
        raise UserError(not_one_of(f"{name}={value}", choices, hint) + own)
    if value == "":
        raise UserError(f"{name}= is empty; give a value, or null.")
    for part in value if isinstance(value, list) else [value]:
        within = f" in {name}" if isinstance(value, list) else ""
        if part == "":
            raise UserError(f"An entry of {name}={value} is empty.")
        if isinstance(part, str) and "\0" in part:
            raise UserError(f"{name} holds a zero byte, which no name and no path has.")
        if isinstance(part, int | float) and not isinstance(part, bool):
            _check_bounds("" if within else f"{name}=", part, within, metadata["bounds"])


def _check_own(name: str, value: str) -> None:
    if not OWN_PART.fullmatch(value) or value.partition(":")[0].endswith(".py"):
        raise UserError(
            f"{name}={shown(value)} cannot be read: write module:name, such as mine:Adaptive for"
            " Adaptive in mine.py."
        )


def _check_bounds(prefix: str, number: float, within: str, bounds: dict[str, float | None]) -> None:
    tests = {
        "at_least": lambda bound: number >= bound,
        "above": lambda bound: number > bound,
        "at_most": lambda bound: number <= bound,
        "below": lambda bound: number < bound,
    }
    for kind, bound in bounds.items():
        if bound is not None and not tests[kind](bound):  # NaN fails every test
            raise UserError(
                f"{prefix}{_shown(number)}{within} must be {kind.replace('_', ' ')}"
                f" {_shown(bound)}."
            )


def _shown(number: float) -> str:
    """A number as text; a huge integer, which no float can hold, by its number of bits."""
    if not isinstance(number, int):
        return f"{number:g}"
    return str(number) if abs(number) < 10**20 else f"a number of {number.bit_length()} bits"
