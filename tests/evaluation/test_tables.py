"""Measures of tables against their definitions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from sfumato.data import DataSpec, load
from sfumato.evaluation.tables import fidelity, nearest_share, shape, trend


def spec_and_rows(folder: Path, n: int = 300) -> tuple[DataSpec, torch.Tensor]:
    generator = np.random.default_rng(0)
    group = generator.integers(0, 3, n)
    x = generator.normal(group, 0.5)
    lines = [f"{a:.4f},{b:.4f},{'abc'[g]}" for a, b, g in zip(x, 2 * x + generator.normal(size=n), group, strict=True)]
    lines[3] = lines[3].replace(lines[3].split(",")[1], "", 1)
    (folder / "t.csv").write_text("\n".join(["x,y,kind", *lines]))
    from sfumato.data import DataOptions

    found = load(str(folder / "t.csv"), DataOptions(columns={"kind": "category"}))
    return found.spec, found.values


def test_shape_is_the_mean_of_ks_and_tv(tmp_path: Path) -> None:
    spec, rows = spec_and_rows(tmp_path)
    a, b = rows[:100], rows[100:] + torch.tensor([0.3, 0, 0])
    ks = [ks_2samp(*(np.nan_to_num(each[:, j].numpy(), nan=-1e9) for each in (a, b))).statistic for j in (0, 1)]
    shares = [np.bincount(each[:, 2].numpy().astype(int), minlength=3) / len(each) for each in (a, b)]
    tv = np.abs(shares[0] - shares[1]).sum() / 2
    assert shape(spec, a, b) == pytest.approx(1 - np.mean([*ks, tv]), abs=1e-9)
    assert shape(spec, rows, rows) == 1


def test_trend_sees_relations_that_shape_does_not(tmp_path: Path) -> None:
    spec, rows = spec_and_rows(tmp_path)
    shuffled = torch.stack(
        [rows[torch.from_numpy(np.random.default_rng(j).permutation(len(rows))), j] for j in range(3)], 1
    )
    assert shape(spec, shuffled, rows) == 1
    assert trend(spec, rows, rows) == 1
    assert trend(spec, shuffled, rows) < 0.75
    known = ~rows.isnan().any(1)
    numbers = rows[known][:, :2]
    r = np.corrcoef(numbers.numpy().T)[0, 1]
    flipped = rows.clone()
    flipped[:, 1] = -flipped[:, 1]
    kept = trend(spec, flipped, rows)
    assert kept < 1 - abs(r) / 3 + 1e-6  # of three pairs, the first has the opposite correlation


def test_a_copy_is_nearer_to_training_rows_and_real_rows_are_not(tmp_path: Path) -> None:
    spec, rows = spec_and_rows(tmp_path)
    assert nearest_share(spec, rows[:100], rows[:100], rows[100:200]) > 0.95
    assert nearest_share(spec, rows[200:], rows[:100], rows[100:200]) == pytest.approx(0.5, abs=0.15)
    judged = fidelity(spec, rows[:100], rows[:100], rows[100:])
    assert judged.samples.nearest > 0.95
    assert judged.samples.told_apart.value == pytest.approx(0.5, abs=0.12)
    far = fidelity(spec, rows[:100] + torch.tensor([3.0, 0, 0]), rows[:100], rows[100:])
    assert far.samples.told_apart.value > 0.95
    assert far.samples.shape < judged.real.shape
