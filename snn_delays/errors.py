"""Errors that stand for a mistake of the user's, not of ours, and the words of others' errors."""


class UserError(ValueError):
    """Bad input: the message says in one sentence what was wrong, where, and what to do.

    The command line prints the message alone and exits with code 2.
    """


class InUse(UserError):
    """Another process writes to the same folder."""


class OtherRankFailed(UserError):
    """Another of the processes that train together failed, and says why."""


class Interrupted(Exception):
    """A signal asked a training to stop, and it did.

    Attributes:
        signal: its number.
        folder: of the run.
    """

    def __init__(self, signal: int, where: str, folder: str) -> None:
        super().__init__(where)
        self.signal, self.folder = signal, folder


def message_of(error: BaseException) -> str:
    """The message of another library's error, in one line, to stand within a sentence."""
    return " ".join(str(error).split())
