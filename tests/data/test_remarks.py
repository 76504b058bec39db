"""Notes about values: bounds that data seems to have, and samples that are there more than once."""

from pathlib import Path

import numpy as np
import pytest

from sfumato.data import DataOptions, load
from sfumato.data.duplicates import copies

RNG = np.random.default_rng(0)


def notes(path: Path, values: np.ndarray, **options: float) -> tuple[str, ...]:
    np.save(path, values)
    return load(str(path), DataOptions(**options)).notes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "said", "high"),
    [
        (RNG.uniform(size=(50, 3)).astype(np.float32), "all values are within 0 and 1", 1),
        (RNG.gamma(2.0, 3.0, size=(50, 3)), "no value is negative", None),
        (1e-7 * RNG.gamma(2.0, 3.0, size=(50, 3)), "all values are within 0 and 1", 1),
        (123.4 * RNG.uniform(size=(2, 4, 20)), "no value is negative", None),
        (RNG.integers(0, 1000, size=(60, 3)).astype(np.int32), "integers are read as continuous values; no", None),
    ],
)
def test_bounds_that_data_seems_to_have_are_named_with_settings_that_work(
    tmp_path: Path, values: np.ndarray, said: str, high: float | None
) -> None:
    (note,) = [note for note in notes(tmp_path / "x.npy", values) if "data.low=0 data.high=" in note]
    assert note.startswith(said)
    named = float(note.split("data.high=")[1].split()[0])
    assert named == high or values.max() <= named <= 1.11 * values.max()
    again = notes(tmp_path / "x.npy", values, low=0.0, high=named)
    assert not any("keeps them there" in note for note in again)
    spec = load(str(tmp_path / "x.npy"), DataOptions(low=0.0, high=named)).spec
    assert spec.bounds == (0.0, named)


@pytest.mark.parametrize("values", [RNG.normal(size=(50, 3)), np.ones((5, 2)), RNG.uniform(-1, 1, size=(50, 3))])
def test_other_data_gets_no_such_note(tmp_path: Path, values: np.ndarray) -> None:
    assert not any("data.low" in note for note in notes(tmp_path / "x.npy", values))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape", [(1,), (3,), (1, 5, 7), (3, 16, 16)])
def test_copies_are_counted(kind: type, shape: tuple[int, ...]) -> None:
    """Against sets of bytes, with rows that differ in a single value, in one bit, or by an order of values."""
    values = np.round(100 * RNG.uniform(size=(300, *shape))).astype(kind)
    values[200:] = values[RNG.integers(0, 250, size=100)]
    values[7] = values[3]
    values[7].reshape(-1)[-1] += 1
    values[8] = values[3].reshape(-1)[::-1].reshape(shape)
    assert copies(values) == 300 - len({row.tobytes() for row in values})


def test_many_rows_that_differ_little_are_told_apart() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(40, dtype=np.float32)] * 3), -1).reshape(-1, 3)
    assert copies(grid) == 0
    assert copies(2.0**-20 * grid) == 0
    assert copies(np.concatenate((grid, grid[:14]))) == 14


def test_they_are_named_at_load(tmp_path: Path) -> None:
    values = RNG.normal(size=(1000, 3))
    values[990:] = values[:10]
    found = notes(tmp_path / "x.npy", values)
    assert "10 of 1,000 samples are exact copies of others" in found
    assert not any("copies" in note for note in notes(tmp_path / "x.npy", values[:990]))
