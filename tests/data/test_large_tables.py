"""Parquet tables that go to a temporary file: the same values, classes and samples as in memory, and clear refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.cli.main import main
from sfumato.data import DataOptions, Dataset, large_tables, load, mapped
from sfumato.errors import InputError

pyarrow = pytest.importorskip("pyarrow")
ROWS = 120


def written(path: Path, columns: dict[str, object], group: int = 17) -> str:
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table(columns), path, row_group_size=group)
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Numbers of several types, and classes of numbers whose order as text is another."""
    rng = np.random.default_rng(0)
    columns = {
        "a": rng.normal(3, 2, ROWS),
        "b": rng.normal(0, 1, ROWS).astype(np.float32),
        "kind": [(2, 10, 1)[i % 3] for i in range(ROWS)],
        "n": rng.integers(0, 100_000, ROWS),
    }
    return written(tmp_path / "x.parquet", columns)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every table is large; parts are smaller than row groups."""
    monkeypatch.setattr(mapped, "LARGE", 1)
    monkeypatch.setattr(large_tables, "_AT_ONCE", 28)
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def loaded(source: str, **options: object) -> Dataset:
    return load(source, DataOptions(**options))  # type: ignore[arg-type]


def test_values_and_classes_are_those_in_memory(table: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    inside = loaded(table, labels="kind", layout="vector")
    request.getfixturevalue("large")
    outside = loaded(table, labels="kind")
    assert inside.in_memory
    assert not outside.in_memory
    index = torch.tensor([5, 119, 0, 17, 5])
    assert torch.equal(outside.rows(index), inside.values[index])
    assert inside.labels is not None
    assert outside.labels is not None
    assert torch.equal(outside.labels, inside.labels)
    assert outside.spec.class_names == inside.spec.class_names == ("1", "2", "10")
    assert outside.spec.channels == ("a", "b", "n")
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]  # the temporary file has no name


@pytest.mark.usefixtures("large")
def test_names_that_are_positions_are_the_axis_of_signals(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 9))
    source = written(tmp_path / "x.parquet", {f"{400 + 10 * k} nm": values[:, k] for k in range(9)})
    found = loaded(source)
    assert found.spec.shape == (1, 9)
    assert found.spec.axis is not None
    assert found.spec.axis.values[:2] == (400.0, 410.0)
    assert torch.equal(found.rows(torch.tensor([3]))[0, 0], torch.from_numpy(values[3]).float())


@pytest.mark.usefixtures("large")
def test_a_column_of_text_is_the_class(tmp_path: Path) -> None:
    source = written(tmp_path / "x.parquet", {"a": np.arange(30.0), "who": ["x", "y", "z"] * 10})
    found = loaded(source)
    assert found.spec.class_names == ("x", "y", "z")
    assert found.spec.class_counts == (10, 10, 10)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"a": [1.0, None, 3.0]}, {}, "row 2, column 'a': is empty"),
        ({"a": [1.0, 2.0, float("inf")]}, {}, "row 3, column 'a': is inf"),
        ({"a": [1.0, 2.0, 1e39]}, {}, "row 3, column 'a': is 1e+39"),
        ({"a": [1.0, 2.0, 3.0], "b": ["x"] * 3, "c": ["y"] * 3}, {}, "column 'b' is not of numbers"),
        ({"a": [1.0, 2.0, 3.0], "b": ["x", None, "y"]}, {}, "row 2: has no class in 'b'"),
        ({"a": [1.0, 2.0, 3.0]}, {"labels": "b"}, "has no column 'b'; it has a"),
        ({"a": ["x", "y", "y"]}, {"labels": "a"}, "has no columns of numbers"),
    ],
)
def test_refuses(tmp_path: Path, columns: dict[str, object], options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=r"x\.parquet") as error:
        loaded(written(tmp_path / "x.parquet", columns), **options)
    assert words in str(error.value)


@pytest.mark.usefixtures("large")
def test_a_disk_without_room_is_refused(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_tables, "_ROOM", 2**60)
    with pytest.raises(InputError, match="set TMPDIR to a folder that has them"):
        loaded(table, labels="kind")


@pytest.mark.usefixtures("large")
def test_a_file_cut_short_is_refused(table: str) -> None:
    Path(table).write_bytes(Path(table).read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read as a Parquet file"):
        loaded(table, labels="kind")


@pytest.mark.usefixtures("large")
def test_trains_and_writes_samples_as_the_source(table: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["data.labels=kind", "training.batch=8", "network.width=8"]
    assert main(["train", table, *settings, "--steps", "4", "--out", str(run)]) == 0
    assert main(["sample", str(run), "-n", "6", "--out", str(tmp_path / "s.parquet")]) == 0
    import pyarrow.parquet as parquet

    assert parquet.read_table(tmp_path / "s.parquet").column_names[:2] == ["a", "b"]
