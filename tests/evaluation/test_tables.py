"""Measures of tables against their definitions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from sfumato.data import DataSpec, load
from sfumato.evaluation.by_class import Labels
from sfumato.evaluation.evaluate import RealData, evaluate
from sfumato.evaluation.quality import Sets
from sfumato.evaluation.spaces import spaces_named
from sfumato.evaluation.tables import (
    Classes,
    alpha_precision,
    beta_recall,
    fidelity,
    learned,
    nearest_share,
    shape,
    trend,
)


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


def test_alpha_precision_and_beta_recall_by_their_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    real, other = (torch.randn(300, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    for samples in (other, 0.3 * other, other + 2):
        sets = Sets(samples, real)
        centre, middle = real.mean(0), samples.mean(0)
        precision, recall = [], []
        for share in np.linspace(0.02, 0.98, 49):
            radius = np.quantile((real - centre).norm(dim=1).numpy(), share)
            precision.append(abs(((samples - centre).norm(dim=1) <= radius).double().mean() - share))
            radius = np.quantile((samples - middle).norm(dim=1).numpy(), share)
            met = 0
            for i in range(0, 300):
                beside = torch.cat([real[:i], real[i + 1 :]])
                nearest = (samples - real[i]).norm(dim=1).argmin()
                near = (samples[nearest] - real[i]).norm() <= (beside - real[i]).norm(dim=1).min()
                met += bool(near and (samples[nearest] - middle).norm() <= radius)
            recall.append(abs(met / 300 - share))
        assert alpha_precision(sets) == pytest.approx(1 - 2 * float(np.mean(precision)))
        assert beta_recall(sets) == pytest.approx(1 - 2 * float(np.mean(recall)))
    assert alpha_precision(Sets(other, real)) > 0.9
    assert alpha_precision(Sets(0.3 * other, real)) < 0.6  # too near to the middle


def test_a_forest_learns_from_samples_what_their_classes_say() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    a, b = (torch.randn(200, 2, generator=generator) + 4 * labels[:, None] for _ in range(2))
    assert learned(Sets(a, b), labels, labels) > 0.95
    assert learned(Sets(a, b), 1 - labels, labels) < 0.05
    unknown = torch.where(torch.arange(200) < 100, labels, -1)
    assert learned(Sets(a, b), unknown, unknown) > 0.95


def test_an_evaluation_judges_a_table_as_a_table(tmp_path: Path) -> None:
    spec, rows = spec_and_rows(tmp_path)
    labels = rows[:, 2].long()
    real = RealData(
        "t",
        rows[:100],
        rows[200:],
        rows[:200],
        rows[200:],
        Labels(("a", "b", "c"), labels[:100], labels[200:], labels[100:200]),
    )
    found = evaluate(rows[100:200], real, spec, spaces_named(("values",), spec))
    assert found.as_table is not None
    direct = fidelity(
        spec, rows[100:200], rows[:100], rows[200:], classes=Classes(labels[100:200], labels[:100], labels[200:])
    )
    record = found.to_dict()["as_table"]
    assert record == direct.to_dict()
    assert record["samples"]["learned"] > 0.8
    assert "trend of pairs" in str(found)
    alone = evaluate(rows[100:200], replace(real, held_out=None), spec, spaces_named(("values",), spec))
    assert alone.as_table is None
