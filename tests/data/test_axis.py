"""The axis of a signal: from a file to the contract."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.data import Axis, DataOptions, Dataset, load
from sfumato.errors import InputError

SPECTRA = np.random.default_rng(0).normal(size=(20, 2, 9)).astype(np.float32)


def read(folder: Path, key: str, positions: np.ndarray, values: np.ndarray = SPECTRA, **options: Any) -> Dataset:
    np.savez(folder / "a.npz", x=values, **{key: positions})
    return load(str(folder / "a.npz"), DataOptions(axis=key, **options))


@pytest.mark.parametrize(
    ("key", "name", "unit", "label"),
    [
        ("wavelength", "wavelength", "", "wavelength"),
        ("wavelength [nm]", "wavelength", "nm", "wavelength (nm)"),
        ("time (s)", "time", "s", "time (s)"),
        ("[cm-1]", "", "cm-1", "position (cm-1)"),
    ],
)
def test_the_key_names_axis_and_unit(tmp_path: Path, key: str, name: str, unit: str, label: str) -> None:
    positions = np.linspace(400, 700, 9)
    axis = read(tmp_path, key, positions).spec.axis
    assert axis == Axis(tuple(positions.tolist()), name, unit)
    assert axis.label == label


def test_channels_that_come_last_leave_the_axis_in_place(tmp_path: Path) -> None:
    spec = read(tmp_path, "t", np.arange(9)[::-1], np.moveaxis(SPECTRA, 1, 2)).spec
    assert spec.shape == (2, 9)
    assert spec.axis is not None
    assert spec.axis.values == tuple(range(8, -1, -1))


def test_the_axis_is_no_part_of_the_values(tmp_path: Path) -> None:
    with_axis = read(tmp_path, "t", np.arange(9)).spec
    np.savez(tmp_path / "b.npz", x=SPECTRA)
    assert load(str(tmp_path / "b.npz")).spec.axis is None
    assert load(str(tmp_path / "b.npz")).spec.fingerprint == with_axis.fingerprint


@pytest.mark.parametrize(
    ("positions", "options", "complaint"),
    [
        (np.arange(8), {}, "array 't' has shape .8,., but the signals have 9 positions"),
        (np.array([0, 1, 2, 3, 4, 5, 6, 7, 7]), {}, "array 't' is not strictly increasing or strictly decreasing"),
        (np.array([0, 1, 2, math.nan, 4, 5, 6, 7, 8]), {}, "array 't' is not strictly increasing"),
        (np.arange(9), {"layout": "vector"}, "is read as vectors, and only signals have an axis"),
        (np.array(["a"] * 9), {}, "save an array of real numbers"),
    ],
)
def test_an_axis_that_does_not_fit_is_refused(
    tmp_path: Path, positions: np.ndarray, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        read(tmp_path, "t", positions, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [(0.0, 0.5, 0.2), (0.0, 0.0), (3.0, 1.0, 1.5), (0.0, math.inf), (math.nan,)])
def test_positions_out_of_order_are_no_axis(values: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"^data contract: axis\.values must be"):
        Axis(values)


def test_an_axis_that_is_not_there_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=SPECTRA)
    with pytest.raises(InputError, match=r"^data.axis: '.*a.npz' has no array 'w'; it has x float32"):
        load(str(tmp_path / "a.npz"), DataOptions(axis="w"))
    with pytest.raises(InputError, match=r"^data.axis: does not apply to 'moons', which is built-in data"):
        load("moons", DataOptions(axis="w"))
