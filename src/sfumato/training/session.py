"""One session of training: the loop from the state at hand until a goal, the budget or a signal ends it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from . import autotune, signals
from .clock import Clock
from .closing import CHOSEN, MEASURED, shared_out
from .forecasts import Forecasts
from .held_out import measure_due
from .metrics import Record
from .nonfinite import NonFiniteError
from .run import TrainingRun

LOG_EVERY = 25  # steps per row of the record
REWINDS = 3  # per run, each to half the learning rate
INTERRUPTED = 1.5  # seconds that the closing may take after Ctrl-C


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
        phase: what is being done: "training", "measuring" or "choosing".
    """

    step: int
    images: int
    loss: float
    images_per_second: float
    fraction: float
    seconds_left: float
    phase: str = "training"


class Session:
    """One call of ``Trainer.train``.

    Arguments:
        run: the model in training.
        steps: steps at which the session ends, over all sessions; None for no such end.
        seconds: the budget of the session from now on, or None.
        after: the seconds of the budget that will be needed after the session (see ``Clock``).
        watch: called with the progress.
        answer: called in another thread with the reason, as soon as a signal arrives, and the seconds until the end.
        record: where rows go; None on all processes except the first.
    """

    def __init__(
        self,
        run: TrainingRun,
        steps: int | None,
        seconds: float | None,
        after: Callable[[float], float],
        watch: Callable[[TrainingProgress], None],
        answer: Callable[[str, float], None],
        record: Record | None,
    ) -> None:
        self._run = run
        self._engine = run.engine
        self._steps = steps
        self._seconds = seconds
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._after = after
        self._clock = self._new_clock()
        self._watch = watch
        self._answer = answer
        self._record = record
        self._window: list[tuple[float, float]] = []  # (loss, gradient norm) of the steps since the last row
        self._progress = TrainingProgress(run.steps, run.images, math.nan, math.nan, 0.0, math.inf)
        self._forecasts = Forecasts(run, steps, self._note)

    def run(self) -> str:
        """Train, and close the run. Returns why the training ended, as ``Trainer.train`` does."""
        run = self._run
        autotune.prepare(self._engine, None if self._steps is None else self._steps - run.steps, self._seconds)
        with signals.listen(lambda reason: self._answer(reason, self._until_interrupted())) as asked:
            reason = self._train(asked)
            if reason not in signals.AT_ONCE:
                self._close(reason, asked)
            run.write_model()
            self._note("stop", step=run.steps, seconds=run.seconds, reason=reason)
        return reason

    def _new_clock(self) -> Clock:
        run = self._run
        return Clock(self._ends, run.options.checkpoint_every, run.seconds, self._after)

    def _train(self, asked: Callable[[], str | None]) -> str:
        """The loop and a last checkpoint; after a number that is not finite, again if the options ask for a rewind."""
        run = self._run
        while True:
            try:
                reason = self._loop(asked)
                self._forecasts.end(reason)
                run.save()
                return reason
            except NonFiniteError as error:
                self._note("stop", step=run.steps, seconds=run.seconds, reason="non-finite")
                self._rewind(error)

    def _loop(self, asked: Callable[[], str | None]) -> str:
        """Make steps until there is a reason to end. Returns the reason."""
        run, engine = self._run, self._engine
        clock = self._clock = self._new_clock()
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
                self._collect()
            if reason is not None:
                return reason
            if save_due:
                with clock.saving():
                    run.save()
            engine.launch_step()
            at_a_mark = measure_due(run.images - engine.batch, run.images)
            if run.steps % together and not at_a_mark and not look_due:
                continue
            clock.steps_done(engine.batch * self._collect())
            self._report(clock, first_step)
            self._forecasts.update(clock, self._closing)
            if at_a_mark and self._all(clock.can_measure(MEASURED * run.samples_due())):
                self._measure(run.samples_due())

    def _collect(self) -> int:
        """Read the results of the steps since the last call. Returns their number."""
        found = self._engine.collect()
        self._window += found
        self._run.seconds = self._clock.trained()
        return len(found)

    def _all(self, mine: bool) -> bool:
        """Whether all processes say so."""
        return not self._run.world.max(float(not mine))[0]

    def _agree(self, asked: str | None, clock: Clock) -> tuple[str | None, bool, bool]:
        """Why to stop, whether to save and whether to look, the same on all processes.

        Their clocks differ, and a signal may come to some of them only.
        """
        reasons = [None, "budget", *signals.STOPS.values()]
        code = reasons.index(asked or ("budget" if clock.budget_over(self._closing) else None))
        due = (float(code), float(clock.save_due()), float(clock.look_due()))
        code, save, look = (int(number) for number in self._run.world.max(*due))
        return reasons[code], bool(save), bool(look)

    def _report(self, clock: Clock, first_step: int) -> None:
        """Report the progress, and write a row when it is time."""
        run, engine = self._run, self._engine
        done = 0.0 if self._steps is None else (run.steps - first_step) / max(self._steps - first_step, 1)
        rate = engine.batch * len(self._window) / clock.stepping
        loss, norm = self._window[-1]
        fraction, left = clock.fraction(done, self._closing), clock.seconds_left(done, self._closing)
        self._progress = TrainingProgress(run.steps, run.images, loss, rate, fraction, left)
        self._watch(self._progress)
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

    def _measure(self, samples: int) -> None:
        run = self._run
        self._watch(replace(self._progress, phase="measuring"))
        with self._clock.measuring(MEASURED * samples):
            self._note("held_out", step=run.steps, seconds=run.seconds, **run.measure(samples))

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

    def _close(self, reason: str, asked: Callable[[], str | None]) -> None:
        """Measure, and choose an average, as far as there is time."""
        run, clock = self._run, self._clock
        seconds = min(clock.closing_time(), INTERRUPTED if reason == "interrupted" else math.inf)
        each = clock.seconds_per_evaluation()
        until = time.monotonic() + seconds
        evaluations = -run.world.max(-(seconds / each if each else math.inf))[0]
        measured, chosen = shared_out(evaluations, run.samples_due())
        if measured and run.measured_at != run.images:
            self._measure(measured)
        if run.images == 0:  # asked to end before the first step
            return
        begun = asked()

        def over(done: int, total: int) -> bool:
            self._watch(replace(self._progress, phase=f"choosing an average {done + 1}/{total}"))
            return not self._all(asked() == begun)

        choice = run.choose_average(chosen, over, until) if chosen else None
        if choice is not None:
            bounds = [[width, bound] for width, bound in choice.bounds.items()]
            self._note("average", width=choice.width, bounds=bounds, samples=choice.samples)

    @property
    def _closing(self) -> int:
        """Evaluations of the last measurement and the choice of an average."""
        return (MEASURED + CHOSEN) * self._run.samples_due()

    def _until_interrupted(self) -> float:
        """Seconds from now to the end of the closing after Ctrl-C."""
        step = self._engine.batch * 3 * self._clock.seconds_per_evaluation()
        return step + min(INTERRUPTED, self._closing * self._clock.seconds_per_evaluation()) + 1.0

    def _note(self, kind: str, **numbers: Any) -> None:
        if self._record is not None:
            self._record.write(kind, self._run.images, **numbers)
