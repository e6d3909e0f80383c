"""Exceptions: ``UserError`` for mistakes of the user, others that end a run, and their words."""


class UserError(ValueError):
    """Bad input; the message says in one sentence what was wrong, where, and what to do.

    The command line prints the message alone and exits with code 2.
    """


class InUse(UserError):
    """Another process writes to the same folder."""


class OtherRankFailed(UserError):
    """Another rank of a distributed training failed, and prints the reason."""


class Interrupted(Exception):
    """A signal stopped a training.

    Attributes:
        signal: the signal's number.
        folder: folder of the run.
    """

    def __init__(self, signal: int, where: str, folder: str) -> None:
        super().__init__(where)
        self.signal, self.folder = signal, folder


def message_of(error: BaseException) -> str:
    """The message of another library's error, in one line, to stand within a sentence."""
    return " ".join(str(error).split())
