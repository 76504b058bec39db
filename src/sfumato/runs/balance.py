"""Fill the rare classes of a table with rows that trees make, without near copies and implausible ones."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sfumato import kinds, recipes
from sfumato._version import __version__
from sfumato.data import TABLES, Dataset, DataSpec, class_indices, typed_columns, write_table
from sfumato.errors import InputError
from sfumato.files import write_text, write_with
from sfumato.generative_model import GenerativeModel
from sfumato.model import Model
from sfumato.numerics.random import derive
from sfumato.reporting import SILENT, Reporter
from sfumato.training.trees import Grower

from .balance_evaluation import helped
from .balance_filters import Filters, made
from .balance_text import evaluated, filled
from .croissant import described
from .lifecycle import require_free, stem_of
from .settings import BalanceSettings
from .sources import load_data

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Balanced:
    """A balanced table.

    Arguments:
        folder: where it is.
        record: the content of its manifest.
    """

    folder: Path
    record: dict[str, Any]

    def describe(self) -> list[str]:
        """The result as lines of text."""
        lines = filled(self.record["classes"])
        if self.record["evaluation"] is not None:
            lines += evaluated(self.record["evaluation"])
        return [
            *lines,
            *(str(self.folder / name) for name in (self.record["table"], "manifest.json", "croissant.json")),
        ]


def balance(settings: BalanceSettings, reporter: Reporter = SILENT) -> Balanced:
    """Grow trees on a table, make the rows that its classes lack, and write the table with a manifest.

    Real rows come first, unchanged, in their order. Synthetic values are kept within the range of their column, and
    are whole numbers where the column has only such.

    Raises:
        InputError: a source that is no table with classes, a target that it has passed already, an unknown class, a
            class with one row, or a folder that is taken.
    """
    recipe = recipes.read("trees", settings.overrides)
    dataset = load_data(settings.source, recipe, reporter)
    spec = dataset.spec
    if len(spec.class_names) < 2 or dataset.labels is None:
        raise InputError(
            f"{settings.source}: has no classes to balance; name the column of classes with data.labels=..."
        )
    wanted = missing(spec, settings.target)
    folder = settings.out or Path(f"{stem_of(dataset)}-balanced")
    require_free(folder)
    evaluation = helped(dataset, settings, recipe, reporter).to_dict() if settings.evaluate else None
    model = kinds.fresh(recipe, spec)
    assert isinstance(model, Model)
    grower = Grower(model, dataset.samples().take(torch.arange(len(dataset))))
    with reporter.task("growing trees") as task:
        grower.grow(watch=task.count)
    filters = Filters(dataset, settings.keep_copies, settings.keep_implausible)
    parts: list[Rows] = []
    labels: list[str] = []
    classes: dict[str, Any] = {}
    for row, name in enumerate(spec.class_names):
        seed = derive(settings.seed, "balance", row)
        draw = partial(_drawn, model, name, seed)
        rows, record = made(draw, filters, row, wanted[row])
        parts.append(rows)
        labels += [name] * len(rows)
        classes[name] = {"real": spec.class_counts[row], "wanted": wanted[row], **record}
        if len(rows) < wanted[row]:
            reporter.warn(f"class '{name}': only {len(rows)} of {wanted[row]} rows passed; --keep-copies keeps more")
    return _written(folder, dataset, np.concatenate(parts), labels, classes, settings, recipe, evaluation)


def _drawn(model: GenerativeModel, name: str, seed: int, count: int, first: int) -> Tensor:
    return model.sample(count, seed=seed, first=first, classes=name)


def missing(spec: DataSpec, target: str) -> list[int]:
    """The rows that each class lacks to the target "equal", "N" or "class=N,class=N".

    Raises:
        InputError: an unknown class, no number, or fewer rows than there are.
    """
    counts = list(spec.class_counts)
    if target == "equal":
        return [max(counts) - count for count in counts]
    goals = dict.fromkeys(range(len(counts)), 0)
    if "=" not in target:
        goals = dict.fromkeys(goals, _number(target, target))
    else:
        goals = dict(enumerate(counts))
        for part in target.split(","):
            name, _, number = part.rpartition("=")
            goals[int(class_indices(spec, [name.strip()])[0])] = _number(number, target)
    for row, goal in goals.items():
        if goal < counts[row]:
            raise InputError(
                f"--target {target}: class '{spec.class_names[row]}' has {counts[row]} rows already; give at least "
                "that many"
            )
    return [goals[row] - count for row, count in enumerate(counts)]


def _number(text: str, target: str) -> int:
    if not text.strip().isdecimal():
        raise InputError(f"--target {target}: '{text}' is no number of rows; give equal, N, or CLASS=N,...")
    return int(text)


def _written(
    folder: Path,
    dataset: Dataset,
    rows: Rows,
    labels: list[str],
    classes: dict[str, Any],
    settings: BalanceSettings,
    recipe: recipes.Recipe,
    evaluation: dict[str, Any] | None,
) -> Balanced:
    spec = dataset.spec
    assert dataset.labels is not None
    ending = next((ending for ending in TABLES if settings.source.lower().endswith(ending)), ".csv")
    names = spec.channels or tuple(f"x{j}" for j in range(spec.shape[0]))
    all_labels = [*(spec.class_names[int(row)] for row in dataset.labels), *labels]
    values = np.concatenate([dataset.values.double().numpy(), rows])
    if spec.dtype == "float32":  # its shortest decimal number: 5.1, not 5.0999999
        values = np.array([[float(str(x)) for x in row] for row in values.astype(np.float32)])
    columns = typed_columns(spec, values, names, all_labels)
    record = {
        "sfumato": __version__,
        "table": f"data{ending}",
        "source": spec.source,
        "fingerprint": spec.fingerprint,
        "target": settings.target,
        "seed": settings.seed,
        "synthetic_rows": {"first": len(dataset) + 1, "last": len(values)},  # below the names, from 1
        "filters": {"near_copies": not settings.keep_copies, "implausible": not settings.keep_implausible},
        "classes": classes,
        "evaluation": evaluation,
        "recipe": recipe.model_dump(mode="json"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_with(folder / f"data{ending}", lambda beside: write_table(Path(beside), columns))
    write_text(folder / "manifest.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    write_text(
        folder / "croissant.json",
        json.dumps(described(folder / f"data{ending}", columns, _about(record)), indent=2, ensure_ascii=False) + "\n",
    )
    return Balanced(folder, record)


def _about(record: dict[str, Any]) -> str:
    first, last = (record["synthetic_rows"][end] for end in ("first", "last"))
    made = f"rows {first} to {last} are synthetic" if last >= first else "no row is synthetic"
    return f"{record['source']}, balanced by Sfumato {record['sfumato']}: {made} (counted from 1, below the names)."
