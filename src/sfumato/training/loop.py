"""The training loop."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from sfumato.core import SeededNoise
from sfumato.data import AUGMENTATION_NUMBERS, Dataset, Order, augment, split
from sfumato.denoisers import NetworkDenoiser
from sfumato.errors import InputError
from sfumato.model import Model, fill, save_weights
from sfumato.numerics import random
from sfumato.objectives.times import stratify

from . import checkpoint, guards
from .ema import EMA
from .held_out import HeldOut, Part
from .record import Record
from .threads import Threads

Stop = Literal["steps", "budget", "interrupted"]

LOG_EVERY = 25  # steps to a row of the record
CHECKPOINT_EVERY = 60.0  # seconds
FIRST_MEASURE = 2_000  # images; each further held-out measurement comes after a quarter more images
MEASURE_GROWTH = 1.25


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
    """Trains ``model`` on ``dataset`` into the folder ``run``.

    A step: images number ``seen .. seen + batch`` of an endless shuffled sequence, a time and a noise that belong to
    that number, the loss, AdamW with clipping and warm-up, the average. Raises NonFiniteError before an update that
    would ruin the weights, InputError when the data cannot be split.
    """

    def __init__(self, model: Model, dataset: Dataset, run: Path, device: torch.device) -> None:
        settings = model.recipe.training
        self.settings = settings
        self.model = model
        self.run = run
        self.images = 0
        self.seconds = 0.0  # of training, over all sessions
        self.measured_at = -1  # images seen at the last measurement
        self.last_measured: float | None = None  # the held-out loss, and the same on training samples
        self.last_measured_training: float | None = None
        self.module = model.module.to(device).train()
        self.loss = model.recipe.build_loss(model.spec).to(device)
        train, held_out = split(len(dataset.values), settings.held_out, settings.seed)
        everything = Part(
            model.spec.encode(dataset.values).to(device), None if dataset.noise is None else dataset.noise.to(device)
        )
        self.data = everything.pick(train)
        self.order = Order(len(train), settings.seed)
        self.held_out = HeldOut.of(self.loss, everything.pick(held_out), self.data, settings.seed)
        self.ema = EMA(self.module, settings.ema_half_life, settings.ema_ramp)
        self.weights = list(self._network.parameters())
        held = {id(p) for p in self.weights}
        # A learned schedule's numbers and loss-aware times: few, with gradients that are not to shrink the network's.
        self.numbers = [p for p in (*self.module.parameters(), *self.loss.parameters()) if id(p) not in held]
        groups = [
            {"params": self.weights, "weight_decay": settings.weight_decay},
            {"params": self.numbers, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=settings.learning_rate, betas=(0.9, 0.99), fused=True
        )

    @property
    def averaged(self) -> Model:
        """The model with the averaged weights."""
        return Model(self.ema.module, self.model.spec, self.model.recipe)

    @property
    def device(self) -> torch.device:
        """Where the data is, and the module."""
        return self.data.values.device

    @property
    def _network(self) -> nn.Module:
        """Where a bad layer is looked for: not in a schedule that is learned, which has none."""
        return self.module.network if isinstance(self.module, NetworkDenoiser) else self.module

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self.images // self.settings.batch

    def train(
        self,
        steps: int | None = None,
        seconds: float | None = None,
        watch: Callable[[Progress], None] = lambda progress: None,
    ) -> Stop:
        """Train until ``steps`` in all (the recipe's, unless a budget is given) or for ``seconds`` from now.

        However it ends, by either limit or by Ctrl-C, a whole checkpoint, the averaged weights and the last
        measurement are on disk when it returns, within the budget where there is one, but for a budget shorter than
        they take. On a CPU torch's number of threads is left at what the trial chose (see ``Threads``).
        """
        if steps is None and seconds is None:
            steps = self.settings.steps
        record = Record(self.run, self.images)
        try:
            with _interrupts() as interrupted:
                reason = self._loop(steps, seconds, watch, record, interrupted)
                self.save()
                if self.measured_at != self.images:
                    self._measure(record)
                record.write("stop", self.images, step=self.steps, seconds=self.seconds, reason=reason)
        except guards.NonFiniteError:
            record.write("stop", self.images, step=self.steps, seconds=self.seconds, reason="non-finite")
            raise
        finally:
            record.close()
        return reason

    def _loop(
        self,
        steps: int | None,
        seconds: float | None,
        watch: Callable[[Progress], None],
        record: Record,
        interrupted: threading.Event,
    ) -> Stop:
        batch = self.settings.batch
        started = now = saved = time.monotonic()
        before, first_step = self.seconds, self.steps
        closing = 0.0  # what the last measurement and checkpoint took: kept back from the budget
        window: list[tuple[float, float]] = []  # (loss, seconds) of the steps since the last row
        if self.images == 0:
            self.save()
        threads = Threads(self._trial) if self.device.type == "cpu" else None
        if threads is not None:
            threads.choose()
        now = time.monotonic()
        while True:
            if interrupted.is_set():
                return "interrupted"
            if steps is not None and self.steps >= steps:
                return "steps"
            if seconds is not None and now - started + closing >= seconds:
                return "budget"
            loss, norm = self.step()
            elapsed = time.monotonic() - now
            if threads is not None:
                threads.heed(elapsed)
            now += elapsed
            self.seconds = before + now - started
            window.append((loss, elapsed))
            spent = now - started
            done = 0.0 if steps is None else (self.steps - first_step) / max(steps - first_step, 1)
            fraction = max(done, 0.0 if seconds is None else min((spent + closing) / seconds, 1.0))
            rate = batch * len(window) / sum(w[1] for w in window)
            left = spent * (1 - fraction) / fraction if fraction else math.inf
            watch(Progress(self.steps, self.images, loss, rate, fraction, left))
            if self.steps % LOG_EVERY == 0:
                record.write(
                    "train",
                    self.images,
                    step=self.steps,
                    seconds=self.seconds,
                    loss=sum(w[0] for w in window) / len(window),
                    grad_norm=norm,
                    learning_rate=self.learning_rate(self.images),
                    images_per_second=rate,
                )
                window.clear()
            if _measure_due(self.images - batch, self.images):
                self._measure(record)
                closing = time.monotonic() - now
            if now - saved > CHECKPOINT_EVERY:
                self.save()
                saved = time.monotonic()
            now = time.monotonic()

    def step(self) -> tuple[float, float]:
        """One update. Returns (loss, norm of the gradient before clipping)."""
        settings, device = self.settings, self.device
        indices = torch.arange(settings.batch, device=device)
        batch = self.data.pick(self.order.indices(self.images, settings.batch))
        keys = random.keys(random.derive(settings.seed, "training"), self.images + indices)
        uniform = stratify(random.uniform(keys, 0, 1)[:, 0], indices, settings.batch)
        noise = batch.noises(SeededNoise(keys))
        x_0, cond = self._augmented(batch.values)

        def forward() -> Tensor:
            # Dropout draws from torch's own generator, so that is seeded for this step and put back afterwards.
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(random.derive(settings.seed, "dropout", self.images))
                losses: Tensor = self.loss(self.module, x_0, uniform, noise, cond)
                return losses

        losses = forward()
        loss = losses.mean()
        levels = self.loss.levels(self.module, uniform)
        logsnr = None if levels is None else levels[1]
        if not math.isfinite(value := loss.item()):
            raise guards.explain_loss(self.steps + 1, losses, x_0, logsnr, self._network, forward)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights, settings.clip))
        if self.numbers:
            norm = math.hypot(norm, float(torch.nn.utils.clip_grad_norm_(self.numbers, settings.clip)))
        if not math.isfinite(norm):
            raise guards.explain_gradient(self.steps + 1, logsnr, self._network)
        self.images += settings.batch
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.images)
        self.optimizer.step()
        self.ema.update(list(self.module.parameters()), self.images, settings.batch)
        return value, norm

    def _augmented(self, x_0: Tensor) -> tuple[Tensor, Tensor | None]:
        """The samples moved at random, and what tells the network how; as they are where none are to be."""
        if not self.settings.augment:
            return x_0, None
        places = self.images + torch.arange(len(x_0), device=x_0.device)
        keys = random.keys(random.derive(self.settings.seed, "augmentation"), places)
        return augment(x_0, random.uniform(keys, 0, AUGMENTATION_NUMBERS), self.settings.augment)

    def learning_rate(self, images: int) -> float:
        """The rate of the step that brings the count to ``images``, whatever the length of the run.

        Linear over the warm-up, constant, then as ``1 / sqrt(images)`` from ``decay_after`` on (Karras et al. 2024,
        eq. 67).
        """
        rising = images / max(self.settings.warmup, 1)
        falling = math.sqrt(self.settings.decay_after / images)
        return self.settings.learning_rate * min(1.0, rising, falling)

    def save(self) -> None:
        """Write a checkpoint, and the averaged weights as the run's model. Never writes weights that are not finite."""
        for name, p in self.module.named_parameters():
            if not p.isfinite().all():
                raise guards.NonFiniteError(f"non-finite weights at step {self.steps}; first bad layer: {name}")
        parts = {
            "weights": self.module.state_dict(),
            "average": self.ema.module.state_dict(),
            "objective": self.loss.state_dict(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer),
        }
        checkpoint.save(self.run / "checkpoints", self.images, parts, {"images": self.images, "seconds": self.seconds})
        save_weights(self.ema.module.state_dict(), self.run / "model.safetensors")

    def resume(self, warn: Callable[[str], None]) -> None:
        """Go on from the newest whole checkpoint of ``run``. Raises InputError when there is none."""
        place = checkpoint.newest(self.run / "checkpoints", warn)
        if place is None:
            raise InputError(f"{self.run / 'checkpoints'}: no whole checkpoint to resume from; train afresh with --out")
        parts, state = checkpoint.load(place)
        modules = {"weights": self.module, "average": self.ema.module, "objective": self.loss}
        for name, module in modules.items():
            fill(module, parts.get(name, {}), place / f"{name}.safetensors")
        checkpoint.load_optimizer(self.optimizer, parts.get("optimizer", {}))
        self.images, self.seconds = state["images"], state["seconds"]

    def _trial(self) -> None:
        """What a step computes, without its effect."""
        x_0 = self.data.pick(self.order.indices(0, self.settings.batch)).values
        uniform = torch.full((len(x_0),), 0.5, dtype=torch.float64, device=x_0.device)
        torch.autograd.backward(self.loss(self.module, x_0, uniform, lambda draw, like: torch.ones_like(like)).mean())
        self.optimizer.zero_grad(set_to_none=True)

    def _measure(self, record: Record) -> None:
        measured = self.held_out.measure(self.averaged.module)
        self.measured_at = self.images
        self.last_measured, self.last_measured_training = measured["loss"], measured["train_loss"]
        record.write("held_out", self.images, step=self.steps, seconds=self.seconds, **measured)


def _measure_due(before: int, after: int) -> bool:
    """Whether one of the marks ``FIRST_MEASURE * MEASURE_GROWTH^k`` was passed: the same marks in every run."""

    def passed(images: int) -> int:
        return -1 if images < FIRST_MEASURE else int(math.log(images / FIRST_MEASURE, MEASURE_GROWTH))

    return passed(after) > passed(before)


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts at once, as usual."""
    event = threading.Event()
    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or former in (signal.SIG_IGN, None):
        yield event  # signals belong to the main thread, and one that is ignored, as under nohup, stays ignored
        return

    def handle(signum: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, former)

    signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, former)
