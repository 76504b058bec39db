"""What training would see of a source: its contract, a picture, warnings, and the time that a pass over it takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato import recipes
from sfumato.data import Dataset, DataSpec
from sfumato.data.column import EXACT
from sfumato.data.order import permutation
from sfumato.data.transforms import Columns
from sfumato.files import write_with
from sfumato.report import picture
from sfumato.report.sections.run import contract
from sfumato.reporting import SILENT, Reporter, duration

from .device import pick_device
from .outputs import require_writable_figure
from .planning import measured
from .settings import DEFAULT, InspectSettings
from .sources import load_data

FEW = 100  # samples; with fewer a model can only copy
UNEQUAL = 3.0  # times as many samples in the largest class as in the smallest
LONG = 600.0  # seconds of a pass over the data
SHOWN = 64  # samples in the picture
BINS = 40
_TRIAL = 2.0  # seconds of measuring the pace
_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found.

    Arguments:
        dataset: the data as training would see it.
        histogram: the values of the data, in ``BINS`` bins of equal width.
        warnings: sentences, each with a remedy.
        seconds_per_pass: of training with the recipe on this machine; None for what makes none.
        picture: the file with samples, if one was asked for.
    """

    dataset: Dataset
    histogram: np.ndarray
    warnings: list[str]
    seconds_per_pass: float | None
    picture: Path | None

    def describe(self) -> list[str]:
        """The findings as lines of text."""
        values = _looked_at(self.dataset)
        seen = ~values.isnan()
        rows = [
            *contract(self.dataset.spec),
            ("values", f"{float(values[seen].min()):g} {blocks(self.histogram)} {float(values[seen].max()):g}"),
        ]
        if self.seconds_per_pass is not None:
            rows.append(
                ("a pass over the data", f"about {duration(self.seconds_per_pass)} of training on this machine")
            )
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return [*lines, *([] if self.picture is None else [str(self.picture)])]

    def to_dict(self) -> dict[str, Any]:
        """The findings as --json prints them."""
        return {
            "data": self.dataset.spec.to_dict(),
            "histogram": self.histogram.tolist(),
            "warnings": self.warnings,
            "seconds_per_pass": None if self.seconds_per_pass is None else round(self.seconds_per_pass, 3),
            "picture": None if self.picture is None else str(self.picture),
        }


def inspect(settings: InspectSettings, reporter: Reporter = SILENT) -> Inspection:
    """Read a source as ``train`` would, and look at it. Nothing is trained, and nothing written but the picture.

    Raises:
        InputError: data, settings or a picture that cannot be read or written.
    """
    require_writable_figure("--out", settings.out)
    device = pick_device(settings.device)
    recipe = recipes.read(settings.recipe or DEFAULT, settings.overrides)
    dataset = load_data(settings.source, recipe, reporter)
    unpassed = isinstance(recipe, recipes.TreesRecipe | recipes.MixtureRecipe)
    seconds = None if unpassed else _seconds(recipe, dataset, device, reporter)
    if settings.out is not None:
        chosen = dataset.rows(permutation(len(dataset), 0, "inspected")[:SHOWN])
        drawn = picture(chosen.numpy(), dataset.spec)
        write_with(settings.out, lambda beside: drawn.save(beside, "PNG"))
    finite = _looked_at(dataset).to(torch.float64).flatten().numpy()
    histogram, _ = np.histogram(finite[~np.isnan(finite)], bins=BINS)
    return Inspection(dataset, histogram, warnings(dataset, seconds or 0.0), seconds, settings.out)


def _looked_at(dataset: Dataset) -> Tensor:
    """The values that histogram and range are of: all, or a random part of data that stays in its file."""
    if dataset.in_memory:
        return dataset.values
    return dataset.rows(dataset.fitting(permutation(len(dataset), 0, "inspected")))


def _seconds(recipe: recipes.Recipe, dataset: Dataset, device: torch.device, reporter: Reporter) -> float:
    """The time of a pass over the data."""
    with reporter.task("measuring the pace"):
        unconditional = [text for text in ("conditioning.kind=none",) if recipes.applies(recipe, text)]
        pace, _ = measured(recipes.override(recipe, unconditional), dataset, device, _TRIAL)
    batch = recipe.training.batch or dataset.spec.layout.batch
    return len(dataset) * (pace.overhead / batch + pace.per_image)


def warnings(dataset: Dataset, seconds_per_pass: float) -> list[str]:
    """What may go wrong, each with a remedy."""
    spec, found = dataset.spec, []
    if len(dataset) < FEW:
        found.append(f"{len(dataset)} samples are few, and a model would learn them by heart; add data")
    if spec.class_counts:
        least, most = min(spec.class_counts), max(spec.class_counts)
        name = spec.class_names[spec.class_counts.index(least)]
        if least == 1:
            found.append(f"the class {name} has one sample; add some, or leave it out")
        elif most > UNEQUAL * least:
            found.append(f"classes are unequal: {name} has {least:,} samples, the largest {most:,}")
    found += _rounded(spec)
    if seconds_per_pass > LONG:
        slow = f"a pass takes about {duration(seconds_per_pass)}, and a good model needs tens of passes"
        if spec.layout.name == "image" and min(spec.shape[1:]) > 32:
            height, width = (max(side // 2, 16) for side in spec.shape[1:])
            saved = seconds_per_pass * height * width / (spec.shape[1] * spec.shape[2])
            slow += f"; data.size={height}x{width} takes about {duration(saved)}"
        else:
            slow += "; train with --budget, which chooses a network that fits it, or on a GPU"
        found.append(slow)
    return found


def _rounded(spec: DataSpec) -> list[str]:
    """Columns of whole numbers that float32 rounds."""
    columns = spec.transform.columns if isinstance(spec.transform, Columns) else ()
    return [
        f"the column {each.name} has whole numbers beyond {EXACT:,}, which are kept to 7 digits; leave it out with "
        f"data.columns='{{{each.name}: drop}}', or subtract a constant"
        for each in columns
        if each.kind == "whole" and max(abs(each.low or 0), abs(each.high or 0)) > EXACT
    ]


def blocks(counts: np.ndarray) -> str:
    """A histogram as a line of blocks. A bin with anything in it shows at least the lowest block."""
    top = len(_BLOCKS) - 1
    heights = np.ceil(counts / max(int(counts.max()), 1) * top).astype(int)
    return "".join(_BLOCKS[height] for height in heights)
