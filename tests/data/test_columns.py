"""Tables of columns of different kinds: what is inferred, the way to model units and back, and what is written."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato import data, kinds, recipes
from sfumato.cli.main import main
from sfumato.data import DataOptions, DataSpec, load
from sfumato.data.transforms import Columns
from sfumato.errors import InputError

N = 120


def table() -> dict[str, list[str]]:
    generator = np.random.default_rng(3)
    group = generator.integers(0, 3, N)
    found = {
        "size": [f"{x:.3f}" for x in generator.normal(group, 0.4)],
        "name": [f"row {i}" for i in range(N)],
        "doors": [str(2 + 2 * int(x > 0)) for x in generator.normal(group - 1.0)],
        "count": [str(round(x)) for x in generator.uniform(0, 500, N) + 40 * group],
        "price": [f"{x:.2f}" for x in np.exp(generator.normal(3 + group, 1.3))],
        "day": [str(np.datetime64("2021-01-30") + int(x)) for x in generator.integers(0, 400, N)],
        "colour": [["red", "blue", "wine red"][g] for g in group],
        "grade": [["low", "mid", "high"][g] for g in generator.integers(0, 3, N)],
    }
    for name, share in (("count", 0.1), ("colour", 0.2), ("day", 0.05)):
        for i in np.flatnonzero(generator.random(N) < share):
            found[name][i] = ["", "NA"][i % 2]
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    columns = table()
    with (tmp_path / "cars.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return tmp_path / "cars.csv"


GRADES = {"grade": "ordinal low<mid<high"}


def test_kinds_are_inferred_and_can_be_given(path: Path) -> None:
    found = load(str(path), DataOptions(columns=GRADES))
    assert isinstance(found.spec.transform, Columns)
    kinds_found = {column.name: column.kind for column in found.spec.transform.columns}
    assert kinds_found == {
        "size": "number",
        "doors": "ordinal",
        "count": "whole",
        "price": "number",
        "day": "date",
        "colour": "category",
        "grade": "ordinal",
    }
    assert any("'name' is left out: it has 120 different texts" in note for note in found.notes)
    by_name = {column.name: column for column in found.spec.transform.columns}
    assert by_name["colour"].names == ("blue", "red", "wine red")
    assert by_name["doors"].levels == (2.0, 4.0)
    assert by_name["price"].skewed is not None
    assert by_name["size"].skewed is None
    assert (by_name["size"].decimals, by_name["price"].decimals) == (3, 2)
    assert by_name["count"].missing == pytest.approx(sum(cell in ("", "NA") for cell in table()["count"]) / N)
    assert DataSpec.from_dict(found.spec.to_dict()) == found.spec
    given = load(
        str(path), DataOptions(columns={**GRADES, "doors": "category", "count": "drop", "price": "number 0..1e6"})
    )
    assert isinstance(given.spec.transform, Columns)
    assert [column.kind for column in given.spec.transform.columns][1] == "category"
    assert "count" not in given.spec.channels
    assert given.spec.transform.columns[2].high == 1e6


def test_the_way_to_model_units_and_back(path: Path) -> None:
    found = load(str(path), DataOptions(columns=GRADES))
    z = found.spec.encode(found.values.double())
    assert z.shape == (N, 5 + 2 + 3 + 1 + 1)  # gaps of count and day, three colours and their gap, grade
    assert bool(z.isfinite().all())
    assert torch.allclose(found.spec.decode(z), found.values.double(), atol=1e-4, equal_nan=True)
    numbers = [
        j
        for j, c in zip(found.spec.transform.starts, found.spec.transform.columns, strict=True)
        if c.kind != "category"
    ]
    assert z[:, numbers].mean(0).abs().max() < 1e-6
    assert found.spec.second_moment == pytest.approx(float((z**2).mean()), rel=1e-6)


def test_whatever_a_model_makes_is_valid(path: Path) -> None:
    spec = load(str(path), DataOptions(columns=GRADES)).spec
    made = spec.to_array(3 * torch.randn(2000, *spec.model_shape, generator=torch.Generator().manual_seed(0)))
    written = {column.name: column.cells for column in data.typed_columns(spec, made, spec.channels)}
    real = table()
    assert list(written) == [name for name in real if name != "name"]
    for name in ("doors", "colour", "grade"):
        present = {cell for cell in real[name] if cell not in ("", "NA")}
        assert {str(cell) for cell in written[name] if cell is not None} == present
    for name in ("size", "price", "count"):
        numbers = [float(cell) for cell in real[name] if cell not in ("", "NA")]
        cells = [cell for cell in written[name] if cell is not None]
        assert min(numbers) <= min(cells) <= max(cells) <= max(numbers)
    assert all(isinstance(cell, int) for cell in written["count"] if cell is not None)
    assert all(cell == round(cell, 3) for cell in written["size"])
    assert {name for name, cells in written.items() if None in cells} == {"count", "day", "colour"}
    assert min(cell for cell in written["day"] if cell) >= "2021-01-30"


def test_the_density_of_skewed_numbers(tmp_path: Path) -> None:
    x = np.exp(np.random.default_rng(0).normal(2, 1.2, 200))
    (tmp_path / "t.csv").write_text("x,y\n" + "\n".join(f"{a},{b}" for a, b in zip(x, x[::-1] + 0.5, strict=True)))
    spec = load(str(tmp_path / "t.csv")).spec
    assert isinstance(spec.transform, Columns)
    assert all(column.skewed for column in spec.transform.columns)
    assert spec.has_density
    z = torch.tensor([[-1.0, 0.5], [0.3, 1.2]], dtype=torch.float64)
    for row, found in zip(z, spec.log_det(z), strict=True):
        jacobian = torch.autograd.functional.jacobian(spec.transform.decode_unclipped, row)
        assert float(found) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), rel=1e-9)


def test_rows_with_gaps_are_dropped_when_asked(path: Path) -> None:
    found = load(str(path), DataOptions(missing="drop"))
    columns = table()
    full = [all(columns[name][i] not in ("", "NA") for name in columns) for i in range(N)]
    assert len(found) == sum(full)
    assert not bool(found.values.isnan().any())
    assert not any(found.spec.transform.gaps)


def test_parquet_keeps_types(path: Path, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    kept = {
        "flag": arrow.array([True, None, False, True] * 10),
        "day": arrow.array([18000, 18001, None, 18005] * 10, arrow.date32()),
        "n": arrow.array(list(range(40)), arrow.int16()),
        "text": arrow.array(["a", "b", None, "a"] * 10),
        "x": arrow.array(np.linspace(0, 1, 40)),
    }
    parquet.write_table(arrow.table(kept), tmp_path / "t.parquet")
    found = load(str(tmp_path / "t.parquet"), DataOptions(columns={"text": "category"}))
    values = found.spec.to_array(found.spec.encode(found.values))
    data.write_table(tmp_path / "back.parquet", data.typed_columns(found.spec, values, found.spec.channels))
    back = parquet.read_table(tmp_path / "back.parquet")
    assert back["flag"].to_pylist() == kept["flag"].to_pylist()
    assert back["day"].to_pylist() == kept["day"].to_pylist()
    assert back["n"].to_pylist() == kept["n"].to_pylist()
    assert back["text"].to_pylist() == kept["text"].to_pylist()
    assert back["x"].to_pylist() == pytest.approx(kept["x"].to_pylist(), abs=1e-6)


def test_dates_of_a_few_days_stay_these(tmp_path: Path) -> None:
    rows = [f"{i / 7:.3f},{['2001-01-01', '2003-01-01', '2004-01-01'][i % 3]}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["x,day", *rows]))
    spec = load(str(tmp_path / "t.csv")).spec
    assert "2001-01-01, 2003-01-01, 2004-01-01" in dict(spec.transform.describe())["column day"]
    made = spec.to_array(torch.randn(100, 2, generator=torch.Generator().manual_seed(0)))
    (_, days) = data.typed_columns(spec, made, spec.channels)
    assert set(days.cells) == {"2001-01-01", "2003-01-01", "2004-01-01"}
    assert days.type == "date"


def test_scoring_refuses_values_that_the_table_never_had(path: Path) -> None:
    spec = load(str(path), DataOptions(columns=GRADES)).spec
    row = load(str(path), DataOptions(columns=GRADES)).values[:1].clone()
    row[0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        spec.check(row, "table")
    row[0, 0], row[0, 5] = 0.0, 7.0
    with pytest.raises(InputError, match="the value 7 in the column 'colour'"):
        spec.check(row, "table")


def test_a_table_goes_through_training_and_comes_back(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lightgbm", reason="the extra 'trees' is not installed")
    run, out = tmp_path / "run", tmp_path / "s.csv"
    small = ["trees.levels=3", "trees.trees=3", "trees.rows=200", "sampling.steps=3"]
    columns = "data.columns={grade: ordinal low<mid<high, colour: category}"
    assert main(["train", str(path), "--recipe", "trees", *small, columns, "--out", str(run)]) == 0
    assert main(["sample", str(run), "-n", "50", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert list(rows[0]) == ["size", "doors", "count", "price", "day", "colour", "grade"]
    assert {row["grade"] for row in rows} <= {"low", "mid", "high"}
    assert {row["colour"] for row in rows} <= {"red", "blue", "wine red", ""}
    again = load(str(out), DataOptions(columns={**GRADES, "doors": "ordinal"})).spec
    assert again.channels == tuple(rows[0])
    capsys.readouterr()
    assert main(["likelihood", str(run)]) == 2
    assert "have no density" in capsys.readouterr().err


def test_a_network_learns_such_a_table(path: Path) -> None:
    found = load(str(path))
    model = kinds.fresh(recipes.read("flow"), found.spec)
    drawn = model.sample(3, steps=2)
    assert drawn.shape == (3, 7)


def test_the_class_comes_back_under_its_name_and_at_its_place(tmp_path: Path) -> None:
    rows = [f"{i * 0.37 % 1:.2f},{'ab'[i % 2]},{i * i % 31}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["x,kind,y", *rows]))
    spec = load(str(tmp_path / "t.csv")).spec
    written = data.typed_columns(spec, np.array([[0.5, 3.0]], np.float32), spec.channels, ["b"])
    assert [(column.name, column.cells) for column in written] == [("x", [0.5]), ("kind", ["b"]), ("y", [3])]
