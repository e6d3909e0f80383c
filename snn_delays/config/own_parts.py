"""Own parts: a user's classes and functions, which options name as ``module:name``.

Python finds the module where it finds others: among the installed packages, in a folder of
PYTHONPATH, and, last, in the current folder. ``pinned`` appends the first 12 hex digits of the
SHA-256 of the module's file, as in ``mine:Adaptive@1f2e3d4c5b6a``. A run's stored options are
pinned, and ``load`` refuses a file of other content, before any of it runs. A run therefore never
continues with changed code. Modules that the user's module imports are not covered.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from snn_delays.config.options import OWN_PART, is_own, nearest, options
from snn_delays.config.schema import Config
from snn_delays.errors import UserError

C = TypeVar("C")

_imported: dict[str, str] = {}  # SHA-256 of each module's file when this process imported it


@dataclass(frozen=True)
class OwnPart:
    """A class or function of the user's.

    Attributes:
        option: dotted name of the option that names it.
        value: the option's value, ``module:name`` or ``module:name@digits``.
    """

    option: str
    value: str

    @property
    def _words(self) -> tuple[str, str, str | None]:
        """Module, name, and the digits if the value is pinned."""
        match = OWN_PART.fullmatch(self.value)
        if match is None:
            raise self.refused("it is not of the form module:name")
        return match[1], match[2], match[3]

    @property
    def name(self) -> str:
        """``module:name``, without digits."""
        return self.value.partition("@")[0]

    def refused(self, why: str) -> UserError:
        """The error that says why the part cannot be used."""
        end = "" if why.endswith("?") else "."
        return UserError(f"{self.option}={self.name}: {why.rstrip('.')}{end}")

    def file(self) -> Path:
        """The module's file; none of its code runs.

        Raises:
            UserError: there is no such module.
        """
        module, _, pin = self._words
        found = _find(module)
        if found is None:
            kept = " (the run's folder holds a copy in modules)" if pin else ""
            raise self.refused(
                f"there is no module {module} here, in the folders of PYTHONPATH or among the"
                " installed packages; run the command in its folder, or add that to"
                f" PYTHONPATH{kept}"
            )
        return found

    def digest(self) -> str:
        """SHA-256 of the module's file.

        Raises:
            UserError: there is no such module, or the value is pinned and the file has changed.
        """
        path, (_, _, pin) = self.file(), self._words
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if pin is not None and not found.startswith(pin):
            raise self.refused(
                f"{path} has changed: its SHA-256 begins with {found[: len(pin)]}, not {pin}; put"
                " the file back (the run's folder holds a copy in modules), or train anew in"
                " another out"
            )
        return found

    def pinned(self) -> str:
        """The value with the digits of the module's present file."""
        return f"{self.name}@{self.digest()[:12]}"

    def load(self) -> Any:
        """The class or function.

        Raises:
            UserError: see ``digest``; or its module cannot be imported, or lacks the name.
        """
        (module, name, _), digest, path = self._words, self.digest(), self.file()
        stale = f"this process has imported another {module} than {path}; start a new process"
        if _imported.setdefault(module, digest) != digest:
            raise self.refused(stale)
        try:
            found = importlib.import_module(module)
        except Exception as error:
            _imported.pop(module)
            raise self.refused(f"{path} cannot be imported: {_described(error, path)}") from error
        if found.__file__ != str(path):
            raise self.refused(stale)
        if not hasattr(found, name):
            hint = nearest(name, [key for key in vars(found) if not key.startswith("_")])
            raise self.refused(f"{path} has no {name}.{hint}")
        return getattr(found, name)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """A context for the part's first calls: an error becomes a UserError with the interface."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise self.misfit(_described(error, self.file())) from error

    def misfit(self, why: str) -> UserError:
        """The error that says why the part has another interface than its option wants."""
        wanted = next(f.metadata["own"] for n, _, f in options(Config()) if n == self.option)
        return self.refused(f"{why}; it must be {wanted}")


def own_parts(config: Any) -> list[OwnPart]:
    """The own parts that a configuration names."""
    fields = [(n, value) for n, value, f in options(config) if f.metadata["own"]]
    return [OwnPart(name, value) for name, value in fields if is_own(value)]


def pinned(config: C) -> C:
    """A copy of a configuration in which every own part is pinned.

    Raises:
        UserError: a module does not exist, or is pinned and has changed.
    """
    made = copy.deepcopy(config)
    for part in own_parts(made):
        *groups, key = part.option.split(".")
        setattr(functools.reduce(getattr, groups, made), key, part.pinned())
    return made


def describe(config: Config) -> dict[str, dict[str, str]]:
    """For every own part its value, its file and that file's SHA-256, by option."""
    return {
        part.option: {"part": part.value, "file": str(part.file()), "sha256": part.digest()}
        for part in own_parts(config)
    }


def copies(config: Config) -> dict[str, bytes]:
    """The content of every own part's file, by the path at which the module would be found."""
    return {
        part.value.partition(":")[0].replace(".", "/")
        + part.file().suffix: part.file().read_bytes()
        for part in own_parts(config)
    }


def call(part: Any, *given: Any, **offered: Any) -> Any:
    """``part(*given, ...)`` with those of the offered values that its signature names."""
    names = parameters(part)
    return part(*given, **{name: value for name, value in offered.items() if name in names})


def parameters(part: Any) -> set[str]:
    """Names of the parameters of a function or class.

    What ``__init__(self, ..., **kwargs)`` passes on counts, too: the names of its base classes.
    """
    bases = inspect.getmro(part) if isinstance(part, type) else ()
    steps = [vars(kind)["__init__"] for kind in bases if "__init__" in vars(kind)] or [part]
    names: set[str] = set()
    for step in steps:
        signature = inspect.signature(step).parameters
        names |= signature.keys()
        if not any(p.kind is p.VAR_KEYWORD for p in signature.values()):
            break
    return names


def _find(module: str) -> Path | None:
    """The file of a module, without running any code of its packages; None: there is none."""
    if not {"", os.getcwd()} & {*sys.path}:
        sys.path.append("")
    importlib.invalidate_caches()  # the file may be new
    places: Sequence[str] | None = None
    spec, path = None, ""
    for word in module.split("."):
        path = f"{path}.{word}".lstrip(".")
        found = (f.find_spec(path, places) for f in sys.meta_path if hasattr(f, "find_spec"))
        spec = next((s for s in found if s is not None), None)
        if spec is None:
            return None
        places = spec.submodule_search_locations
        if places is None and path != module:
            return None
    return Path(spec.origin).absolute() if spec and spec.origin and spec.has_location else None


def _described(error: Exception, path: Path) -> str:
    """An error in a line of words, with its line in the user's file."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    line = next((f"line {f.lineno}: " for f in reversed(frames) if f.filename == str(path)), "")
    return f"{line}{type(error).__name__}: {' '.join(str(error).split())}"
