# mypy: allow-untyped-defs
"""The cache of kernels compiled by numba: one file per kernel, in the user's cache folder.

A file's name is a digest of everything that determines the kernel: the source of its module and of
the modules of this package that it imports, without comments, docstrings and line numbers; the
instructions of the functions that it calls, since a neuron may be defined outside of this package;
the compiler's options; the types of the arguments; the processor. A new clone of this package
therefore reuses the kernels of an old one. A file that is damaged or cannot be written is never an
error: the kernel is compiled again. If several processes need a kernel at once, one compiles it.

Cached kernels are executable code, so a folder that others can write to is not used.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import hashlib
import os
import pickle
import stat
import sys
import types
from collections.abc import Iterator
from numbers import Number
from pathlib import Path
from typing import Any

import numba
from numba.core import caching
from numba.core.serialize import dumps

from snn_delays.files import Locked, locked, replace_file, user_cache

PACKAGE = __name__.partition(".")[0]
MACHINERY = f"{PACKAGE}.runtime.numba_jit"
DIGEST = 32  # bytes of SHA-256, in front of every file
PATIENCE = 300  # seconds to wait for another process that compiles the same kernel


def keep(dispatcher: Any, options: str) -> None:
    """Let a numba dispatcher use the cache, if a usable folder exists.

    Args:
        dispatcher: the result of ``numba.njit``.
        options: everything besides the source that determines the code, as text.
    """
    folder = _folder()
    if folder is not None:
        dispatcher._cache = _KernelCache(dispatcher.py_func, folder, options)


@functools.cache
def _folder() -> Path | None:
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen).absolute() if chosen else user_cache() / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK) and _is_private(folder)
    except OSError:
        return None
    return folder if usable else None


def _is_private(folder: Path) -> bool:
    if not hasattr(os, "geteuid"):  # Windows keeps the user's folders from others
        return True
    status = folder.stat()
    writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == os.geteuid() and not writable_by_others


class _Locator(caching._CacheLocator):
    """Tells numba the folder; ``_KernelFiles`` reads and writes the files."""

    def __init__(self, py_file):
        self._py_file = py_file  # numba's warnings name it

    def get_cache_path(self):
        return str(_folder())

    def get_source_stamp(self):
        return ""

    def get_disambiguator(self):
        return ""

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_file)


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012


_held: dict[Path, contextlib.ExitStack] = {}  # the locks of compilations


class _KernelCache(caching.FunctionCache):
    _impl_class = _Implementation

    def __init__(self, function, folder, options):
        super().__init__(function)
        name = f"{function.__module__}.{function.__qualname__}"
        code = _instructions(function)
        text = f"{name} {sys.version} {numba.__version__} {options} {code}".encode()
        shape = hashlib.sha256(text + source_digest(function.__module__)).hexdigest()
        self._cache_file = _KernelFiles(folder, function.__name__, shape)

    def load_overload(self, sig, target_context):
        """A kernel from its file; if there is none, its lock is held until ``save_overload``."""
        found = self._load_if_sound(sig, target_context)
        if found is None:
            path = self._path(sig, target_context.codegen())
            _hold(path)
            found = self._load_if_sound(sig, target_context)
            if found is not None:
                _release(path)
        return found

    def _load_if_sound(self, sig, target_context):
        with contextlib.suppress(Exception):  # any damaged file: compile again
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig, data):
        with contextlib.suppress(OSError):  # such as a full disk
            super().save_overload(sig, data)
        _release(self._path(sig, data.codegen))

    def _path(self, sig, codegen):
        return self._cache_file.path(self._index_key(sig, codegen)).with_suffix(".lock")


def _hold(path: Path) -> None:
    """Wait for the lock, unless this process holds it from a compilation that failed."""
    if path not in _held:
        lock = contextlib.ExitStack()
        with contextlib.suppress(OSError, Locked):  # compile beside the other process
            lock.enter_context(locked(path, wait=True, most=PATIENCE))
            _held[path] = lock


def _release(path: Path) -> None:
    """Release the lock and remove its file, if this process holds it."""
    if path in _held:
        _held.pop(path).close()
        with contextlib.suppress(OSError):  # Windows keeps the file while another process waits
            path.unlink()


class _KernelFiles:
    """Replaces numba's index and data files."""

    def __init__(self, folder: Path, name: str, shape: str) -> None:
        self._folder, self._name, self._shape = folder, name, shape

    def path(self, key: Any) -> Path:
        digest = hashlib.sha256(f"{self._shape} {key}".encode()).hexdigest()
        return self._folder / f"{self._name}-{digest[:24]}.kernel"

    def load(self, key: Any) -> Any:
        content = self.path(key).read_bytes()
        digest, payload = content[:DIGEST], content[DIGEST:]
        if hashlib.sha256(payload).digest() != digest:
            raise ValueError("damaged")
        return pickle.loads(payload)

    def save(self, key: Any, data: Any) -> None:
        payload = dumps(data)
        replace_file(self.path(key), hashlib.sha256(payload).digest() + payload)


def _instructions(function: Any) -> str:
    """What a function does, and the compiled functions, numbers and tuples that it uses."""
    code = function.__code__
    numbers = [value for value in code.co_consts if isinstance(value, Number | tuple)]
    used = [function.__globals__.get(name) for name in code.co_names]
    called = [_instructions(value.py_func) for value in used if hasattr(value, "py_func")]
    values = [value for value in used if isinstance(value, Number | tuple)]
    return repr((code.co_code, code.co_names, numbers, values, called))


@functools.cache
def source_digest(module: str) -> bytes:
    """Digest of the sources of a module and of all modules of this package that it imports.

    ``MACHINERY`` is left out; ``keep`` gets its options as an argument.
    """
    seen: dict[str, str] = {}
    _collect(module, seen)
    return hashlib.sha256(repr(sorted(seen.items())).encode()).digest()


def _collect(module: str, seen: dict[str, str]) -> None:
    if module in seen or module == MACHINERY:
        return
    file = sys.modules[module].__file__
    assert file is not None
    seen[module], imports = _content(Path(file).read_text("utf-8"))
    for origin, name in imports:
        inside = f"{origin}.{name}"
        _collect(inside if inside in sys.modules else origin, seen)


@functools.cache
def _content(source: str) -> tuple[str, list[tuple[str, str]]]:
    """What a source does, and what it imports from this package: (module, name)."""
    whole = compile(source, "", "exec", dont_inherit=True, optimize=2)  # 2: without docstrings
    codes = list(_nested(whole))
    return repr([_without_lines(code) for code in codes]), [
        found for code in codes for found in _imports(code)
    ]


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those of its functions, classes and their own functions."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _without_lines(code: types.CodeType) -> tuple[Any, ...]:
    constants = [
        sorted(map(repr, value)) if isinstance(value, frozenset) else value
        for value in code.co_consts
        if not isinstance(value, types.CodeType)
    ]
    names = code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    return names, counts, code.co_code, constants


def _imports(code: types.CodeType) -> Iterator[tuple[str, str]]:
    """(module, name) for ``from module import name``, if the module is of this package."""
    if not any(name.startswith(f"{PACKAGE}.") for name in code.co_names):
        return
    module = ""
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            module = str(step.argval)
        elif step.opname == "IMPORT_FROM" and module.startswith(f"{PACKAGE}."):
            yield module, str(step.argval)
