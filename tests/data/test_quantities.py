"""Numbers that samples are given with: columns of a table, arrays of an .npz."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.data import DataOptions, DataSpec, Quantity, in_units, load, standardised
from sfumato.errors import InputError

TABLE = "x,y,heat,humid\n" + "\n".join(
    f"{i},{i * i % 7}.5,{'' if i % 4 == 0 else 20 + i},{0.1 * i:.1f}" for i in range(12)
)


def arrays(path: Path, **others: Any) -> str:
    rng = np.random.default_rng(0)
    given = {
        "x": rng.normal(size=(30, 4)).astype(np.float32),
        "heat": rng.normal(20, 3, 30),
        "two": rng.normal(size=(30, 2)),
    }
    np.savez(path, **{**given, **others})
    return str(path)


def test_columns_of_a_table_are_no_part_of_the_samples(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(TABLE)
    found = load(str(tmp_path / "x.csv"), DataOptions(conditions=("humid", "heat")))
    assert found.spec.channels == ("x", "y")
    assert [each.name for each in found.spec.conditions] == ["humid", "heat"]
    heat = [20.0 + i for i in range(12) if i % 4]
    assert found.spec.conditions[1].mean == pytest.approx(np.mean(heat))
    assert found.spec.conditions[1].deviation == pytest.approx(np.std(heat))
    assert found.conditions is not None
    assert found.conditions[:, 1].isnan().tolist() == [i % 4 == 0 for i in range(12)]
    taken = found.samples().take(torch.tensor([5, 0]))
    assert taken.conditions is not None
    assert taken.conditions[0, 1] == pytest.approx((25 - np.mean(heat)) / np.std(heat), abs=1e-6)
    assert taken.conditions[1].isnan().tolist() == [False, True]


def test_arrays_of_an_npz_are_one_number_or_several(tmp_path: Path) -> None:
    source = arrays(tmp_path / "x.npz")
    found = load(source, DataOptions(conditions=("heat", "two")))
    assert [each.name for each in found.spec.conditions] == ["heat", "two1", "two2"]
    with np.load(source) as file:
        expected = np.column_stack([file["heat"], file["two"]])
    assert found.conditions is not None
    assert np.array_equal(found.conditions.numpy(), expected)
    part = load(source, DataOptions(conditions=("heat",), limit=7))
    at = [np.flatnonzero((found.values == row).all(1)).item() for row in part.values]
    assert part.conditions is not None
    assert np.array_equal(part.conditions[:, 0].numpy(), expected[at, 0])


def test_conditions_are_part_of_the_fingerprint_and_of_the_contract(tmp_path: Path) -> None:
    source = arrays(tmp_path / "x.npz")
    without, given = load(source), load(source, DataOptions(conditions=("heat",)))
    assert without.spec.fingerprint != given.spec.fingerprint
    with np.load(source) as file:
        heat = file["heat"].copy()
    heat[3] += 1
    assert load(arrays(tmp_path / "y.npz", heat=heat), DataOptions(conditions=("heat",))).spec.fingerprint not in {
        without.spec.fingerprint,
        given.spec.fingerprint,
    }
    assert DataSpec.from_dict(json.loads(json.dumps(given.spec.to_dict()))) == given.spec
    old = without.spec.to_dict()
    del old["conditions"]  # as contracts were before
    assert DataSpec.from_dict(old) == without.spec
    with pytest.raises(InputError, match=r"key 'conditions\.mean' must be a number"):
        DataSpec.from_dict({**old, "conditions": [{"name": "heat", "mean": "high", "deviation": 1.0}]})


REFUSED = {
    "an unknown array": (("heit",), {}, "no array 'heit'; did you mean heat\\?"),
    "another number of rows": (("heat",), {"heat": np.zeros(29)}, r"'heat' has shape \(29,\).*each of 30 samples"),
    "the samples themselves": (("x",), {}, "array 'x' has shape"),
    "text": (("heat",), {"heat": np.array(["a"] * 30)}, "array 'heat' has type"),
    "no variation": (("heat",), {"heat": np.full(30, 3.0)}, "'heat' is 3 in all samples"),
    "none at all": (("heat",), {"heat": np.full(30, np.nan)}, "'heat' is given for no sample"),
    "infinity": (("heat",), {"heat": np.r_[np.arange(29.0), np.inf]}, "'heat' has infinite values"),
    "the same twice": (("heat", "heat"), {}, "names a condition twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_condition_is_refused(name: str, tmp_path: Path) -> None:
    conditions, others, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        load(arrays(tmp_path / "x.npz", **others), DataOptions(conditions=conditions))


def test_what_cannot_be_a_condition_in_a_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(TABLE.replace("20 + 5", "hot"))
    for conditions, message in (
        (("height",), "no column 'height'"),
        (("x", "y", "heat", "humid"), "has no other columns"),
    ):
        with pytest.raises(InputError, match=f"data.conditions: .*{message}"):
            load(str(path), DataOptions(conditions=conditions))
    path.write_text("x,kind\n" + "\n".join(f"{i},{'abc'[i % 3]}" for i in range(30)))
    with pytest.raises(InputError, match="column 'kind' is not of numbers"):
        load(str(path), DataOptions(conditions=("kind",), labels=None, columns={"x": "number"}))
    with pytest.raises(InputError, match=r"data\.conditions: does not apply"):
        load("digits", DataOptions(conditions=("x",)))


def test_numbers_come_back_from_standard_deviations_as_they_were_written() -> None:
    quantities = (Quantity("a", 20.0, 3.0), Quantity("b", -0.5, 0.25))
    values = torch.tensor([[0.1, 0.3], [21.7, float("nan")], [1234.5, -2.0]], dtype=torch.float64)
    standard = standardised(quantities, values)
    torch.testing.assert_close(standard[0], torch.tensor([(0.1 - 20) / 3, (0.3 + 0.5) / 0.25]))
    assert torch.equal(in_units(quantities, standard).nan_to_num(7.0), values.nan_to_num(7.0))
