"""What sampling makes of a model's denoiser: guidance, and x_0 kept within the bounds of the data."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from sfumato._version import __version__
from sfumato.data import DataSpec
from sfumato.denoisers import Clamped, Denoiser, NormBounded
from sfumato.errors import InputError
from sfumato.files import write_text
from sfumato.guidance import Autoguided, ClassifierFree, Interval
from sfumato.recipes import Recipe

from .sampling_plan import SamplingPlan

EVERYWHERE = Interval()
CHOSEN = "guidance.json"  # the guidance that was chosen for the weights beside it
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Guidance:
    """How samples are led away from a worse model.

    Arguments:
        weight: w; 1 is the model itself, 0 the worse one (``guidance``).
        interval: the log-SNRs that it acts at.
        guide: a worse denoiser of the same data; None leads away from the model itself without the class.
        guide_name: its name.
    """

    weight: float
    interval: Interval = EVERYWHERE
    guide: Denoiser | None = None
    guide_name: str = ""

    @property
    def text(self) -> str:
        """In words, such as "guidance 1.5 at log-SNRs from -3 until 2"."""
        where = "".join(f" {name} {end:g}" for name, end in self.ends.items())
        away = "" if self.guide is None else f" away from {self.guide_name}"
        return f"guidance {self.weight:g}{' at log-SNRs' if where else ''}{where}{away}"

    def on(self, plan: SamplingPlan) -> SamplingPlan:
        """The plan of the same sampler with guidance."""
        ends = "".join(f"-{name}{end:g}" for name, end in self.ends.items())
        label = f"{plan.label}-guided{self.weight:g}{ends}" + ("" if self.guide is None else "-by-another")
        text = f"{plan.text} with {self.text}" + (", two networks in each evaluation" if self.weight != 1 else "")
        record = {"weight": self.weight, **self.ends, "guide": self.guide_name or None}
        return replace(plan, label=label, text=text, record={**plan.record, "guidance": record})

    @property
    def ends(self) -> dict[str, float]:
        """The finite ends of the interval."""
        ends = {"from": self.interval.low, "until": self.interval.high}
        return {name: float(end) for name, end in ends.items() if math.isfinite(end)}

    def around(self, denoiser: Denoiser) -> Denoiser:
        """The guided denoiser. Raises InputError as ``guidance`` does."""
        if self.guide is None:
            return ClassifierFree(denoiser, self.weight, self.interval)
        return Autoguided(denoiser, self.guide, self.weight, self.interval)


@runtime_checkable  # so that the test run can check annotations
class Guidable(Protocol):
    """What guidance asks of a model."""

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser."""

    @property
    def spec(self) -> DataSpec:
        """The contract of the data."""

    @property
    def made_by(self) -> Recipe | None:
        """The recipe, if there is one."""

    @property
    def name(self) -> str:
        """The name of the model."""

    @property
    def guidance(self) -> Guidance | None:
        """How samples are guided."""

    @property
    def tuned(self) -> Guidance | None:
        """The guidance that was chosen for the model."""


G = TypeVar("G", bound=Guidable)


def with_guidance(
    self: G, weight: int | float, interval: Interval | None = None, guide: Guidable | None = None, name: str = ""
) -> G:
    """The same model with guided samples; its likelihood is gone, as no known distribution is sampled.

    "auto" stays what was chosen without guidance, unless a table was fitted with this very guidance.

    Arguments:
        self: the model.
        weight: w; 1 is the model itself, above 1 exaggerates what sets it apart from a worse one, and costs variety.
        interval: the log-SNRs that guidance acts at; everywhere by default.
        guide: a worse model of the same data; by default this model without the class (``guidance.ClassifierFree``).
        name: of the guide, for messages; its recipe's by default.

    Raises:
        InputError: a weight that is not finite, a model without classes or one that always saw them, or a guide of
            other data, other conditions or another process.
    """
    if guide is None:
        _require_two_models_in_one(self.made_by, self.name)
    else:
        _require_the_same_data(self, guide, name or guide.name)
    denoiser = None if guide is None else guide.denoiser
    guidance = Guidance(float(weight), interval or EVERYWHERE, denoiser, "" if guide is None else name or guide.name)
    guidance.around(self.denoiser)  # refuses what does not fit
    return cast(G, replace(cast(Any, self), guidance=guidance))


def as_sampled(model: G, weight: int | float | None = None) -> G:
    """The model as ``sample`` draws from it: guided with ``weight``, else as it is, else as was chosen for it.

    Raises:
        InputError: as ``with_guidance``.
    """
    if weight is not None:
        return with_guidance(model, weight)
    if model.guidance is not None or model.tuned is None:
        return model
    return cast(G, replace(cast(Any, model), guidance=model.tuned))


def store(folder: Path, chosen: Guidance, weights: str, measured: Mapping[str, Any] | None = None) -> Path:
    """Write the guidance that was chosen for weights of that digest, and what was ``measured``. Returns the file."""
    path = folder / CHOSEN
    about = {"format": _FORMAT, "sfumato": __version__, "weights": weights, "weight": chosen.weight, **chosen.ends}
    write_text(path, json.dumps({**about, "measured": dict(measured or {})}, indent=1) + "\n")
    return path


def stored(folder: Path, weights: str) -> Guidance | None:
    """The guidance in ``folder`` that was chosen for the weights of that digest.

    None without a file, and for one that is damaged or of other weights: a model can be sampled without.
    """
    try:
        data = json.loads((folder / CHOSEN).read_text(encoding="utf-8"))
        if (data["format"], data["weights"]) != (_FORMAT, weights) or not math.isfinite(
            weight := float(data["weight"])
        ):
            return None
        interval = Interval(float(data.get("from", -math.inf)), float(data.get("until", math.inf)))
        return Guidance(weight, interval) if weight != 1 else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
        return None


def _require_two_models_in_one(recipe: Recipe | None, name: str) -> None:
    """Raise InputError for a model that does not know its data without the class; without a recipe none is refused."""
    if recipe is None:
        return
    instead = "or give a worse run to lead away from (--guide-with RUN)"
    if not recipe.takes_condition:
        raise InputError(
            f"guidance: {name} was trained without classes, so there is nothing to lead towards; train on labelled "
            f"data, {instead}"
        )
    if not recipe.label_dropout > 0:
        raise InputError(
            f"guidance: {name} was trained with every label, so it does not know the data without its class; train "
            f"with conditioning.dropout=0.1 and the kind of conditioning named, {instead}"
        )


def _require_the_same_data(model: Guidable, guide: Guidable, name: str) -> None:
    """Raise InputError unless both take the same values and the same conditions."""
    ours, theirs = model.spec, guide.spec
    if (ours.model_shape, ours.transform) != (theirs.model_shape, theirs.transform):
        raise InputError(f"guidance: {name} was trained on other data ({theirs.source}); give a run on the same data")
    beside = [each.made_by is not None and each.made_by.takes_quantities for each in (model, guide)]
    if beside[0] != beside[1] or (beside[0] and ours.conditions != theirs.conditions):
        raise InputError(f"guidance: {name} has other conditions; give a run with the same ones")
    takes = [each.made_by is not None and each.made_by.takes_classes for each in (model, guide)]
    if takes[0] != takes[1] or (takes[0] and ours.class_names != theirs.class_names):
        raise InputError(f"guidance: {name} has other classes; give a run with the same ones")


def bounded(denoiser: Denoiser, spec: DataSpec) -> Denoiser:
    """x_0 clamped to the data's range where the data is bounded, else kept within ``spec.radius`` of the origin."""
    bounds = spec.model_bounds()
    if bounds is not None:
        return Clamped(denoiser, *bounds)
    return NormBounded(denoiser, spec.radius) if spec.radius > 0 else denoiser
