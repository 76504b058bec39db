"""When a training ends, and the default recipe."""

from dataclasses import dataclass

from sfumato.errors import InputError
from sfumato.reporting import duration

DEFAULT = "flow"  # the recipe; of the presets the one that learns fastest in minutes (docs/training.md)


@dataclass(frozen=True)
class Goal:
    """When training ends: after ``steps`` in all, or after ``seconds``. Exactly one is set.

    Arguments:
        steps: optimiser steps, counted over all sessions of the run.
        seconds: wall-clock time.

    Raises:
        InputError: both or none are given, or the number is negative.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.seconds) if value is not None]
        if len(given) != 1 or given[0] < 0:
            raise InputError(f"goal: steps={self.steps}, seconds={self.seconds}; give one of the two, at least 0")

    def __str__(self) -> str:
        return f"{self.steps:,} steps" if self.seconds is None else duration(self.seconds)

    def to_dict(self) -> dict[str, int | float]:
        """``{"steps": N}`` or ``{"seconds": S}``."""
        return {"steps": self.steps} if self.steps is not None else {"seconds": self.seconds or 0.0}

    def flag(self) -> str:
        """The flag of the command line that sets this goal."""
        return f"--steps {self.steps}" if self.steps is not None else f"--budget {self.seconds:g}s"

    def after(self, seconds: float) -> "Goal":
        """The goal that remains after ``seconds`` of training. Steps are counted over all sessions, so they stay."""
        return self if self.seconds is None else Goal(seconds=max(self.seconds - seconds, 0.0))
