"""Errors of the disk and of the memory, turned into one sentence each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from snn_delays.errors import UserError
from snn_delays.runtime.buffers import is_out_of_memory


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """A context for code that writes to a run's folder.

    Raises:
        UserError: the code raised an OSError; earlier files are intact.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"out={out} cannot be written: {error.strerror or error}; free space or move the run,"
            " and resume=auto continues from its last checkpoint."
        ) from error


@contextlib.contextmanager
def explained(
    cure: str = "train with a lower train.batch_size or model.hidden in another out",
) -> Iterator[None]:
    """A context that turns OSErrors and a lack of memory into UserErrors.

    Args:
        cure: advice if memory runs out.

    Raises:
        UserError: a file could not be read, or memory ran out.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        raise
    except OSError as error:
        raise UserError(f"{error.filename or 'A file'}: {error.strerror or error}.") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        words = str(error).splitlines()[0] if str(error) else "of the host"
        raise UserError(f"Memory ran out ({words}); {cure}.") from error
