"""The one kind of error that is the caller's to mend."""


class InputError(ValueError):
    """Bad input: the message is one line that names the file, key or argument, and the mend.

    Everything that Sfumato refuses deliberately is an ``InputError``; the command line prints the message without a
    traceback and exits with status 2. Any other exception is a defect of ours.
    """
