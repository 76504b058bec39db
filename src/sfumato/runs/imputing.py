"""Fill the gaps of a table, several times, with draws that agree with what each row has."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato import recipes
from sfumato._version import __version__
from sfumato.data import TABLES, Dataset, TableColumn, raw_columns, typed_columns, write_table
from sfumato.data.transforms import Columns
from sfumato.errors import InputError
from sfumato.files import expanded, write_text, write_with
from sfumato.imputation import SfumatoImputer
from sfumato.reporting import SILENT, Reporter

from .lifecycle import require_free, stem_of
from .settings import ImputeSettings
from .sources import load_data

MOST = 400
"""Numbers of a row, of which a category has one per value: each mixture has a matrix of their square."""


@dataclass(frozen=True)
class Imputed:
    """A table with its gaps filled.

    Arguments:
        folder: where it is.
        record: the content of its manifest.
    """

    folder: Path
    record: dict[str, Any]

    def describe(self) -> list[str]:
        """The result as lines of text."""
        lines = [f"{name}: {count:,} gaps filled" for name, count in self.record["filled"].items()]
        left = [
            f"{name}: {count:,} gaps are left; it is no column of the model"
            for name, count in self.record["left"].items()
        ]
        return [*lines, *left, *(str(self.folder / name) for name in (self.record["table"], *self.record["draws"]))]


def impute(settings: ImputeSettings, reporter: Reporter = SILENT) -> Imputed:
    """Fill the gaps of a table and write it: once with the best guess, and ``draws`` times with draws.

    What is there stays as it stands in the file. The class, if there is one, is a column like the others.

    Raises:
        InputError: a source that is no table with names of columns, a table without gaps, too many columns, or a folder
            that is taken.
    """
    path = expanded(settings.source)
    if path.suffix.lower() not in TABLES:
        raise InputError(f"{settings.source}: is no table; give a .csv, .tsv or .parquet file")
    dataset = _read(settings, reporter)
    transform = dataset.spec.transform
    if not isinstance(transform, Columns):
        raise InputError(f"{settings.source}: is read without columns; give a table with names, and no data.low")
    gaps = dataset.values.isnan()
    if not bool(gaps.any()):
        raise InputError(f"{settings.source}: has no gaps to fill")
    folder = settings.out or Path(f"{stem_of(dataset)}-imputed")
    require_free(folder)
    with reporter.task("filling gaps"):
        draws, priors = _draws(dataset, _complete(transform), settings)
    raw = raw_columns(path)
    files = [f"draw-{i + 1:0{len(str(settings.draws))}}{path.suffix.lower()}" for i in range(settings.draws)]
    names = [column.name for column in transform.columns]
    record = {
        "sfumato": __version__,
        "table": f"filled{path.suffix.lower()}",
        "draws": files,
        "source": dataset.spec.source,
        "fingerprint": dataset.spec.fingerprint,
        "seed": settings.seed,
        "priors": priors,
        "filled": {name: int(count) for name, count in zip(names, gaps.sum(0), strict=True) if count},
        "left": _left(raw, set(names)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in zip((record["table"], *files), (_best(transform, draws), *draws), strict=False):
        columns = _filled(raw, dataset, values, gaps)
        write_with(folder / str(name), lambda beside, columns=columns: write_table(Path(beside), columns))  # type: ignore[misc]
    write_text(folder / "manifest.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return Imputed(folder, record)


def _read(settings: ImputeSettings, reporter: Reporter) -> Dataset:
    """The table, its class a category like the others."""
    recipe = recipes.read("trees", settings.overrides)
    dataset = load_data(settings.source, recipe, SILENT)
    transform = dataset.spec.transform
    if isinstance(transform, Columns) and transform.label is not None:
        kinds = {**(recipe.data.columns or {}), transform.label: "category"}
        section = recipe.data.model_copy(update={"labels": None, "columns": kinds})
        recipe = recipe.model_copy(update={"data": section})
    return load_data(settings.source, recipe, reporter)


def _complete(transform: Columns) -> Columns:
    """The same columns without numbers for their gaps, and without warps, which the mixture needs not."""
    return Columns(
        tuple(replace(column, missing=0.0, skewed=None, shift=0.0, scale=1.0) for column in transform.columns)
    )


def _draws(dataset: Dataset, complete: Columns, settings: ImputeSettings) -> tuple[list[Tensor], list[str]]:
    """Tables in data units without gaps, and the names of the priors."""
    values = dataset.values.double()
    z = complete.encode(values)
    if z.shape[1] > MOST:
        raise InputError(
            f"{settings.source}: a row is {z.shape[1]} numbers, at most {MOST} are possible; drop some by data.columns"
        )
    for j, column in enumerate(complete.columns):
        start = complete.starts[j]
        z[values[:, j].isnan(), start : start + column.width] = float("nan")
    # Forests draw one number at a time, and a category is several that go together.
    prior = "auto" if all(column.width == 1 for column in complete.columns) else "mixture"
    imputer = SfumatoImputer(max(settings.draws, _FOR_A_GUESS), settings.seed, prior).fit(z.numpy())
    found = torch.from_numpy(imputer.draw(z.numpy()))
    return [complete.round_to_levels(complete.decode(each)) for each in found], imputer.priors_


_FOR_A_GUESS = 20  # draws


def _best(transform: Columns, draws: list[Tensor]) -> Tensor:
    """The mean of numbers, and the most frequent of categories and ordered values."""
    stacked = torch.stack(draws)
    found = transform.round_to_levels(stacked.mean(0))
    for j, column in enumerate(transform.columns):
        if column.kind in {"category", "ordinal"}:
            found[:, j] = stacked[..., j].mode(0).values
    return found


def _filled(raw: list[TableColumn], dataset: Dataset, values: Tensor, gaps: Tensor) -> list[TableColumn]:
    """The columns of the file with the gaps of those in the model filled."""
    spec = dataset.spec
    made = {column.name: column for column in typed_columns(spec, values.numpy().astype(np.float32), spec.channels)}
    found = []
    for column in raw:
        if column.name not in made:
            found.append(column)
            continue
        gap = gaps[:, spec.channels.index(column.name)].tolist()
        cells = [
            new if lacking else old
            for old, new, lacking in zip(column.cells, made[column.name].cells, gap, strict=True)
        ]
        found.append(replace(column, cells=cells))
    return found


def _left(raw: list[TableColumn], modelled: set[str]) -> dict[str, int]:
    """The gaps of the columns that are left out."""
    counts = {
        column.name: sum(cell is None or cell == "" for cell in column.cells)
        for column in raw
        if column.name not in modelled
    }
    return {name: count for name, count in counts.items() if count}
