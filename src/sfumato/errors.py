"""Errors with a one-line message: bad input, and operations that failed."""


class InputError(ValueError):
    """Bad input. The message is one line that names the file, key or argument, and how to fix it.

    Everything that Sfumato refuses on purpose is an `InputError`; the command line prints the message without a
    traceback and exits with status 2. Any other exception except `FailedError` is a bug in Sfumato.
    """


class DiskFullError(InputError):
    """The disk is full, or a limit on the size of files is reached: nothing was wrong with the input, status 1."""


class NoPermissionError(InputError):
    """A file or folder that this user may not read or write. It may be whole, so it is never called damaged."""


class BusyError(InputError):
    """Another process is at work where this one was to work."""


class FailedError(RuntimeError):
    """An operation failed. The message is one line that explains why."""
