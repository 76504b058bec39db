"""The measures that `sfumato evaluate` reports, by the kind of data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from sfumato.data import DataSpec

from ..wasserstein import sliced_wasserstein
from . import features, kernels, neighbourhoods
from .frechet import frechet, frechet_infinite
from .sets import Sets


@dataclass(frozen=True)
class Measure:
    """A measure of samples against real data.

    Arguments:
        name: as it stands in files.
        title: as people read it.
        function: the measure of two sets.
        better: which values are better.
        ideal: its expectation for samples as good as real data, if that does not depend on the number of samples.
    """

    name: str
    title: str
    function: Callable[[Sets], float]
    better: Literal["lower", "higher"] = "lower"
    ideal: float | None = None


def sliced(sets: Sets) -> float:
    """SW_2, see ``sliced_wasserstein``. In features of images it is what MIND is made of (Berthet et al. 2026)."""
    return sliced_wasserstein(sets.samples, sets.real)


_FRECHET = Measure("frechet_infinite", "Frechet distance, infinite samples", frechet_infinite, ideal=0.0)
_SLICED = Measure("sliced", "sliced Wasserstein distance", sliced)
_ENERGY = Measure("energy", "energy distance", kernels.energy_distance, ideal=0.0)
_CLIPPED = (
    Measure("clipped_density", "Clipped Density", neighbourhoods.clipped_density, "higher", 1.0),
    Measure("clipped_coverage", "Clipped Coverage", neighbourhoods.clipped_coverage, "higher", 1.0),
)
_IN_FEATURES = (
    Measure("frechet", "Frechet distance", frechet),
    _FRECHET,
    Measure("kernel", "kernel distance (cubic)", kernels.kernel_distance, ideal=0.0),
    _SLICED,
    _ENERGY,
    *_CLIPPED,
    Measure("precision", "precision", neighbourhoods.precision, "higher"),
    Measure("recall", "recall", neighbourhoods.recall, "higher"),
    Measure("density", "density", neighbourhoods.density, "higher", 1.0),
    Measure("coverage", "coverage", neighbourhoods.coverage, "higher"),
)
_OF_NUMBERS = (
    _FRECHET,
    _SLICED,
    Measure("mmd", "MMD^2 (Gaussian kernel)", kernels.mmd, ideal=0.0),
    _ENERGY,
    *_CLIPPED,
    Measure("marginals", "marginals (W_2 / deviation)", features.marginals),
    Measure("kolmogorov_smirnov", "marginals (Kolmogorov-Smirnov)", features.kolmogorov_smirnov),
    Measure("correlations", "correlations", features.correlations),
)
CLASSIFIER = "classifier"
CLASSIFIER_TITLE = "classifier, area under ROC curve"


_FID = {"frechet": "FID", "frechet_infinite": "FID, infinite samples", "kernel": "KID"}


def measures_of(spec: DataSpec, raw: bool, fid: bool = False) -> tuple[Measure, ...]:
    """The measures for data of this kind: in its own numbers (``raw``), or in features of a network.

    Arguments:
        spec: the data contract.
        raw: whether the features are the numbers themselves.
        fid: whether they are those that define FID and KID, which then have these names.
    """
    if fid:
        return tuple(replace(measure, title=_FID.get(measure.name, measure.title)) for measure in _IN_FEATURES)
    if not raw or spec.layout.name == "image":
        return _IN_FEATURES
    if spec.layout.name == "signal":
        spectra = partial(features.spectra, length=spec.shape[-1])
        return (*_OF_NUMBERS, Measure("spectra", "power spectra, dB", spectra))
    return _OF_NUMBERS
