"""Fill the rare classes of a table with rows that trees make, without near copies and implausible ones."""

import json
import math
from dataclasses import dataclass
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

from .lifecycle import require_free, stem_of
from .settings import BalanceSettings
from .sources import load_data

ROUNDS = 6  # of draws, until enough rows are kept
COPY = 0.01  # a row is nearly a copy if it is nearer to a real one than this share of the real ones are to another
IMPLAUSIBLE = 0.05  # the share of real rows of a class that its own threshold would drop

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
        lines = []
        for name, found in self.record["classes"].items():
            short = f" (wanted {found['wanted']:,})" if found["made"] < found["wanted"] else ""
            dropped = f"; dropped {found['copies']:,} near copies, {found['implausible']:,} implausible"
            tail = f" + {found['made']:,} synthetic{short}{dropped}" if found["wanted"] else ""
            lines.append(f"{name}: {found['real']:,} real{tail}")
        return [*lines, *(str(self.folder / name) for name in (self.record["table"], "manifest.json"))]


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
    model = kinds.fresh(recipe, spec)
    assert isinstance(model, Model)
    grower = Grower(model, dataset.samples().take(torch.arange(len(dataset))))
    with reporter.task("growing trees") as task:
        grower.grow(watch=task.count)
    filters = _Filters(dataset, settings)
    parts: list[Rows] = []
    labels: list[str] = []
    classes: dict[str, Any] = {}
    for row, name in enumerate(spec.class_names):
        made, record = _made(model, filters, row, wanted[row], derive(settings.seed, "balance", row))
        parts.append(made)
        labels += [name] * len(made)
        classes[name] = {"real": spec.class_counts[row], "wanted": wanted[row], **record}
        if len(made) < wanted[row]:
            reporter.warn(f"class '{name}': only {len(made)} of {wanted[row]} rows passed; --keep-copies keeps more")
    return _written(folder, dataset, np.concatenate(parts), labels, classes, settings, recipe)


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


class _Filters:
    """What a synthetic row must pass, from the real rows alone."""

    def __init__(self, dataset: Dataset, settings: BalanceSettings) -> None:
        from sklearn.ensemble import RandomForestClassifier

        assert dataset.labels is not None
        self.spec, self.settings = dataset.spec, settings
        self.values = dataset.values.double()
        self.labels = dataset.labels.numpy()
        self.whole = (self.values.isnan() | (self.values == self.values.round())).all(0)
        self.low, self.high = (torch.from_numpy(end(self.values.numpy(), axis=0)) for end in (np.nanmin, np.nanmax))
        forest = RandomForestClassifier(200, oob_score=True, random_state=0, min_samples_leaf=2)
        self.forest = forest.fit(self._scaled(self.values), self.labels)
        own = np.nan_to_num(forest.oob_decision_function_[np.arange(len(self.labels)), self.labels], nan=0.0)
        self.least = [float(np.quantile(own[self.labels == row], IMPLAUSIBLE)) for row in range(len(forest.classes_))]

    def _scaled(self, x: Tensor) -> Rows:
        found: Rows = self.spec.encode(x).double().numpy()
        return found

    def typed(self, x: Tensor) -> Tensor:
        """Samples within the range of each column, whole numbers where it has only such."""
        x = torch.where(self.whole, x.round(), x)
        return torch.minimum(torch.maximum(x, self.low), self.high)

    def near_copies(self, x: Tensor, row: int) -> npt.NDArray[np.bool_]:
        """Which samples are nearer to a real row of their class than nearly all real rows are to each other."""
        real = torch.from_numpy(np.unique(self._scaled(self.values[torch.from_numpy(self.labels == row)]), axis=0))
        if len(real) < 2:
            return np.zeros(len(x), bool)
        among = torch.cdist(real, real).fill_diagonal_(math.inf).min(1).values
        near = torch.cdist(torch.from_numpy(self._scaled(x)), real).min(1).values
        copies: npt.NDArray[np.bool_] = (near < torch.quantile(among, COPY)).numpy()
        return copies

    def implausible(self, x: Tensor, row: int) -> npt.NDArray[np.bool_]:
        """Which samples the forest believes less to be of their class than nearly all real rows, out of bag."""
        found: npt.NDArray[np.bool_] = self.forest.predict_proba(self._scaled(x))[:, row] < self.least[row]
        return found


def _made(model: GenerativeModel, filters: _Filters, row: int, wanted: int, seed: int) -> tuple[Rows, dict[str, int]]:
    """``wanted`` rows of a class, or fewer if too many are dropped, and what was dropped."""
    kept, record, first = (
        [torch.zeros(0, filters.values.shape[1], dtype=torch.float64)],
        {"copies": 0, "implausible": 0},
        0,
    )
    for _ in range(ROUNDS):
        lacking = wanted - sum(map(len, kept))
        if lacking <= 0:
            break
        count = lacking + lacking // 4 + 8
        x = model.sample(count, seed=seed, first=first, classes=model.spec.class_names[row])
        x, first = filters.typed(x.double()), first + count
        copies = np.zeros(len(x), bool) if filters.settings.keep_copies else filters.near_copies(x, row)
        odd = np.zeros(len(x), bool) if filters.settings.keep_implausible else filters.implausible(x, row) & ~copies
        record["copies"] += int(copies.sum())
        record["implausible"] += int(odd.sum())
        kept.append(x[torch.from_numpy(~(copies | odd))][:lacking])
    made = torch.cat(kept).numpy()
    return made, {"made": len(made), **record}


def _written(
    folder: Path,
    dataset: Dataset,
    made: Rows,
    labels: list[str],
    classes: dict[str, Any],
    settings: BalanceSettings,
    recipe: recipes.Recipe,
) -> Balanced:
    spec = dataset.spec
    assert dataset.labels is not None
    ending = next((ending for ending in TABLES if settings.source.lower().endswith(ending)), ".csv")
    names = spec.channels or tuple(f"x{j}" for j in range(spec.shape[0]))
    all_labels = [*(spec.class_names[int(row)] for row in dataset.labels), *labels]
    values = np.concatenate([dataset.values.double().numpy(), made])
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
        "recipe": recipe.model_dump(mode="json"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_with(folder / f"data{ending}", lambda beside: write_table(Path(beside), columns))
    write_text(folder / "manifest.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return Balanced(folder, record)
