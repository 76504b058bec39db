"""Tables with categories and gaps: our trees and network beside ForestDiffusion's flow and SMOTE-NC.

Splits of 80 to 20. A generator fitted on the 80 % makes as many rows, which are compared with the 20 %. Shape, trend,
told apart and nearest are those of ``sfumato.evaluation.tables``. W1: exact optimal transport with the L1 cost over
numbers scaled by the least and greatest training value and categories as half of one-hot. Gaps: rows with a gap in a
column that lacks less than a fifth are left out for all, and so are columns that lack more, because SMOTE-NC takes no
gaps and ForestDiffusion makes none; ``--gaps`` keeps them. SMOTE-NC, which fills a class, is given a second class of
twice as many copies. ForestDiffusion has ``duplicate_K`` of 50 (100 by default), for time.

    pip install imbalanced-learn ForestDiffusion==1.0.6
    python benchmarks/mixed.py cars.csv --drop Name
"""

import argparse
import importlib.metadata
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import optimize, sparse
from scipy.spatial.distance import cdist

from sfumato import data, kinds, recipes
from sfumato.data import DataOptions, Dataset, load
from sfumato.data.transforms import Columns
from sfumato.evaluation.tables import fidelity
from sfumato.runs.settings import TrainSettings
from sfumato.training.trees import grown

MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared; one thread"
VERSIONS = {name: importlib.metadata.version(name) for name in ("sfumato", "numpy", "scikit-learn", "lightgbm")}
MOST_MISSING = 0.2


def written(table: Dataset, rows: np.ndarray, path: Path) -> str:
    """These rows as a file."""
    values = table.values[torch.from_numpy(rows)].numpy()
    data.write_table(path, data.typed_columns(table.spec, values, table.spec.channels))
    return str(path)


def trees(table: Dataset, seed: int, settings: list[str]) -> torch.Tensor:
    """Our trees."""
    model = kinds.fresh(recipes.read("trees", settings), table.spec)
    return grown(model, table.samples()).sample(len(table), seed=seed)


def network(table: Dataset, seed: int, seconds: float) -> torch.Tensor:
    """Our default network, trained for some seconds."""
    from sfumato.runs.training import train

    with tempfile.TemporaryDirectory() as folder:
        path = written(table, np.arange(len(table)), Path(folder) / "t.csv")
        kept = {column.name: ("ordinal" if column.levels else column.kind) for column in table.spec.transform.columns}
        settings = TrainSettings(
            source=path,
            recipe="flow",
            out=Path(folder) / "run",
            budget=seconds,
            overrides=(f"data.columns={json.dumps(kept)}",),
        )
        train(settings)
        model = kinds.load(Path(folder) / "run")
        drawn = model.sample(len(table), seed=seed)
        return table.spec.decode(model.spec.encode(drawn)) if model.spec.channels == table.spec.channels else drawn


def forestflow(table: Dataset, seed: int, duplicates: int) -> torch.Tensor:
    """ForestDiffusion's flow on one core."""
    from ForestDiffusion import ForestDiffusionModel

    columns = table.spec.transform.columns
    kinds_of = [column.kind for column in columns]
    model = ForestDiffusionModel(
        table.values.double().numpy().copy(),
        n_t=50,
        duplicate_K=duplicates,
        diffusion_type="flow",
        cat_indexes=[j for j, kind in enumerate(kinds_of) if kind == "category"],
        int_indexes=[],  # numbers are rounded like ours; theirs writes into an array that pandas 3 protects
        n_batch=0,
        n_jobs=1,
        nthread=1,
        seed=seed,
    )
    np.random.seed(seed)  # noqa: NPY002 (theirs)
    return torch.from_numpy(np.asarray(model.generate(batch_size=len(table)), np.float32))


def smote(table: Dataset, seed: int) -> torch.Tensor:
    """SMOTE-NC, made to fill a class that is the whole table."""
    from imblearn.over_sampling import SMOTENC

    values = table.values.double().numpy()
    n = len(values)
    x, y = np.concatenate([values, values, values]), np.r_[np.ones(n), np.zeros(2 * n)]
    categories = [j for j, column in enumerate(table.spec.transform.columns) if column.kind == "category"]
    found, _ = SMOTENC(categories, random_state=seed).fit_resample(x, y)
    return torch.from_numpy(found[3 * n :][:n].astype(np.float32))


def transport(table: Dataset, a: torch.Tensor, b: torch.Tensor) -> float:
    """The exact W1 with the L1 cost (see the top of this file)."""
    columns, train = table.spec.transform.columns, table.values.double().numpy()

    def joined(rows: torch.Tensor) -> np.ndarray:
        parts = []
        for j, column in enumerate(columns):
            x = rows[:, j].double().numpy()
            if column.kind == "category":
                parts.append(0.5 * np.eye(len(column.names) + 1)[np.nan_to_num(x, nan=len(column.names)).astype(int)])
            else:
                low, span = np.nanmin(train[:, j]), np.ptp(train[:, j][~np.isnan(train[:, j])]) or 1
                parts.append(np.c_[np.nan_to_num((x - low) / span, nan=0.5), 0.5 * np.isnan(x)])
        return np.concatenate(parts, 1)

    cost = cdist(joined(a), joined(b), "cityblock")
    n, m = cost.shape
    rows = sparse.vstack([sparse.kron(sparse.eye(n), np.ones((1, m))), sparse.kron(np.ones((1, n)), sparse.eye(m))])
    return float(
        optimize.linprog(
            cost.ravel(), A_eq=rows.tocsr(), b_eq=np.r_[np.full(n, 1 / n), np.full(m, 1 / m)], method="highs"
        ).fun
    )


def complete(path: str, drop: list[str], gaps: bool, limit: int | None) -> Dataset:
    """The table, without what lacks values unless ``gaps``."""
    columns = dict.fromkeys(drop, "drop")
    found = load(path, DataOptions(columns=columns, limit=limit))
    if isinstance(found.spec.transform, Columns) and found.spec.transform.label:  # a category like the others here
        columns[found.spec.transform.label] = "category"
        found = load(path, DataOptions(columns=columns, limit=limit))
    if gaps:
        return found
    assert isinstance(found.spec.transform, Columns)
    columns |= {column.name: "drop" for column in found.spec.transform.columns if column.missing > MOST_MISSING}
    return load(path, DataOptions(columns=columns, missing="drop", limit=limit))


def main() -> None:
    """Print a line per generator and split, as JSON."""
    parser = argparse.ArgumentParser(description="Tables with categories and gaps.")
    parser.add_argument("table")
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--drop", nargs="*", default=[])
    parser.add_argument("--gaps", action="store_true")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--only", nargs="*", default=["real", "trees", "forestflow", "smote"])
    parser.add_argument("--duplicates", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--set", action="append", default=[], dest="settings", help="a setting of the trees")
    parser.add_argument("--out", type=Path, help="a JSON file")
    args = parser.parse_args()
    lines = []
    generators: dict[str, Callable[[Dataset, int], torch.Tensor]] = {
        "real": lambda table, seed: table.values,
        "trees": partial(trees, settings=args.settings),
        "network": partial(network, seconds=args.seconds),
        "forestflow": partial(forestflow, duplicates=args.duplicates),
        "smote": smote,
    }
    whole = complete(args.table, args.drop, args.gaps, args.limit)
    for split in args.splits:
        order = np.random.default_rng(split).permutation(len(whole))
        cut = round(0.8 * len(whole))
        train, test = whole.values[order[:cut]], whole.values[order[cut:]]
        table = Dataset(train, None, replace(whole.spec, count=cut))
        for name in args.only:
            began = time.perf_counter()
            made = generators[name](table, split).float()
            seconds = time.perf_counter() - began
            made = torch.from_numpy(whole.spec.to_array(whole.spec.encode(made)))
            judged = fidelity(whole.spec, made, train, test, split).to_dict()["samples"]
            numbers = {key: round(value, 4) for key, value in judged.items() if value is not None}
            line = {"generator": name, "split": split, **numbers}
            line |= {"w1": round(transport(table, made, test), 4), "seconds": round(seconds, 1)}
            print(json.dumps(line), flush=True)
            lines.append(line)
            if args.out:
                record = {"machine": MACHINE, "versions": VERSIONS, "table": Path(args.table).name, "rows": lines}
                args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
