"""The training loop."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from sfumato.data import Dataset, split
from sfumato.errors import InputError
from sfumato.model import Model, save_weights
from sfumato.world import ALONE, World

from . import autotune, checkpoint, nonfinite, signals
from .background_writer import Writer
from .checkpoint import Keep
from .ema import CANDIDATES, KEPT, choose
from .engine import Engine, fingerprint
from .execution import Watch, keep_memory
from .held_out import HeldOut, measure_due
from .lock import Lock
from .metrics import Record, rewinds
from .options import DEFAULTS, Options

LOG_EVERY = 25  # steps to a row of the record
PATIENCE = 1.0  # seconds in which a GPU is not looked at
CLOSING = 1 + len(CANDIDATES) / 2  # what the last measurement and the choice of an average take, in measurements
REWINDS = 3  # in a run, each to half of the step


@dataclass(frozen=True)
class Progress:
    """Where a run is, for whoever draws it. ``fraction`` of the budget is used up; rates are of the last moments."""

    step: int
    images: int
    loss: float
    images_per_second: float
    fraction: float
    seconds_left: float


class Trainer:
    """Trains ``model`` on ``dataset`` into the folder ``run``, alone or as one process of a ``world``.

    The ``engine`` makes the steps; here is what surrounds them: when to stop, to measure and to save, and the folder.
    Raises InputError when the data cannot be split, or the batch not be shared.
    """

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        run: Path,
        device: torch.device,
        options: Options = DEFAULTS,
        world: World = ALONE,
    ) -> None:
        self.model = model
        self.run = run
        self.options = options
        self.world = world
        self.seconds = 0.0  # of training, over all sessions
        self.measured_at = -1  # images seen at the last measurement
        self.last_measured: float | None = None  # the held-out loss, and the same on training samples
        self.last_measured_training: float | None = None
        settings = model.recipe.training
        samples, held_out = split(len(dataset), settings.held_out, settings.seed)
        everything = dataset.samples(device)
        self.engine = Engine(model, everything.take(samples), samples, options.compute, world)
        rest = everything.take(held_out)
        self.held_out = HeldOut.of(self.engine.loss, rest, self.engine.data, settings.seed, world)
        bound = model.recipe.build_bound(model.spec).to(device)
        self._bound = HeldOut.of(bound, rest, self.engine.data, settings.seed, world)
        self._chosen: Model | None = None
        self._writing = world.is_main or options.compute.shard
        writers = [world.separate_group() if options.compute.shard else ALONE for _ in range(2)]
        self._writer = Writer(run / "checkpoints", options.keep, writers[0])
        self._past = Writer(run / "averages", Keep(KEPT, best=False), writers[1])

    @property
    def averaged(self) -> Model:
        """The model with the averaged weights: those chosen at the end, before that those of the longest horizon."""
        return self._chosen or Model(self.engine.ema.modules[-1], self.model.spec, self.model.recipe)

    @property
    def images(self) -> int:
        """Images seen so far."""
        return self.engine.images

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self.engine.steps

    def train(
        self,
        steps: int | None = None,
        seconds: float | None = None,
        watch: Callable[[Progress], None] = lambda progress: None,
    ) -> str:
        """Train until ``steps`` in all (the recipe's, unless a budget is given) or for ``seconds`` from now.

        Returns why it ended: "steps", "budget", or by the signal that came, "interrupted", "terminated" or "asked".
        However it ends, a whole checkpoint, the averaged weights and the last measurement are on disk when it returns,
        within the budget where there is one, but for a budget shorter than they take. Raises InputError while another
        process trains this run, and where the disk is full or refuses.
        """
        if steps is None and seconds is None:
            steps = self.model.recipe.training.steps
        with ExitStack() as stack:
            record = None
            with self.world.raise_together():
                if self.world.is_main:
                    stack.enter_context(Lock(self.run))
                    record = self._opened()
                    stack.callback(record.close)
            return self._train(steps, seconds, watch, record)

    def _opened(self) -> Record:
        saved = checkpoint.checkpoints(self.run / "checkpoints")
        if saved and int(saved[-1].name) > self.images:
            raise InputError(
                f"{self.run}: has gone on to {int(saved[-1].name):,} images; go on from there with: sfumato train "
                f"--resume {self.run}"
            )
        return Record(self.run, self.images)

    def _train(
        self, steps: int | None, seconds: float | None, watch: Callable[[Progress], None], record: Record | None
    ) -> str:
        ends = None if seconds is None else time.monotonic() + seconds
        autotune.prepare(self.engine, None if steps is None else steps - self.steps, seconds)
        keep_memory()
        with signals.heard() as heard:
            while True:
                try:
                    reason = self._loop(steps, ends, watch, record, heard)
                    self.save()
                    break
                except nonfinite.NonFiniteError as error:
                    self._note(record, "stop", step=self.steps, seconds=self.seconds, reason="non-finite")
                    self._rewind(error, record)
            if reason not in signals.AT_ONCE:
                if self.measured_at != self.images:
                    self._measure(record)
                self._choose(record)
            self._writer.wait()
            if self._chosen is not None and self.world.is_main:
                save_weights(self._chosen.module.state_dict(), self.run / "model.safetensors")
            self._note(record, "stop", step=self.steps, seconds=self.seconds, reason=reason)
        return reason

    def _loop(
        self,
        steps: int | None,
        ends: float | None,
        watch: Callable[[Progress], None],
        record: Record | None,
        heard: Callable[[], str | None],
    ) -> str:
        started = now = saved = time.monotonic()
        whole = None if ends is None else max(ends - started, 1e-9)
        before, first_step = self.seconds, self.steps
        closing = 0.0  # what the last measurement and checkpoint took: kept back from the budget
        held_up = 0.0  # by the last checkpoint
        window: list[tuple[float, float]] = []  # (loss, norm) of the steps since the last row
        stepping = 0.0  # seconds that they took
        # A GPU is given steps to do, and waited for when something is to be written.
        waits = 1 if self.engine.device.type == "cpu" else LOG_EVERY
        self._chosen = None
        if self.images == 0:
            self.save()
        pace = Watch()
        now = time.monotonic()
        while True:
            at = time.monotonic()
            over = ends is not None and at + closing >= ends
            late = at - saved > max(self.options.checkpoint_every, 100 * held_up)
            reason, save_due, look_due = self._agree(heard(), over, late, at - now > PATIENCE)
            if reason is None and steps is not None and self.steps >= steps:
                reason = "steps"
            if reason is not None or save_due:
                window += self.engine.look()
                self.seconds = before + time.monotonic() - started
            if reason is not None:
                return reason
            if save_due:
                asked = time.monotonic()
                self.save()
                saved = time.monotonic()
                held_up = saved - asked
                now += held_up
            self.engine.queue()
            measured = measure_due(self.images - self.engine.batch, self.images)
            if self.steps % waits and not measured and not look_due:
                continue
            window += self.engine.look()
            elapsed = time.monotonic() - now
            if waits == 1 and pace.heed(elapsed):
                self.engine.execute(replace(autotune.prepare(self.engine), threads=1), self.engine.micro_batch)
                self._note(record, "threads", step=self.steps, threads=1)
                pace = Watch()
            now += elapsed
            self.seconds = before + now - started
            stepping += elapsed
            spent = now - started
            done = 0.0 if steps is None else (self.steps - first_step) / max(steps - first_step, 1)
            fraction = max(done, 0.0 if whole is None else min((spent + closing) / whole, 1.0))
            rate = self.engine.batch * len(window) / stepping
            left = spent * (1 - fraction) / fraction if fraction else math.inf
            watch(Progress(self.steps, self.images, window[-1][0], rate, fraction, left))
            if self.steps % LOG_EVERY == 0:
                self._note(
                    record,
                    "train",
                    step=self.steps,
                    seconds=self.seconds,
                    loss=sum(loss for loss, _ in window) / len(window),
                    grad_norm=window[-1][1],
                    learning_rate=self.engine.learning_rate(self.images),
                    images_per_second=rate,
                )
                window, stepping = [], 0.0
            if measured:
                self._measure(record)
                self._keep_averages()
                closing = CLOSING * (time.monotonic() - now) + held_up
                now = time.monotonic()

    def _agree(self, heard: str | None, over: bool, *due: bool) -> tuple[str | None, bool, bool]:
        """Why to stop, whether to save and to look, for all processes alike: clocks differ, signals come to some."""
        reasons = [None, "budget", *signals.STOPS.values()]
        code = reasons.index(heard or ("budget" if over else None))
        code, save, look = (int(number) for number in self.world.max(float(code), *map(float, due)))
        return reasons[code], bool(save), bool(look)

    def save(self) -> None:
        """Write a checkpoint and the averaged weights as the run's model, meanwhile training may go on.

        Raises NonFiniteError, on all processes, instead of writing weights that are not finite.
        """
        parts = self.engine.parts()
        if not self._writing:
            return
        averaged = self.engine.averaged_state()
        state = {
            "images": self.images,
            "seconds": self.seconds,
            "score": self.last_measured,
            "rewinds": self.engine.rewinds,
            "recipe": fingerprint(self.model.recipe.model_dump(mode="json")),
            "bits": self.engine.bits(),
        }
        self._past.wait()  # no checkpoint is ahead of what is kept of the averages
        self._writer.save(self.images, parts, state, lambda: save_weights(averaged, self.run / "model.safetensors"))

    def resume(self, warn: Callable[[str], None]) -> None:
        """Go on from the newest whole checkpoint of ``run``.

        Raises InputError when there is none, when it belongs to another recipe, and when it does not fit.
        """
        folder = self.run / "checkpoints"
        place = checkpoint.newest(folder, warn) if self.world.is_main else None
        told = self.world.gather_text("" if place is None else f"{place.name} {rewinds(self.run, int(place.name))}")[0]
        if not told:
            raise InputError(f"{folder}: no whole checkpoint to resume from; train afresh with --out")
        place, rewound = folder / told.split()[0], int(told.split()[1])
        parts, state = checkpoint.load(place)
        kinds = {"seconds": (int, float), "rewinds": int, "score": (float, NoneType), "bits": dict}
        if not all(isinstance(state.get(name, ...), kind) for name, kind in kinds.items()):  # type: ignore[arg-type]
            raise InputError(f"{place / checkpoint.STATE}: lacks what a run goes on from; train afresh with --out")
        if state.get("recipe") != fingerprint(self.model.recipe.model_dump(mode="json")):
            raise InputError(
                f"{place}: was made by another recipe than {self.run / 'config.json'} has now; restore that, or train "
                "afresh with --out"
            )
        autotune.as_before(self.engine, state["bits"])
        for key, value in self.engine.bits().items():
            if (was := state["bits"].get(key)) != value:
                warn(f"{place}: {key} was {was} and is {value} now; the run goes on, its last bits will differ")
        # One that this very checkpoint was rewound to says so in the record.
        self.engine.fill(parts, state["images"], max(state["rewinds"], rewound), place)
        self.seconds, self.last_measured = state["seconds"], state["score"]
        if self.world.is_main:
            for later in checkpoint.checkpoints(self.run / "averages"):
                if int(later.name) > self.images:  # of steps that are now made anew, perhaps otherwise
                    checkpoint.delete(later)

    def _rewind(self, error: nonfinite.NonFiniteError, record: Record | None) -> None:
        """Go back to the last checkpoint with half the step. Raises ``error`` where that is not wanted any more."""
        self._writer.wait()
        self._past.wait()
        count = self.engine.rewinds + 1
        if self.options.on_nonfinite == "stop":
            raise error
        if count > REWINDS:
            raise nonfinite.NonFiniteError(f"{error}; rewound {REWINDS} times, in vain") from error
        self.resume(lambda text: None)
        self.engine.rewinds = count
        if record is not None:
            record.rewind(self.images)
        self._note(record, "rewind", step=self.steps, rewinds=count, reason=str(error))

    def _measure(self, record: Record | None) -> None:
        measured = self.held_out.measure(self.averaged.module)
        self.measured_at = self.images
        self.last_measured, self.last_measured_training = measured["loss"], measured["train_loss"]
        self._note(record, "held_out", step=self.steps, seconds=self.seconds, **measured)

    def _keep_averages(self) -> None:
        """Keep the averages as they are now: the past from which others are rebuilt."""
        if self._writing:
            self._past.save(self.images, self.engine.past(), {})

    def _choose(self, record: Record | None) -> None:
        """Of averages over several horizons, take the one with the best held-out bound."""
        self._past.wait()
        self.world.wait()
        images = self.images
        held: list[tuple[int, dict[str, Tensor]]] = [(images, self.engine.averages())]
        for place in checkpoint.checkpoints(self.run / "averages"):
            if int(place.name) < images and checkpoint.damage(place) is None:
                held.append((int(place.name), checkpoint.load(place)[0]["averages"]))
        self._chosen = self.engine.averaged()
        best, bounds = choose(self._chosen.module, held, self.engine.ema.widths, images, self._bound.value)
        self._note(record, "average", width=best, bounds=[[width, bound] for width, bound in bounds.items()])

    def _note(self, record: Record | None, kind: str, **numbers: Any) -> None:
        if record is not None:
            record.write(kind, self.images, **numbers)
