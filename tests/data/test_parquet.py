"""Parquet tables are read like the same table in CSV, and come back."""

import sys

import numpy as np
import pytest

from sfumato import data
from sfumato.errors import InputError

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
parquet = pytest.importorskip("pyarrow.parquet")


def written(path, **columns):
    parquet.write_table(pyarrow.table(columns), path)
    return str(path)


def test_it_is_the_same_as_in_csv(tmp_path):
    (tmp_path / "t.csv").write_text("length,width,species\n1.5,2,b\n2.5,1,a\n0.5,4,b\n3,1,a\n")
    path = written(
        tmp_path / "t.parquet", length=[1.5, 2.5, 0.5, 3.0], width=[2, 1, 4, 1], species=["b", "a", "b", "a"]
    )
    ours, theirs = data.load(path), data.load(str(tmp_path / "t.csv"))
    assert ours.values.tolist() == theirs.values.tolist()
    assert ours.labels.tolist() == theirs.labels.tolist() == [1, 0, 1, 0]
    assert (ours.spec.channels, ours.spec.class_names) == (theirs.spec.channels, theirs.spec.class_names)
    assert ours.spec.fingerprint == theirs.spec.fingerprint


def test_classes_by_numbers_and_other_types(tmp_path):
    path = written(
        tmp_path / "t.parquet",
        x=pyarrow.array([1, 2, 3, 4], pyarrow.int16()),
        flag=[True, False, True, True],
        kind=pyarrow.array([10, 9, 10, 9], pyarrow.int8()),
    )
    found = data.load(path, data.DataOptions(labels="kind"))
    assert found.values.tolist() == [[1, 1], [2, 0], [3, 1], [4, 1]]
    assert found.spec.class_names == ("9", "10")


def test_spectra_with_their_axis(tmp_path):
    names = [f"{400 + 10 * i} nm" for i in range(9)]
    path = written(tmp_path / "t.parquet", **{name: [float(i), 2.0 * i, i + 0.5] for i, name in enumerate(names)})
    spec = data.load(path).spec
    assert (spec.layout.name, spec.shape, spec.axis.unit) == ("signal", (1, 9), "nm")
    assert spec.axis.values == tuple(400.0 + 10 * i for i in range(9))


def test_samples_come_back(tmp_path):
    values = np.array([[1.5, 2], [3, 4.25]], np.float32)
    columns = [data.TableColumn(name, x.tolist(), "float") for name, x in zip("ab", values.T, strict=True)]
    data.write_table(tmp_path / "s.parquet", [*columns, data.TableColumn("label", ["x", "y"], "text")])
    table = parquet.read_table(tmp_path / "s.parquet")
    assert table.column_names == ["a", "b", "label"]
    assert np.array_equal(np.stack([table["a"].to_numpy(), table["b"].to_numpy()], 1), values)
    assert table["label"].to_pylist() == ["x", "y"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": pyarrow.array([None, None], pyarrow.float64())}, "column 'x': is empty in all 2 rows"),
        ({"x": [1.0, float("inf")]}, "line 2, column 'x': is inf"),
        ({"x": [[1.0, 2.0], [3.0, 4.0]]}, r"column 'x' holds list.* in each cell; give one number"),
        ({"x": ["a", "2", "3"], "y": [1, 2, 3]}, "'a' is not a number; repair it"),
        ({"x": pyarrow.array([], pyarrow.float64())}, "has no rows"),
    ],
)
def test_faults_are_named(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        data.load(written(tmp_path / "t.parquet", **columns))


def test_what_is_no_parquet_and_no_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="cannot be read as a Parquet file"):
        data.load(str(tmp_path / "t.parquet"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install sfumato\[parquet\]"):
        data.load(str(tmp_path / "t.parquet"))
