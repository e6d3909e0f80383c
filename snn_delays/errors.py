"""Exceptions: ``UserError`` for mistakes of the user, and others that end a run."""


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
