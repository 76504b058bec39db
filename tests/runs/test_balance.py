"""``sfumato balance``: what is written, what the filters drop, and one line with nothing written for bad input."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato import recipes
from sfumato.cli.main import main
from sfumato.data import load
from sfumato.runs.balance import missing
from sfumato.runs.balance_filters import Filters

pytest.importorskip("lightgbm", reason="LightGBM, the extra 'trees', is not installed")

SMALL = ["trees.levels=8", "trees.trees=6", "trees.rows=600"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """40 rows of "often" around (0, 5) and 12 of "rarely" around (3, 9); the second column is of whole numbers."""
    generator = np.random.default_rng(0)
    path = tmp_path / "table.csv"
    rows = [[f"{generator.normal():.4f}", round(generator.normal(5, 2)), "often"] for _ in range(40)]
    rows += [[f"{generator.normal(3, 0.5):.4f}", round(generator.normal(9, 2)), "rarely"] for _ in range(12)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["size", "count", "kind"], *rows])
    return path


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def test_the_rare_class_is_filled_and_real_rows_stay_as_they_are(table, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["balance", str(table), *SMALL, "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record == json.loads((out / "manifest.json").read_text())
    before, after = rows_of(table), rows_of(out / "data.csv")
    assert after[0] == ["size", "count", "kind"]
    for old, new in zip(before[1:], after[1:53], strict=True):
        assert (float(old[0]), float(old[1]), old[2]) == (float(new[0]), float(new[1]), new[2])
    described = json.loads((out / "croissant.json").read_text())
    assert described["distribution"][0]["sha256"] == hashlib.sha256((out / "data.csv").read_bytes()).hexdigest()
    columns = {field["name"]: field["dataType"] for field in described["recordSet"][0]["field"]}
    assert columns == {"size": "sc:Float", "count": "sc:Integer", "kind": "sc:Text"}
    assert f"rows 53 to {len(after) - 1} are synthetic" in described["description"]
    made = after[53:]
    assert record["synthetic_rows"] == {"first": 53, "last": len(after) - 1}
    assert record["classes"]["rarely"] == record["classes"]["rarely"] | {"real": 12, "wanted": 28, "made": len(made)}
    assert record["classes"]["often"]["wanted"] == 0
    assert len(made) == 28
    assert {row[2] for row in made} == {"rarely"}
    x = np.array([row[:2] for row in made], dtype=float)
    real = np.array([row[:2] for row in before[1:]], dtype=float)
    assert (x[:, 1] == np.rint(x[:, 1])).all()
    assert (x.min(0) >= real.min(0)).all()
    assert (x.max(0) <= real.max(0) + 1e-6).all()
    assert abs(x[:, 0].mean() - 3) < 0.5  # of the rare class, not of all rows: 0.7


def test_the_same_seed_makes_the_same_rows_and_another_others(table, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["balance", str(table), *SMALL, "--seed", seed, "--out", str(tmp_path / name)]) == 0
    a, b, c = ((tmp_path / name / "data.csv").read_bytes() for name in "abc")
    assert a == b != c


def test_filters_drop_copies_and_rows_of_the_other_class_and_keep_fresh_ones(table):
    dataset = load(str(table), recipes.read("trees").data.options())
    filters = Filters(dataset)
    assert dataset.labels is not None
    mine = dataset.values[dataset.labels == 1].double()
    assert filters.near_copies(mine + 1e-5, 1).all()
    far = torch.tensor([[-1.0, 3.0]], dtype=torch.float64)
    assert not filters.near_copies(far, 1).any()
    assert filters.implausible(far, 1).all()
    assert not filters.implausible(far, 0).any()
    assert filters.implausible(mine, 1).mean() < 0.2


@pytest.mark.parametrize(
    ("target", "expected"),
    [("equal", [0, 28]), ("50", [10, 38]), ("rarely=20", [0, 8]), ("rarely=12,often=41", [1, 0])],
)
def test_targets(table, target, expected):
    assert missing(load(str(table), recipes.read("trees").data.options()).spec, target) == expected


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--target", "rare=20"], "did you mean rarely"),
        (["--target", "rarely=5"], "has 12 rows already"),
        (["--target", "30"], "has 40 rows already"),
        (["--target", "rarely=many"], "no number of rows"),
        (["data.labels=nothing"], "no column 'nothing'"),
    ],
)
def test_bad_targets_are_one_line_and_nothing_is_written(table, tmp_path, capsys, words, named):
    out = tmp_path / "out"
    assert main(["balance", str(table), *words, "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert named in error[-1]
    assert not out.exists()


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["1,2,a", "2,3,a", "3,1,b", "5,2,a", "5,9,a"], "'b'"),  # a class with one row
        (["1,2", "2,3", "3,1"], "no classes"),
        (["1,,a", "2,,a", "3,,b", "4,,b"], "empty in all 4 rows"),  # a column that is all missing
        (["1,2,a", "2,5,b", "2,5,b"], "no classes"),  # three rows in all
    ],
)
def test_tables_that_cannot_be_balanced_are_one_line(tmp_path, capsys, rows, named):
    path = tmp_path / "bad.csv"
    path.write_text("\n".join([",".join("xyz"[: len(rows[0].split(","))]), *rows]) + "\n")
    assert main(["balance", str(path), "--out", str(tmp_path / "out")]) == 2
    assert named in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_evaluate_says_whether_it_helps_before_it_writes(table, tmp_path, capsys):
    out = tmp_path / "out"
    few = ["trees.levels=4", "trees.trees=4", "trees.rows=200", "--learners", "logistic", "--rows", "smote"]
    assert main(["balance", str(table), *few, "--out", str(out), "--evaluate", "--splits", "5"]) == 0
    said = capsys.readouterr().out
    assert "rarely against the rest, balanced accuracy in %, 5 splits" in said
    assert "smote, threshold" in said
    record = json.loads((out / "manifest.json").read_text())["evaluation"]
    assert record["sentence"] in said
    assert record["verdict"] in {"helped", "none", "hurt", "unknown"}
    assert set(record["scores"]) == {"logistic"}
