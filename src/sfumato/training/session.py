"""One session of training: the loop from the state at hand until a goal, the budget or a signal ends it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import autotune, signals
from .clock import Clock
from .held_out import measure_due
from .metrics import Record
from .nonfinite import NonFiniteError
from .run import TrainingRun

LOG_EVERY = 25  # steps per row of the record
REWINDS = 3  # per run, each to half the learning rate


@dataclass(frozen=True)
class TrainingProgress:
    """How far a session is.

    Arguments:
        step: steps made so far, over all sessions.
        images: images seen so far, over all sessions.
        loss: of the last step.
        images_per_second: of the last steps.
        fraction: of the session that is over.
        seconds_left: until its end.
    """

    step: int
    images: int
    loss: float
    images_per_second: float
    fraction: float
    seconds_left: float


class Session:
    """One call of ``Trainer.train``.

    Arguments:
        run: the model in training.
        steps: steps at which the session ends, over all sessions; None for no such end.
        seconds: the budget of the session from now on, or None.
        watch: called with the progress.
        record: where rows go; None on all processes except the first.
    """

    def __init__(
        self,
        run: TrainingRun,
        steps: int | None,
        seconds: float | None,
        watch: Callable[[TrainingProgress], None],
        record: Record | None,
    ) -> None:
        self._run = run
        self._engine = run.engine
        self._steps = steps
        self._seconds = seconds
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._watch = watch
        self._record = record
        self._window: list[tuple[float, float]] = []  # (loss, gradient norm) of the steps since the last row

    def run(self) -> str:
        """Train, and close the run. Returns why the training ended, as ``Trainer.train`` does."""
        run = self._run
        autotune.prepare(self._engine, None if self._steps is None else self._steps - run.steps, self._seconds)
        with signals.listen() as asked:
            reason = self._train(asked)
            if reason not in signals.AT_ONCE:
                self._close()
            run.write_model()
            self._note("stop", step=run.steps, seconds=run.seconds, reason=reason)
        return reason

    def _train(self, asked: Callable[[], str | None]) -> str:
        """The loop and a last checkpoint; after a number that is not finite, again if the options ask for a rewind."""
        run = self._run
        while True:
            try:
                reason = self._loop(asked)
                run.save()
                return reason
            except NonFiniteError as error:
                self._note("stop", step=run.steps, seconds=run.seconds, reason="non-finite")
                self._rewind(error)

    def _loop(self, asked: Callable[[], str | None]) -> str:
        """Make steps until there is a reason to end. Returns the reason."""
        run, engine = self._run, self._engine
        clock = Clock(self._ends, run.options.checkpoint_every, run.seconds)
        first_step, self._window = run.steps, []
        # A GPU is given steps to do, and waited for when there is something to write.
        together = 1 if engine.device.type == "cpu" else LOG_EVERY
        run.choice = None
        if run.images == 0:
            with clock.saving():
                run.save()
        while True:
            reason, save_due, look_due = self._agree(asked(), clock)
            if reason is None and self._steps is not None and run.steps >= self._steps:
                reason = "steps"
            if reason is not None or save_due:
                self._window += engine.collect()
                run.seconds = clock.trained()
            if reason is not None:
                return reason
            if save_due:
                with clock.saving():
                    run.save()
            engine.launch_step()
            measuring = measure_due(run.images - engine.batch, run.images)
            if run.steps % together and not measuring and not look_due:
                continue
            self._window += engine.collect()
            clock.steps_done()
            run.seconds = clock.trained()
            self._report(clock, first_step)
            if measuring:
                with clock.measuring():
                    self._measure()
                    run.keep_averages()

    def _agree(self, asked: str | None, clock: Clock) -> tuple[str | None, bool, bool]:
        """Why to stop, whether to save and whether to look, the same on all processes.

        Their clocks differ, and a signal may come to some of them only.
        """
        reasons = [None, "budget", *signals.STOPS.values()]
        code = reasons.index(asked or ("budget" if clock.budget_over() else None))
        due = (float(code), float(clock.save_due()), float(clock.look_due()))
        code, save, look = (int(number) for number in self._run.world.max(*due))
        return reasons[code], bool(save), bool(look)

    def _report(self, clock: Clock, first_step: int) -> None:
        """Report the progress, and write a row when it is time."""
        run, engine = self._run, self._engine
        done = 0.0 if self._steps is None else (run.steps - first_step) / max(self._steps - first_step, 1)
        fraction = clock.fraction(done)
        rate = engine.batch * len(self._window) / clock.stepping
        loss, norm = self._window[-1]
        left = clock.seconds_left(fraction)
        self._watch(TrainingProgress(run.steps, run.images, loss, rate, fraction, left))
        if run.steps % LOG_EVERY == 0:
            self._note(
                "train",
                step=run.steps,
                seconds=run.seconds,
                loss=sum(loss for loss, _ in self._window) / len(self._window),
                grad_norm=norm,
                learning_rate=run.learning_rate(),
                images_per_second=rate,
            )
            self._window = []
            clock.start_row()

    def _measure(self) -> None:
        run = self._run
        self._note("held_out", step=run.steps, seconds=run.seconds, **run.measure())

    def _rewind(self, error: NonFiniteError) -> None:
        """Go back to the last checkpoint with half the learning rate. Raises ``error`` where that is not wanted."""
        run = self._run
        run.wait()
        count = self._engine.state.rewinds + 1
        if run.options.on_nonfinite == "stop":
            raise error
        if count > REWINDS:
            raise NonFiniteError(f"{error}; {REWINDS} rewinds have not helped") from error
        run.resume(lambda text: None)
        self._engine.state.rewinds = count
        if self._record is not None:
            self._record.rewind(run.images)
        self._note("rewind", step=run.steps, rewinds=count, reason=str(error))

    def _close(self) -> None:
        """Measure, and choose an average."""
        run = self._run
        if run.measured_at != run.images:
            self._measure()
        choice = run.choose_average()
        self._note("average", width=choice.width, bounds=[[width, bound] for width, bound in choice.bounds.items()])

    def _note(self, kind: str, **numbers: Any) -> None:
        if self._record is not None:
            self._record.write(kind, self._run.images, **numbers)
