"""A model in training and the folder of its run: all that is done with them besides making steps."""

import math
import time
from collections.abc import Callable
from typing import Any

from sfumato.data import SampleSource, Subset, split
from sfumato.generative_model import GenerativeModel
from sfumato.model_folder import save_weights
from sfumato.runs.folder import RunFolder
from sfumato.world import ALONE, World

from . import checkpoint, closing
from .closing import Choice
from .engine import Engine
from .held_out import LEVELS, HeldOut
from .optimizer import learning_rate
from .options import DEFAULTS, Options
from .saving import Saver


class TrainingRun:
    """A model in training, as one process of a ``world``: its engine, its measurements, its checkpoints.

    Arguments:
        model: the model; its module is trained in place, on the device of the data.
        data: all samples, in model units; some of them are held out.
        run: the folder.
        options: settings of the run that are not part of the recipe.
        world: the processes that train together.

    Raises:
        InputError: data that cannot be split, a batch smaller than the number of processes, or an option that the
            network cannot meet.
    """

    def __init__(
        self,
        model: GenerativeModel,
        data: SampleSource,
        run: RunFolder,
        options: Options = DEFAULTS,
        world: World = ALONE,
    ) -> None:
        self.model = model
        self.run = run
        self.options = options
        self.world = world
        self.seconds = 0.0  # of training, over all sessions
        self.measured_at = -1  # images seen at the last measurement
        self.last_measured: float | None = None  # the held-out loss
        self.last_measured_training: float | None = None  # the same on training samples
        self.choice: Choice | None = None  # among the averages, at the end
        settings = model.recipe.training
        training, held_out = split(len(data), settings.held_out, settings.seed)
        trained_on, rest = Subset(data, training), Subset(data, held_out)
        self.engine = Engine(model, trained_on, training, options.compute, world)
        bound = model.recipe.build_bound(model.spec).to(data.device)
        self.held_out, self._bound = (
            HeldOut.of(loss, rest, trained_on, settings.seed, world, model.recipe.condition)
            for loss in (self.engine.loss, bound)
        )
        self._saver = Saver(self.engine, run, options.keep, world)

    @property
    def averaged(self) -> GenerativeModel:
        """The model with averaged weights: those chosen at the end; before that, those of the longest horizon."""
        if self.choice is not None:
            return self.choice.model
        return self.model.with_module(self.engine.state.ema.modules[-1])

    @property
    def images(self) -> int:
        """Images seen so far."""
        return self.engine.images

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self.engine.steps

    def learning_rate(self) -> float:
        """The learning rate of the last step."""
        state = self.engine.state
        return learning_rate(self.model.recipe.training, state.images, state.rewinds, state.schedule)

    def expect(self, images: int) -> None:
        """Let the learning rate fall to 0 where the run will have seen this many images; all processes say the same.

        For a recipe without a cooldown this changes nothing.
        """
        if self.model.recipe.training.cooldown:
            self.engine.state.schedule = self.engine.state.schedule.until(images, self.images)

    def end_leg(self) -> None:
        """Note that the run has reached its goal: going on from here is another leg of its schedule."""
        self.engine.state.schedule = self.engine.state.schedule.ended(self.images)

    def save(self) -> None:
        """Write a checkpoint, and the averaged weights as the run's model, while training goes on.

        Raises:
            NonFiniteError: on all processes, instead of writing weights that are not finite.
        """
        self._saver.save(self.seconds, self.last_measured)

    def wait(self) -> None:
        """Wait until everything that was saved is on the disk. Raises what went wrong, once."""
        self._saver.wait()

    def resume(self, warn: Callable[[str], None]) -> None:
        """Continue from the newest whole checkpoint of ``run``.

        Arguments:
            warn: called with a line for each damaged checkpoint, and for what will change the last bits.

        Raises:
            InputError: there is none, it belongs to another recipe, or it does not fit.
        """
        resumed = self._saver.restore(warn)
        self.seconds, self.last_measured = resumed.seconds, resumed.score

    def samples_due(self) -> int:
        """How many held-out samples to measure now."""
        return self.held_out.samples_after(self.images)

    def measure(self, samples: int) -> dict[str, Any]:
        """Measure the averaged model on so many held-out and training samples. Returns a row of the record."""
        measured = self.held_out.measure(self.averaged.module, samples)
        self.measured_at = self.images
        self.last_measured, self.last_measured_training = measured["loss"], measured["train_loss"]
        return measured

    def choose_average(self, samples: int, watch: Callable[[int, int], bool], until: float) -> Choice | None:
        """Choose the average with the best held-out bound; ``averaged`` is then that model.

        Arguments:
            samples: held-out samples to measure; fewer where the bound, which takes longer than the loss if it has a
                decoder of many levels, would not be done in time.
            watch: as for ``closing.choose_average``.
            until: the ``time.monotonic()`` at which the choice should be made.

        Returns:
            The choice; None if there was no time for it.
        """
        if until < math.inf:
            each = self.seconds_per_bound()
            left = -self.world.max(time.monotonic() - until)[0]
            samples = closing.in_time(samples, left / each)
        self.choice = closing.choose_average(self.engine, self._bound, samples, watch) if samples else None
        return self.choice

    def seconds_per_bound(self) -> float:
        """Seconds that an evaluation of the bound takes, on the slowest process."""

        def once() -> float:
            started = time.monotonic()
            self._bound.value(self.averaged.module, closing.FEWEST)
            return time.monotonic() - started

        once()  # the first call takes longer
        return self.world.max(once())[0] / (LEVELS * closing.FEWEST)

    def thin_checkpoints(self) -> None:
        """Delete the checkpoints that a finished run does not need, as the options say."""
        if self.world.is_main:
            checkpoint.thin(self.run.checkpoints, self.images, self.options.keep_finished)

    def write_model(self) -> None:
        """Wait for the last checkpoint, then write the chosen average as the run's model."""
        self.wait()
        if self.choice is not None and self.world.is_main:
            save_weights(self.choice.model.module.state_dict(), self.run.weights, self._saver.config_digest)
