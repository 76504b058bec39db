"""Design an instrument: choose its filters for a model, and predict what it will do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfumato.errors import InputError
from sfumato.files import strict_json, write_text
from sfumato.model import Model
from sfumato.reporting import SILENT, Reporter
from sfumato.restoration import Matrix, choose

from .device import pick_device
from .loading import load_with_samplers
from .measurement_files import response_matrix, table_cells
from .outputs import require_writable_run
from .result_folder import stated
from .settings import DesignSettings
from .threads import threads

SAMPLES = 512  # whose covariance is designed for
_BAND = 0.9


def run_design(settings: DesignSettings, reporter: Reporter = SILENT) -> tuple[dict[str, Any], list[Path]]:
    """Choose as ``settings`` say, and write the table of the filters and the numbers beside it.

    Returns:
        The record, as the .json file holds it, and the files that were written.

    Raises:
        InputError: filters that do not fit the model's data or are too few.
    """
    table = settings.out or settings.run / "design.csv"
    require_writable_run(table.parent, "give --out")
    with threads(settings.threads, settings.run):
        model = load_with_samplers(settings.run, pick_device(settings.device))
        if settings.filters.suffix.lower() not in (".csv", ".tsv"):
            raise InputError(f"--filters {settings.filters}: is no table; give a .csv or .tsv file")
        rows = response_matrix("--filters", settings.filters, model.spec)
        first = table_cells(settings.filters)[0][1:]
        names = [word if not _is_number(word) else f"filter {i + 1}" for i, word in enumerate(first)]
        if settings.count > len(rows):
            raise InputError(f"-k {settings.count}: {settings.filters} has {len(rows)} filters; give at most as many")
        with reporter.task("sampling") as task:
            drawn = model.sample(SAMPLES + settings.check, seed=settings.seed, progress=task.count).double()
        x = drawn[:SAMPLES].flatten(1)
        found = choose(rows, x.T.cov(), settings.noise, settings.count, settings.seed)
        chosen = list(found.chosen)
        record = {
            **stated(settings),
            "chosen": [{"column": i + 1, "name": names[i]} for i in chosen],
            "linear_errors": list(found.errors),
            "deviation": float(x.std(0).pow(2).mean().sqrt()),
            **_checked(model, Matrix(rows[chosen], model.spec.shape), drawn[SAMPLES:], settings, reporter),
        }
    return record, _write(settings.filters, table, chosen, record)


def design_lines(record: Mapping[str, Any]) -> list[str]:
    """The result in words."""
    lines = [f"spectra of the model deviate from their mean by {record['deviation']:.4g}; with the filters, in turn,"]
    for each, error in zip(record["chosen"], record["linear_errors"], strict=True):
        lines.append(f"  {each['name']:<40} the best linear estimate errs by {error:.4g}")
    if record["error"] is not None:
        lines.append(
            f"reconstructions of {record['settings']['check']} simulated readings err by {record['error']:.4g}; bands "
            f"of {_BAND:.0%} are {record['band']:.4g} wide and cover {record['covered']:.0%}"
        )
    return lines


def _checked(
    model: Model, operator: Matrix, x: torch.Tensor, settings: DesignSettings, reporter: Reporter
) -> dict[str, float | None]:
    """Error, width of the band, and what it covers, when samples of the model are measured and reconstructed."""
    if not len(x):
        return {"error": None, "band": None, "covered": None}
    y = operator(x)
    y = y + settings.noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(settings.seed)).double()
    with reporter.task("reconstructing") as task:
        found = model.reconstruct(y, operator, noise=settings.noise, seed=settings.seed, progress=task.count)
    low, high = found.band(_BAND)
    return {
        "error": float((found.mean - x).pow(2).mean().sqrt()),
        "band": float((high - low).mean()),
        "covered": float(((low <= x) & (x <= high)).double().mean()),
    }


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _write(filters: Path, table: Path, chosen: list[int], record: Mapping[str, Any]) -> list[Path]:
    """The chosen columns of the table of filters, as they stand there, and the record."""
    rows = table_cells(filters)
    text = "".join(",".join([row[0], *(row[i + 1] for i in chosen)]) + "\n" for row in rows)
    numbers = table.with_suffix(".json")
    write_text(table, text)
    write_text(numbers, strict_json(record, indent=2) + "\n")
    return [table, numbers]
