"""What goes wrong and says so in one line: what the caller can mend, and what a run came to."""


class InputError(ValueError):
    """Bad input: the message is one line that names the file, key or argument, and the mend.

    Everything that Sfumato refuses deliberately is an ``InputError``; the command line prints the message without a
    traceback and exits with status 2. Any other exception but a ``FailedError`` is a defect of ours.
    """


class FailedError(RuntimeError):
    """Something that was begun came to nothing, and the message, one line, says all there is to say of it."""
