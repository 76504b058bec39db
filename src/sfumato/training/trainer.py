"""The training of a model into the folder of a run."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import SupportsIndex

from sfumato.errors import InputError
from sfumato.numerics.integers import optional

from . import checkpoint
from .lock import Lock
from .metrics import Record
from .run import TrainingRun
from .session import Session, TrainingProgress


class Trainer(TrainingRun):
    """Trains ``model`` on ``data`` into the folder ``run``, alone or as one process of a ``world``.

    The ``engine`` makes the steps; a ``Session`` decides when to stop, to measure and to save. The constructor's
    arguments are those of ``TrainingRun``.
    """

    def train(
        self,
        steps: SupportsIndex | None = None,
        seconds: float | None = None,
        watch: Callable[[TrainingProgress], None] = lambda progress: None,
        *,
        after: Callable[[float], float] = lambda seconds_per_evaluation: 0.0,
        answer: Callable[[str, float], None] = lambda reason, seconds: None,
    ) -> str:
        """Train, and leave a whole checkpoint, the averaged weights and the last measurement on disk.

        They are written within the budget if there is one, unless it is shorter than they take.

        Arguments:
            steps: train until this many steps in all; None is the recipe's number, unless there is a budget.
            seconds: train for this long from now on.
            watch: called with the progress after each step on a CPU, and every few steps on a GPU.
            after: the seconds of the budget that the caller will need after the training, as a function of the
                seconds that an evaluation of a sample takes.
            answer: called in another thread with the reason, as soon as a signal arrives, and the seconds until the
                end of this call.

        Returns:
            Why it ended: "steps", "budget", or "interrupted", "terminated" or "asked" after a signal.

        Raises:
            InputError: another process trains this run, or the disk is full or refuses.
            NonFiniteError: a loss or a gradient that is not finite, unless the options ask for a rewind.
        """
        steps = optional("steps", steps, 0)
        if steps is None and seconds is None:
            steps = self.model.recipe.training.steps
        with ExitStack() as stack:
            record = None
            with self.world.raise_together():
                if self.world.is_main:
                    stack.enter_context(Lock(self.run))
                    record = self._open_record()
                    stack.callback(record.close)
            return Session(self, steps, seconds, after, watch, answer, record).run()

    def _open_record(self) -> Record:
        saved = checkpoint.checkpoints(self.run.checkpoints)
        if saved and int(saved[-1].name) > self.images:
            raise InputError(
                f"{self.run}: already has {int(saved[-1].name):,} images; continue from there with: sfumato train "
                f"--resume {self.run}"
            )
        return Record(self.run, self.images)
