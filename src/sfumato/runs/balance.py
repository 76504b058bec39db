"""Fill the rare classes of data with samples that a model makes, without near copies and implausible ones."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sfumato._version import __version__
from sfumato.data import TABLES, Dataset, DataSpec, class_indices
from sfumato.errors import InputError
from sfumato.files import write_text
from sfumato.generative_model import GenerativeModel
from sfumato.numerics.random import derive
from sfumato.reporting import SILENT, Reporter

from .balance_evaluation import helped
from .balance_files import write_data
from .balance_filters import Filters, made
from .balance_models import grown, is_grown, of_run, read, trained, trained_on
from .balance_overlap import find_apart, relabelled, smallest
from .balance_text import evaluated, filled
from .lifecycle import require_free, stem_of
from .settings import BalanceSettings

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Balanced:
    """Balanced data.

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
            *(str(self.folder / name) for name in (self.record["data"], "manifest.json", "croissant.json")),
        ]


def balance(settings: BalanceSettings, reporter: Reporter = SILENT) -> Balanced:
    """Train a model on data with classes, make the samples that these lack, and write all with a manifest.

    Trees are grown for vectors, a network is trained for signals and images. Real samples come first, unchanged, in
    their order. Synthetic values are such as the data can have.

    Raises:
        InputError: data without classes or too large for memory, a target that it has passed already, an unknown
            class, a class of vectors with one row, a run of another kind of data, or a folder that is taken.
    """
    recipe, dataset = read(settings, reporter)
    spec = dataset.spec
    wanted = missing(spec, settings.target)
    folder = settings.out or Path(f"{stem_of(dataset)}-balanced")
    require_free(folder)
    ready = None if settings.run is None else of_run(settings.run, spec)
    evaluation = helped(dataset, settings, recipe, reporter).to_dict() if settings.evaluate else None
    row = smallest(dataset)
    apart = find_apart(dataset, row) if settings.overlap else np.zeros(0, np.int64)
    labelled, new = relabelled(dataset, apart, row)
    if settings.overlap and not new:
        reporter.info(f"--overlap: no other class has samples that look like class '{spec.class_names[row]}'")
    if ready is not None:
        model = ready
    elif is_grown(spec):
        model = grown(labelled, recipe, reporter)
    else:
        model = trained_on(labelled, settings, reporter) if new else trained(settings, reporter)
    rows, labels, classes = _filled(model, labelled, new, wanted, settings, reporter)
    start = int(settings.source.lower().endswith(tuple(TABLES)))  # rows of tables are counted from 1
    record = {
        "sfumato": __version__,
        "source": spec.source,
        "fingerprint": spec.fingerprint,
        "target": settings.target,
        "seed": settings.seed,
        "synthetic": {
            "first": len(dataset) + start,
            "last": len(dataset) + len(rows) + start - 1,
            "counted": "from 1, below the names" if start else "from 0",
        },
        "filters": {"near_copies": not settings.keep_copies, "implausible": not settings.keep_implausible},
        "overlap": (apart + start).tolist() if settings.overlap else None,
        "classes": classes,
        "evaluation": evaluation,
        "run": None if settings.run is None else settings.run.name,
        "recipe": model.recipe.model_dump(mode="json"),
    }
    return _written(folder, dataset, rows, labels, settings, record)


def _filled(
    model: GenerativeModel,
    labelled: Dataset,
    new: dict[int, int],
    wanted: list[int],
    settings: BalanceSettings,
    reporter: Reporter,
) -> tuple[Rows, list[str], dict[str, Any]]:
    """The samples that are made, the class of each, and what the manifest says of each class.

    A class of which some samples have a label of their own gets samples of both labels in their shares.
    """
    spec = labelled.spec
    filters = Filters(labelled, settings.keep_copies, settings.keep_implausible)
    parts: list[Rows] = []
    labels: list[str] = []
    classes: dict[str, Any] = {}
    for row, goal in enumerate(wanted):
        name, real = spec.class_names[row], spec.class_counts[row]
        beside = spec.class_counts[new[row]] if row in new else 0
        second = goal * beside // (real + beside)
        record: dict[str, float] = {"made": 0, "copies": 0, "implausible": 0, "noise": 0.0}
        for label, count in ((row, goal - second), (new.get(row, row), second)):
            seed = derive(settings.seed, "balance", label)
            draw = partial(_drawn, model, spec.class_names[label], seed)
            rows, found = made(draw, filters, label, count, seed)
            parts.append(rows)
            labels += [name] * len(rows)
            noise = max(record["noise"], found["noise"])
            record = {key: value + found[key] for key, value in record.items()} | {"noise": noise}
        classes[name] = {"real": real + beside, "wanted": goal, **record}
        if record["made"] < goal:
            copies = record["copies"] >= record["implausible"]
            reporter.warn(
                f"class '{name}': only {record['made']} of {goal} samples passed; most were "
                + (f"near copies of its {real} real ones: keep" if copies else "implausible to a classifier: keep")
                + f" them with --keep-{'copies' if copies else 'implausible'}, or give --target a smaller number"
            )
    return np.concatenate(parts), labels, classes


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
    folder: Path, dataset: Dataset, rows: Rows, labels: list[str], settings: BalanceSettings, record: dict[str, Any]
) -> Balanced:
    spec = dataset.spec
    assert dataset.labels is not None
    all_labels = [*(spec.class_names[int(row)] for row in dataset.labels), *labels]
    values = np.concatenate([dataset.values.double().numpy(), rows])
    folder.mkdir(parents=True, exist_ok=True)
    name, described = write_data(folder, settings.source, spec, values, all_labels, _about(record))
    record = {"data": name, **record}
    for file, content in (("manifest.json", record), ("croissant.json", described)):
        write_text(folder / file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return Balanced(folder, record)


def _about(record: dict[str, Any]) -> str:
    first, last = (record["synthetic"][end] for end in ("first", "last"))
    made = f"samples {first} to {last} are synthetic" if last >= first else "no sample is synthetic"
    return f"{record['source']}, balanced by Sfumato {record['sfumato']}: {made} ({record['synthetic']['counted']})."
