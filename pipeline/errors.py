"""The exception for mistakes that a user can correct."""

from pathlib import Path


class UserError(Exception):
    """An error in the user's files, settings or environment.

    Scripts print it as one sentence, ``where: what; fix``, without a traceback, and exit with `exit_code`.
    Every other exception is a bug in the pipeline.

    Args:
        where: the file, setting or option that is at fault; empty if there is none.
        what: what is wrong with it.
        fix: what the user should do; empty if the sentence needs none.
    """

    exit_code = 1
    """Exit code of the script."""

    def __init__(self, where: str | Path, what: str, fix: str = "") -> None:
        # The arguments are passed on so that the exception survives pickling between processes.
        super().__init__(where, what, fix)
        self.where = str(where)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        sentence = f"{self.where}: {self.what}" if self.where else self.what
        return f"{sentence}; {self.fix}" if self.fix else sentence


def read_fix(error: OSError) -> str:
    """Return what the user should do about a file that cannot be read."""
    return "grant read permission" if isinstance(error, PermissionError) else "check the path"
