"""What the settings of several verbs check."""

from pathlib import Path

from sfumato.errors import InputError
from sfumato.files import expanded


def is_there(source: str | None) -> bool:
    """Whether there is a file or folder of this name."""
    return source is not None and expanded(source).exists()


def require_source(source: str | None, verb: str) -> None:
    """Raise InputError if SOURCE is missing, or a setting stands in its place."""
    if source is None or not source.strip():
        raise InputError("SOURCE is missing; give a folder of images, an .npy or .npz file, or a name such as digits")
    if "=" in source and not expanded(source).exists():
        raise InputError(f"SOURCE is missing before '{source}'; write: sfumato {verb} SOURCE {source}")


def require_ending(flag: str, path: Path, endings: tuple[str, ...]) -> None:
    """Raise InputError unless the file name ends in one of ``endings``."""
    if path.suffix.lower() not in endings:
        *others, last = endings
        allowed = f"{', '.join(others)} or {last}" if others else last
        raise InputError(f"{flag} {path}: '{path.suffix}' is not known; end it in {allowed}")


def check_draws(draws: int) -> None:
    """Raise InputError for fewer than 2 draws."""
    if draws < 2:
        raise InputError(f"--draws {draws}: a standard deviation needs at least 2 draws")
