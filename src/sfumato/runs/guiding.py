"""Choose the guidance of a run on its held-out data."""

import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sfumato import guided
from sfumato.data import split
from sfumato.data.order import permutation
from sfumato.errors import InputError
from sfumato.evaluation.choosing_guidance import GRID, GuidanceChoice, Tried, choose_guidance
from sfumato.evaluation.spaces import Space, own_encoder, own_numbers
from sfumato.guidance import Interval
from sfumato.guided import Guidance
from sfumato.model import Model
from sfumato.reporting import SILENT, Reporter, duration

from .device import pick_device
from .evaluating import rounded
from .folder import RunFolder
from .loading import load_with_samplers
from .outputs import require_writable_run
from .settings import TuneSettings
from .sources import own_data
from .threads import threads

SAMPLES = 500
_LEAST_TO_LEARN = 64  # images that an encoder can learn from


@dataclass(frozen=True)
class Guided:
    """What was chosen.

    Arguments:
        choice: what was measured.
        space: the name of the features.
        file: the file that holds it.
        seconds: the time that it took.
    """

    choice: GuidanceChoice
    space: str
    file: str
    seconds: float

    def lines(self) -> list[str]:
        """The result as lines of text."""
        found = [f"energy distance to held-out data of the same class, in {self.space}, and its gain over no guidance:"]
        found += [_line(each) for each in self.choice.tried]
        best, again = self.choice.best, self.choice.checked
        name = Guidance(best.weight, best.interval).text
        head = f"{name}, chosen on one half, gains {again.gain:.3g} ± {again.error:.2g} on the other"
        if self.choice.kept:
            return [*found, f"{head}: sample uses it from now on (--guidance 1 draws without)", self.file]
        return [*found, f"{head}: no more than chance, so samples stay without guidance"]

    def to_dict(self) -> dict[str, Any]:
        """The result as --json prints it."""
        measured = {"space": self.space, "tried": [each.to_dict() for each in self.choice.tried]}
        checked = {"checked": self.choice.checked.to_dict(), "kept": self.choice.kept}
        return {**measured, **checked, "seconds": round(self.seconds, 3)}


def tune_guidance(settings: TuneSettings, reporter: Reporter = SILENT) -> Guided:
    """Choose weight and interval, and write them beside the weights; without a gain, remove what was there.

    Raises:
        InputError: a model that cannot be guided by itself, a run whose data is gone, or too little held-out data.
    """
    model = load_with_samplers(settings.run, pick_device(settings.device))
    require_writable_run(settings.run)
    model.with_guidance(GRID[0][0])  # refuses before the data is read
    if not model.recipe.takes_classes:
        raise InputError(f"--guidance: {model.name} has no classes to choose it by; give --guidance W to sample")
    count = settings.count or SAMPLES
    if count < 2 * len(model.spec.class_names):
        raise InputError(f"--count: {count} samples are too few; give two for each of {len(model.spec.class_names)}")
    started = time.monotonic()
    with threads(settings.threads, settings.run):
        real, labels, space = _real_data(model, RunFolder(settings.run), reporter)
        cond = model.condition(count)
        assert cond is not None
        assert cond.classes is not None
        drawn = _Drawing(model, space, count, reporter)
        choice = choose_guidance(drawn.features, cond.classes, real, labels, settings.seed)
    found = Guided(choice, space.name, str(settings.run / guided.CHOSEN), time.monotonic() - started)
    if choice.kept:
        chosen = Guidance(choice.best.weight, choice.best.interval)
        guided.store(settings.run, chosen, model.fitted_to, found.to_dict())
    else:
        (settings.run / guided.CHOSEN).unlink(missing_ok=True)
    return found


def _real_data(model: Model, folder: RunFolder, reporter: Reporter) -> tuple[Tensor, Tensor, Space]:
    """Features of the held-out data in random order, its classes, and the space."""
    dataset, training = own_data(folder, reporter), model.recipe.training
    assert dataset.labels is not None  # the model has classes, and this is its data
    train, held_out = split(len(dataset), training.held_out, training.seed)
    train, held_out = (dataset.fitting(part[permutation(len(part), 0, "guidance")]) for part in (train, held_out))
    space = own_numbers(model.spec)
    if model.spec.layout.name == "image" and len(train) >= _LEAST_TO_LEARN:
        with reporter.task("training an encoder on the data") as task:
            space = own_encoder(model.spec, dataset.rows(train), progress=task.count)
    return space.features(dataset.rows(held_out)), dataset.labels[held_out], space


class _Drawing:
    """Draws features of samples, and says after the first ones how long all will take."""

    def __init__(self, model: Model, space: Space, count: int, reporter: Reporter) -> None:
        self.model, self.space, self.count, self.reporter = model, space, count, reporter
        self.told = False

    def features(self, weight: float, interval: Interval, seed: int) -> Tensor:
        guided = self.model.with_guidance(weight, interval)
        started = time.monotonic()
        with self.reporter.task(f"sampling, guidance {weight:g}") as task:
            samples = guided.sample(self.count, seed=seed, progress=task.count)
        if not self.told:
            self.told = True
            left = (2 * len(GRID) + 3) * (time.monotonic() - started)
            self.reporter.info(f"{len(GRID)} settings of {self.count} samples each take about {duration(left)}")
        return self.space.features(rounded(samples, self.model)).cpu()


def _line(tried: Tried) -> str:
    text = Guidance(tried.weight, tried.interval).text
    return f"  {text:<44} {tried.distance:>9.3g}   gain {tried.gain:>9.2g} ± {tried.error:.2g}"
