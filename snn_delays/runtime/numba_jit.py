"""Loops compiled by numba, if numba is installed; each has a slower implementation without it.

A kernel's first argument is ``jobs``, and it splits its work by ``for job in prange(jobs)``. The
number of jobs is torch's number of threads; they run on torch's OpenMP threads if torch and numba
share a runtime.
"""

from __future__ import annotations

import functools
import itertools
import os
import secrets
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MISSING = "numba is not installed (pip install numba)"
try:
    import numba
    from llvmlite import binding as llvm
    from numba import prange
    from numba.core import bytecode, codegen, event
    from numba.core.environment import lookup_environment
    from numba.core.registry import CPUDispatcher, cpu_target
    from numba.cpython.unsafe.tuple import tuple_setitem as set_item

    from snn_delays.runtime import kernel_cache
except ImportError as error:  # the slower implementations are used
    numba = None
    prange = range
    set_item = None
    if error.name != "numba":
        MISSING = f"numba cannot be imported: {error}"

__all__ = [
    "Kernel",
    "available",
    "inner",
    "kernel",
    "prange",
    "set_item",
    "why_not",
]

# Sums may be reordered and products fused; infinities and NaN stay what they are.
FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}
OPTIONS: dict[str, Any] = {
    "nopython": True,
    "error_model": "numpy",
    "boundscheck": False,
    "nogil": True,
    "no_cfunc_wrapper": True,
}
# The FFT's butterflies and the fused scans use many arrays in a loop. By default LLVM's vectoriser
# gives up on checking that so many arrays do not overlap, or checks once for the whole outer loop,
# which fails for interleaved outputs.
LLVM_OPTIONS = [
    "-runtime-memory-check-threshold=500",
    "-memory-check-merge-threshold=5000",
    "-vectorize-memory-check-threshold=500",
]
LINKING = "under own names, optimised in the kernel alone"  # of functions: see _Library
# Names of numba's libraries for the body of a parallel loop, and for two wrappers around the body.
# All three are linked into the kernel, whose copies run.
LOOP_BODY = "__numba_parfor_gufunc"
LOOP_WRAPPERS = ("<numba.np.ufunc.wrappers._GufuncWrapper ", "parallelgufuncwrapper")
if numba is not None and llvm.llvm_version_info >= (17,):
    LLVM_OPTIONS.append("-hoist-runtime-checks=false")


def available() -> bool:
    """Whether compiled loops can be used."""
    return numba is not None


def why_not() -> str | None:
    """The reason why compiled loops cannot be used, or None if they can."""
    return None if available() else MISSING


def inner(function: Callable[..., Any], *, fastmath: Any = FAST_MATH) -> Callable[..., Any]:
    """Compile a function that only kernels can call."""
    return _compile(function, inline="never", no_cpython_wrapper=True, fastmath=fastmath)


def kernel(function: Callable[..., Any], *, fastmath: Any = FAST_MATH) -> Kernel:
    """Compile a function of (jobs, ...) whose jobs run in parallel."""
    return Kernel(function, fastmath)


class Kernel:
    """A compiled function; callers leave out ``jobs``, which is chosen here.

    In a process that was forked after a parallel run the function runs serially, since OpenMP's
    threads do not survive a fork. Only one call runs at a time, since some of numba's thread pools
    do not allow more.
    """

    def __init__(self, function: Callable[..., Any], fastmath: Any) -> None:
        functools.update_wrapper(self, function)
        self.parallel = _compile(function, parallel=True, fastmath=fastmath)
        # another name, since kernels of one name could share symbols when loaded from the cache
        serial = types.FunctionType(function.__code__, function.__globals__)
        serial.__module__ = function.__module__
        serial.__qualname__ = serial.__name__ = f"{function.__name__}_serial"
        self.serial = _compile(serial, fastmath=fastmath)
        _kernels.update((function.__qualname__, serial.__qualname__))

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel on all jobs."""
        jobs = _state.jobs()
        if jobs == 1:
            return self.serial(1, *arguments)
        with _state.lock:
            _state.parallel_pid = os.getpid()
            return self.parallel(jobs, *arguments)


class _State:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.parallel_pid: int | None = None
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.lock = threading.RLock()
        _number_symbols()

    def jobs(self) -> int:
        """Torch's number of threads; one in a child of a process that ran in parallel."""
        if self.parallel_pid not in (None, os.getpid()):
            return 1
        return min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)


_state = _State()
_kernels: set[str] = set()  # qualified names, by which numba names their code


def _compile(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    if numba is None:
        return function
    _prepare()
    options = {**OPTIONS, **options}
    kind = _Inner if "no_cpython_wrapper" in options else CPUDispatcher
    dispatcher = kind(function, targetoptions=options)
    shaping = {**options, "fastmath": sorted(options["fastmath"] or ())}
    kernel_cache.keep(dispatcher, repr((shaping, LLVM_OPTIONS, LINKING)))
    return dispatcher


def _number_symbols() -> None:
    """Let this process number compiled functions from a start of its own.

    The symbols of a parallel loop carry the number and an address. Forked processes share both, and
    of two kernels with equal symbols the second runs the first one's code.
    """
    if numba is not None:
        bytecode.FunctionIdentity._unique_ids = itertools.count(secrets.randbits(60))


@functools.cache
def _prepare() -> None:
    _number_symbols()
    for option in LLVM_OPTIONS:
        llvm.set_option("snn_delays", option)
    generator = cpu_target.target_context.codegen()
    generator._library_class = _Library
    generator.set_env = functools.partial(_set_environment, generator)
    event.register("numba:compile", _Announcement())
    if sys.platform == "linux" and numba.config.THREADING_LAYER == "default":
        # idle threads of a second OpenMP runtime would take time from the first one's
        numba.config.THREADING_LAYER = "omp" if _shares_openmp() else "workqueue"


def _shares_openmp() -> bool:
    """Whether torch runs on the system's OpenMP, the one that numba would load."""
    files = {
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    }
    loaded = [file for file in files if "libgomp" in Path(file).name]
    return len(loaded) == 1 and not Path(loaded[0]).is_relative_to(Path(torch.__file__).parent)


@functools.cache
def _announce() -> None:
    """Print once in a process why the program pauses."""
    print(
        "Compiling the fast kernels; up to two minutes, the first time only.",
        file=sys.stderr,
        flush=True,
    )


def _set_environment(generator: Any, name: str, environment: Any) -> None:
    """Hand an environment to machine code; ``_Library`` does it for code that becomes it later."""
    if generator._engine.is_symbol_defined(name):
        type(generator).set_env(generator, name, environment)


if numba is not None:

    class _Inner(CPUDispatcher):
        """A function that has no machine code of its own, only copies in kernels."""

        def __call__(self, *_: Any) -> None:
            raise TypeError(f"{self.__name__} can be called by kernels, not from Python.")

    class _Library(codegen.JITCodeLibrary):
        """Code whose kernels call functions under names that no other code has.

        Every kernel holds copies of the functions that it calls, each optimised for this kernel. Of
        functions with one name, numba's loader uses the first that it meets: results would depend
        on what else the process has compiled or loaded.

        Bodies of parallel loops and their wrappers are optimised in the kernel alone. Code becomes
        machine code when something asks for its address: a kernel at once, the functions that it
        calls and the bodies of its loops never. Both save time. Besides, the loader would prefer a
        wrapper that was compiled earlier to the kernel's copy: the process that compiles a kernel
        would round differently from processes that load it.
        """

        _is_postponed = False

        def _optimize_final_module(self) -> None:
            if self.name in _kernels:
                own = secrets.token_hex(8)
                for function in self._final_module.functions:
                    if function.linkage == llvm.Linkage.linkonce_odr:
                        function.name = f"{function.name}.{own}"
            if not self.name.startswith((LOOP_BODY, *LOOP_WRAPPERS)):
                super()._optimize_final_module()

        def _finalize_final_module(self) -> None:
            if self._object_caching_enabled and self._compiled_object:  # from the cache
                super()._finalize_final_module()
                return
            self._finalize_dynamic_globals()
            self._is_postponed = self._finalized = True

        def _make_up(self) -> None:
            self._ensure_finalized()
            if not self._is_postponed:
                return
            self._is_postponed = False
            if self.name.startswith(LOOP_WRAPPERS):
                super()._optimize_final_module()
            super()._finalize_final_module()
            for variable in self._final_module.global_variables:
                environment = lookup_environment(variable.name)
                if environment is not None:
                    self.codegen.set_env(variable.name, environment)

        def get_pointer_to_function(self, name: str) -> int:
            self._ensure_finalized()
            if self._is_postponed and not self._has(name):
                return 0
            self._make_up()
            return int(super().get_pointer_to_function(name))

        def _has(self, name: str) -> bool:
            """Whether this is a function of the library, and its address will be used."""
            if self.name.startswith(LOOP_BODY):  # numba asks, but calls the kernel's copy
                return False
            return any(function.name == name for function in self.get_defined_functions())

        def _get_compiled_object(self) -> bytes:
            self._make_up()  # a gufunc of another library is about to be cached
            return bytes(super()._get_compiled_object())

        def serialize_using_object_code(self) -> Any:
            self._ensure_finalized()
            if self._is_postponed and not self.name.startswith(LOOP_WRAPPERS):
                return self.serialize_using_bitcode()  # all that kernels need
            return super().serialize_using_object_code()

    class _Announcement(event.Listener):
        """Prints once, at the first compilation in a process, why the program pauses."""

        def on_start(self, event: Any) -> None:
            if (event.data["dispatcher"].py_func.__module__ or "").startswith("snn_delays."):
                _announce()

        def on_end(self, event: Any) -> None:
            """Do nothing."""
