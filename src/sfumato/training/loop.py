"""The training loop."""

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sfumato.data import Dataset, Order, split
from sfumato.denoisers import NetworkDenoiser
from sfumato.errors import InputError
from sfumato.model import Model, fill, save_weights
from sfumato.networks import UNet

from . import checkpoint, guards, signals
from .checkpoint import Keep
from .ema import CANDIDATES, EMA, KEPT, Profile, combine
from .execution import Execution, Precision, Watch, choose, keep_memory
from .held_out import HeldOut
from .lock import Lock
from .part import Part
from .record import Record
from .step import Batch, Draws, Losses
from .world import ALONE, World

LOG_EVERY = 25  # steps to a row of the record
FIRST_MEASURE = 2_000  # images; each further held-out measurement comes after a quarter more images
MEASURE_GROWTH = 1.25
CLOSING = 1 + len(CANDIDATES) / 2  # what the last measurement and the choice of an average take, in measurements
REWINDS = 3  # in a run, each to half of the step


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it is to change what comes out, but for a rewind and the rounding.

    ``checkpoint_every`` is in seconds, and stretched so that checkpoints hold training up for a hundredth of its time
    at most. ``micro_batch`` is how many samples each process takes at a time, all by default. ``precision`` and
    ``threads`` are found by trial unless given. After a loss or a gradient that is not finite a run stops, or is wound
    back to its last checkpoint and goes on with half the step.
    """

    checkpoint_every: float = 60.0
    keep: Keep = field(default_factory=Keep)
    micro_batch: int | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = None
    on_nonfinite: Literal["stop", "rewind"] = "stop"


DEFAULTS = Options()


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

    A step: images number ``seen .. seen + batch`` of an endless shuffled sequence, a time and a noise that belong to
    that number, the loss, AdamW with clipping and warm-up, the averages. Raises NonFiniteError before an update that
    would ruin the weights, InputError when the data cannot be split, or the batch not be shared.
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
        settings = model.recipe.training
        self.settings = settings
        self.options = options
        self.world = world
        self.batch = settings.batch_for(model.spec)
        if self.batch < world.size:
            raise InputError(f"training.batch: {self.batch} samples, for {world.size} processes; give as many at least")
        self.model = model
        self.run = run
        self.images = 0
        self.seconds = 0.0  # of training, over all sessions
        self.rewinds = 0
        self.measured_at = -1  # images seen at the last measurement
        self.last_measured: float | None = None  # the held-out loss, and the same on training samples
        self.last_measured_training: float | None = None
        self.module = model.module.to(device).train()
        self.loss = model.recipe.build_loss(model.spec).to(device)
        self._samples, held_out = split(len(dataset.values), settings.held_out, settings.seed)
        everything = Part(
            model.spec.encode(dataset.values).to(device), None if dataset.noise is None else dataset.noise.to(device)
        )
        self.data = everything.pick(self._samples)
        order = Order(len(self._samples), settings.seed)
        self.draws = Draws(self.data, order, self.loss, settings.seed, settings.augment)
        rest = everything.pick(held_out)
        self.held_out = HeldOut.of(self.loss, rest, self.data, settings.seed, world)
        bound = model.recipe.build_bound(model.spec).to(device)
        self._bound = HeldOut.of(bound, rest, self.data, settings.seed, world)
        self.ema = EMA(self.module)
        self._chosen: Model | None = None
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
        self._losses = Losses(self.module, self.loss, torch.float32)
        self.execution: Execution | None = None
        self._shared: nn.Module = self._losses
        if world.size > 1:
            self._shared = DistributedDataParallel(self._losses, gradient_as_bucket_view=True)
            self._shared.require_forward_param_sync = False  # buffers never change
        self._writer = checkpoint.Writer(run / "checkpoints", options.keep)
        self._past = checkpoint.Writer(run / "averages", Keep(KEPT, best=False))

    @property
    def averaged(self) -> Model:
        """The model with the averaged weights: those chosen at the end, before that those of the longest horizon."""
        return self._chosen or Model(self.ema.modules[-1], self.model.spec, self.model.recipe)

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
        return self.images // self.batch

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
            steps = self.settings.steps
        if not self.world.leads:
            return self._train(steps, seconds, watch, None)
        with Lock(self.run):
            saved = checkpoint.checkpoints(self.run / "checkpoints")
            if saved and int(saved[-1].name) > self.images:
                raise InputError(
                    f"{self.run}: has gone on to {int(saved[-1].name):,} images; go on from there with: sfumato train "
                    f"--resume {self.run}"
                )
            record = Record(self.run, self.images)
            try:
                return self._train(steps, seconds, watch, record)
            finally:
                record.close()

    def _train(
        self, steps: int | None, seconds: float | None, watch: Callable[[Progress], None], record: Record | None
    ) -> str:
        ends = None if seconds is None else time.monotonic() + seconds
        self.prepare()
        keep_memory()
        with signals.heard() as heard:
            while True:
                try:
                    reason = self._loop(steps, ends, watch, record, heard)
                    break
                except guards.NonFiniteError as error:
                    self._note(record, "stop", step=self.steps, seconds=self.seconds, reason="non-finite")
                    self._rewind(error, record)
            self.save()
            if reason not in signals.AT_ONCE:
                if self.measured_at != self.images:
                    self._measure(record)
                self._choose(record)
            self._writer.wait()
            if self._chosen is not None and self.world.leads:
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
        window: list[tuple[float, float]] = []  # (loss, seconds) of the steps since the last row
        self._chosen = None
        if self.images == 0:
            self.save()
        pace = Watch()
        now = time.monotonic()
        while True:
            over = ends is not None and now + closing >= ends
            reason, save_due = self._agree(
                heard(), over, now - saved > max(self.options.checkpoint_every, 100 * held_up)
            )
            if reason is not None:
                return reason
            if steps is not None and self.steps >= steps:
                return "steps"
            if save_due:
                self.save()
                saved = time.monotonic()
                held_up, now = saved - now, saved
            loss, norm = self.step()
            elapsed = time.monotonic() - now
            if pace.heed(elapsed):
                self._execute(Execution(1, self.prepare().precision))
                self._note(record, "threads", step=self.steps, threads=1)
                pace = Watch()
            now += elapsed
            self.seconds = before + now - started
            window.append((loss, elapsed))
            spent = now - started
            done = 0.0 if steps is None else (self.steps - first_step) / max(steps - first_step, 1)
            fraction = max(done, 0.0 if whole is None else min((spent + closing) / whole, 1.0))
            rate = self.batch * len(window) / sum(w[1] for w in window)
            left = spent * (1 - fraction) / fraction if fraction else math.inf
            watch(Progress(self.steps, self.images, loss, rate, fraction, left))
            if self.steps % LOG_EVERY == 0:
                self._note(
                    record,
                    "train",
                    step=self.steps,
                    seconds=self.seconds,
                    loss=sum(w[0] for w in window) / len(window),
                    grad_norm=norm,
                    learning_rate=self.learning_rate(self.images),
                    images_per_second=rate,
                )
                window.clear()
            if _measure_due(self.images - self.batch, self.images):
                self._measure(record)
                self._keep_averages()
                closing = CLOSING * (time.monotonic() - now) + held_up
                now = time.monotonic()

    def _agree(self, heard: str | None, over: bool, save_due: bool) -> tuple[str | None, bool]:
        """Why to stop, and whether to save, for all processes alike: clocks differ, and signals come to some."""
        reasons = [None, "budget", *signals.STOPS.values()]
        code = reasons.index(heard or ("budget" if over else None))
        code, due = (int(number) for number in self.world.greatest(float(code), float(save_due)))
        return reasons[code], bool(due)

    def step(self) -> tuple[float, float]:
        """One update. Returns (loss, norm of the gradient before clipping)."""
        settings = self.settings
        first, last = self.world.rows(self.batch)
        batch = self.draws.batch(self.images, self.batch, (first, last))
        size = self.options.micro_batch or last - first
        self.optimizer.zero_grad(set_to_none=True)
        total, bad = 0.0, ""
        for begin in range(0, last - first, size):
            part = batch.rows(begin, begin + size)
            sync = begin + size >= last - first  # gradients travel once, with the last ones
            losses = self._backward(part, sync)
            value = float(losses.sum())
            total += value
            if not math.isfinite(value) and not bad:
                bad = self._explain(part, losses)
        loss, found = self.world.total(total / self.batch, float(bool(bad)))
        if found or not math.isfinite(loss):
            raise guards.NonFiniteError(f"non-finite loss at step {self.steps + 1}: {self._told(bad)}")
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights, settings.clip))
        if self.numbers:
            norm = math.hypot(norm, float(torch.nn.utils.clip_grad_norm_(self.numbers, settings.clip)))
        if not math.isfinite(norm):
            raise guards.explain_gradient(self.steps + 1, self._logsnr(batch), self._network)
        self.images += self.batch
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.images)
        self.optimizer.step()
        self.ema.update(list(self.module.parameters()), self.images, self.batch)
        return loss, norm

    def _backward(self, part: Batch, sync: bool) -> Tensor:
        """Add the gradient of these samples' share of the mean over the batch; their losses (b,)."""
        shared = self._shared
        if isinstance(shared, DistributedDataParallel):
            shared.require_backward_grad_sync = sync
        losses: Tensor = shared(part)
        # Processes average their gradients, of which each is to be a part of the sum.
        torch.autograd.backward(losses.sum() * (self.world.size / self.batch))
        return losses.detach()

    def _explain(self, part: Batch, losses: Tensor) -> str:
        return guards.explain_loss(
            losses,
            part.x_0,
            self._samples[part.samples.cpu()],
            self._logsnr(part),
            self._network,
            lambda: self._losses(part),
        )

    def _told(self, bad: str) -> str:
        told = self.world.tell(bad)
        return "; ".join(f"process {rank}: {text}" if len(told) > 1 else text for rank, text in enumerate(told) if text)

    def _logsnr(self, batch: Batch) -> Tensor | None:
        levels = self.loss.levels(self.module, batch.uniform)
        return None if levels is None else levels[1]

    def learning_rate(self, images: int) -> float:
        """The rate of the step that brings the count to ``images``, whatever the length of the run.

        Linear over the warm-up, constant, then as ``1 / sqrt(images)`` from ``decay_after`` on (Karras et al. 2024,
        eq. 67); halved by every rewind.
        """
        rising = images / max(self.settings.warmup, 1)
        falling = math.sqrt(self.settings.decay_after / images)
        return self.settings.learning_rate * min(1.0, rising, falling) * 0.5**self.rewinds

    def save(self) -> None:
        """Write a checkpoint and the averaged weights as the run's model, meanwhile training may go on.

        Never writes weights that are not finite.
        """
        for name, p in self.module.named_parameters():
            if not p.isfinite().all():
                raise guards.NonFiniteError(f"non-finite weights at step {self.steps}; first bad layer: {name}")
        if not self.world.leads:
            return
        parts = {
            "weights": self.module.state_dict(),
            "averages": self.ema.state(),
            "objective": self.loss.state_dict(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer),
        }
        state = {
            "images": self.images,
            "seconds": self.seconds,
            "score": self.last_measured,
            "rewinds": self.rewinds,
            "recipe": _digest(self.model.recipe.model_dump(mode="json")),
            "bits": self._bits(),
        }
        self._past.wait()  # no checkpoint is ahead of what is kept of the averages
        averaged = {name: value.detach().cpu().clone() for name, value in self.ema.modules[-1].state_dict().items()}
        self._writer.save(self.images, parts, state, lambda: save_weights(averaged, self.run / "model.safetensors"))

    def prepare(self) -> Execution:
        """How steps are computed, found by trial the first time. Costs a few seconds at most."""
        if self.execution is None:
            key = _digest([self.model.recipe.model_dump(mode="json"), list(self.model.spec.shape), self.device.type])
            told = self.world.tell(
                json.dumps(asdict(choose(self._ways(), self._trial, key))) if self.world.leads else ""
            )
            self._execute(Execution(**json.loads(told[0])))
        assert self.execution is not None
        return self.execution

    def _ways(self) -> list[Execution]:
        """What may be chosen from: the single way on a GPU, and that of options that leave no choice."""
        given, most = self.options, torch.get_num_threads()
        cpu = self.device.type == "cpu"
        precisions: list[Precision] = ["float32"]
        if given.precision != "auto":
            precisions = [given.precision]
        elif isinstance(self._network, UNet) and not self.loss.differentiates:
            precisions = ["float32", "bfloat16"] if cpu else ["bfloat16"]
        threads = [given.threads] if given.threads else sorted({1, most} if cpu and self.world.size == 1 else {most})
        return [Execution(count, precision) for count in threads for precision in precisions]

    def _execute(self, way: Execution) -> None:
        torch.set_num_threads(way.threads)
        self._losses.precision = way.dtype
        self.execution = way

    def _bits(self) -> dict[str, Any]:
        """What the last bits of a run depend on, beside its recipe and its data."""
        return {
            "torch": torch.__version__,
            **asdict(self.prepare()),
            "processes": self.world.size,
            "device": self.device.type,
        }

    def resume(self, warn: Callable[[str], None]) -> None:
        """Go on from the newest whole checkpoint of ``run``.

        Raises InputError when there is none, when it belongs to another recipe, and when it does not fit.
        """
        folder = self.run / "checkpoints"
        place = checkpoint.newest(folder, warn) if self.world.leads else None
        told = self.world.tell("" if place is None else place.name)[0]
        if not told:
            raise InputError(f"{folder}: no whole checkpoint to resume from; train afresh with --out")
        place = folder / told
        parts, state = checkpoint.load(place)
        numbers = all(isinstance(state.get(name), (int, float)) for name in ("seconds", "rewinds"))
        if (
            not numbers
            or not isinstance(state.get("bits"), dict)
            or not isinstance(state.get("score"), (float, NoneType))
        ):
            raise InputError(f"{place / checkpoint.STATE}: lacks what a run goes on from; train afresh with --out")
        if state.get("recipe") != _digest(self.model.recipe.model_dump(mode="json")):
            raise InputError(
                f"{place}: was made by another recipe than {self.run / 'config.json'} has now; restore that, or train "
                "afresh with --out"
            )
        self._execute(self._as_before(state["bits"]))
        for key, value in self._bits().items():
            if (was := state["bits"].get(key)) != value:
                warn(f"{place}: {key} was {was} and is {value} now; the run goes on, its last bits will differ")
        self._fill(parts, state, place)
        if self.world.leads:
            for later in checkpoint.checkpoints(self.run / "averages"):
                if int(later.name) > self.images:  # of steps that are now made anew, perhaps otherwise
                    checkpoint.delete(later)

    def _as_before(self, bits: dict[str, Any]) -> Execution:
        """How steps were computed, where nothing else is asked for and this machine can."""
        given, threads, precision = self.options, bits.get("threads"), bits.get("precision")
        if given.threads or not isinstance(threads, int) or not 0 < threads <= torch.get_num_threads():
            threads = given.threads or torch.get_num_threads()
        if given.precision != "auto" or precision not in ("float32", "bfloat16"):
            precision = "float32" if given.precision == "auto" else given.precision
        return Execution(threads, precision)

    def _fill(self, parts: dict[str, dict[str, Tensor]], state: dict[str, Any], place: Path) -> None:
        for name, module in {"weights": self.module, "objective": self.loss}.items():
            fill(module, parts.get(name, {}), place / f"{name}.safetensors")
        self.ema.load(parts.get("averages", {}), self.module, place / "averages.safetensors")
        checkpoint.load_optimizer(self.optimizer, parts.get("optimizer", {}))
        self.images, self.seconds = state["images"], state["seconds"]
        self.rewinds, self.last_measured = state["rewinds"], state["score"]

    def _rewind(self, error: guards.NonFiniteError, record: Record | None) -> None:
        """Go back to the last checkpoint with half the step. Raises ``error`` where that is not wanted any more."""
        rewinds = self.rewinds + 1
        if self.options.on_nonfinite == "stop":
            raise error
        if rewinds > REWINDS:
            raise guards.NonFiniteError(f"{error}; rewound {REWINDS} times, in vain") from error
        self._writer.wait()
        self.resume(lambda text: None)
        self.rewinds = rewinds
        if record is not None:
            record.rewind(self.images)
        self._note(record, "rewind", step=self.steps, rewinds=rewinds, reason=str(error))

    def _trial(self, way: Execution) -> None:
        """What a step computes of a few samples, without its effect."""
        self._losses.precision = way.dtype
        rows = min(self.batch, 8 * max(1, 4096 // self.data.values[0].numel()))
        torch.autograd.backward(self._losses(self.draws.batch(self.images, self.batch, (0, rows))).mean())
        self.optimizer.zero_grad(set_to_none=True)

    def _measure(self, record: Record | None) -> None:
        measured = self.held_out.measure(self.averaged.module)
        self.measured_at = self.images
        self.last_measured, self.last_measured_training = measured["loss"], measured["train_loss"]
        self._note(record, "held_out", step=self.steps, seconds=self.seconds, **measured)

    def _keep_averages(self) -> None:
        """Keep the averages as they are now: the past from which others are rebuilt."""
        if self.world.leads:
            self._past.save(self.images, {"averages": self.ema.state()}, {})

    def _choose(self, record: Record | None) -> None:
        """Of averages over several horizons, take the one with the best held-out bound."""
        self._past.wait()
        self.world.wait()
        held: list[tuple[int, dict[str, Tensor]]] = [(self.images, self.ema.state())]
        for place in checkpoint.checkpoints(self.run / "averages"):
            if int(place.name) < self.images and checkpoint.damage(place) is None:
                held.append((int(place.name), checkpoint.load(place)[0]["averages"]))
        module = copy.deepcopy(self.ema.modules[-1])
        bounds = {}
        for width in CANDIDATES:
            combine(module, held, self.ema.widths, Profile(self.images, width))
            bounds[width] = self._bound.value(module)
        best = min(bounds, key=lambda width: math.inf if math.isnan(bounds[width]) else bounds[width])
        combine(module, held, self.ema.widths, Profile(self.images, best))
        self._chosen = Model(module, self.model.spec, self.model.recipe)
        self._note(record, "average", width=best, bounds=[[width, bound] for width, bound in bounds.items()])

    def _note(self, record: Record | None, kind: str, **numbers: Any) -> None:
        if record is not None:
            record.write(kind, self.images, **numbers)


def _measure_due(before: int, after: int) -> bool:
    """Whether one of the marks ``FIRST_MEASURE * MEASURE_GROWTH^k`` was passed: the same marks in every run."""

    def passed(images: int) -> int:
        return -1 if images < FIRST_MEASURE else int(math.log(images / FIRST_MEASURE, MEASURE_GROWTH))

    return passed(after) > passed(before)


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
