"""Disks that are full and memory that is too small, in a sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from snn_delays.errors import UserError
from snn_delays.runtime.buffers import is_out_of_memory


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """What is inside writes to a run's folder.

    Raises:
        UserError: it could not; what was saved before is whole.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"out={out} cannot be written: {error.strerror or error}; make room or another place,"
            " and resume=auto goes on from what was saved before."
        ) from error


@contextlib.contextmanager
def explained(
    cure: str = "train with a lower train.batch_size or model.hidden in another out",
) -> Iterator[None]:
    """Too little memory, and files that cannot be read, end in a sentence.

    Args:
        cure: what to do where memory runs out.

    Raises:
        UserError: one of these.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of our lines, such as head, has seen enough
        raise
    except OSError as error:
        raise UserError(f"{error.filename or 'A file'}: {error.strerror or error}.") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        words = str(error).splitlines()[0] if str(error) else "of the host"
        raise UserError(f"Memory ran out ({words}); {cure}.") from error
