"""What the columns of a table are for: names of samples and classes beside the positions of signals."""

import numpy as np
import pytest

from sfumato import data
from sfumato.data import DataOptions

AXIS = np.arange(900, 1000, 10)
SPECTRA = np.random.default_rng(0).random((12, len(AXIS))).round(3)


def write(folder, beside):
    """A table of spectra with other columns before them: names to cells."""
    lines = [",".join([*beside, *(f"{at} nm" for at in AXIS)])]
    for i, spectrum in enumerate(SPECTRA):
        lines.append(",".join([*(cells[i] for cells in beside.values()), *map(str, spectrum)]))
    path = folder / "spectra.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


NAMES = [f"leaf {i}" for i in range(12)]
NUMBERS = [str(i + 1) for i in range(12)]
KINDS = ["oak", "elm"] * 6
PROTEIN = [f"{i % 5 / 4:.2f}" for i in range(12)]


@pytest.mark.parametrize("beside", [{"name": NAMES}, {"id": NUMBERS}, {"id": NUMBERS, "name": NAMES}])
def test_names_of_samples_beside_spectra_are_left_out(tmp_path, beside):
    found = data.load(write(tmp_path, beside))
    assert (found.spec.layout.name, found.spec.axis.unit, len(found.spec.axis.values)) == ("signal", "nm", len(AXIS))
    np.testing.assert_allclose(found.values[:, 0], SPECTRA, atol=1e-6)
    assert sum("names the samples and is left out" in note for note in found.notes) == len(beside)


def test_a_class_beside_names_is_found(tmp_path):
    found = data.load(write(tmp_path, {"name": NAMES, "kind": KINDS}))
    assert (found.spec.layout.name, found.spec.class_names) == ("signal", ("elm", "oak"))
    assert found.labels.tolist() == [1, 0] * 6


def test_numbers_beside_spectra_are_said_and_can_be_conditions_or_left_out(tmp_path):
    path = write(tmp_path, {"name": NAMES, "protein": PROTEIN})
    table = data.load(path)
    assert table.spec.layout.name == "vector"
    assert any("signals are read with data.conditions=protein" in note for note in table.notes)
    given = data.load(path, DataOptions(conditions=("protein",)))
    assert (given.spec.layout.name, given.spec.conditions[0].name) == ("signal", "protein")
    assert data.load(path, DataOptions(columns={"protein": "drop"})).spec.layout.name == "signal"
    assert data.load(path, DataOptions(layout="vector")).spec.layout.name == "vector"


def test_numbers_that_do_not_count_are_no_names(tmp_path):
    path = write(tmp_path, {"depth": [str(3 * i) for i in range(12)]})
    assert data.load(path).spec.layout.name == "vector"
