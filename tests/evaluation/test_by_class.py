"""Samples by class: shares, a class that is missing, a class that is bad, and classes that were asked for."""

import pytest
import torch
from torch import Tensor

from sfumato import data
from sfumato.evaluation.by_class import ByClass, Labels, by_class
from sfumato.evaluation.quality import measures_of

NAMES = ("a", "b", "c")
CENTRES = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
MEASURES = {m.name: m for m in measures_of(data.load("moons").spec, True) if m.name in ("sliced", "clipped_density")}


def points(labels: Tensor, seed: int) -> Tensor:
    return CENTRES[labels] + torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(seed))


def measured(labels: Tensor, samples: Tensor, asked: bool) -> ByClass:
    real = torch.arange(240) % 3
    known = Labels(NAMES, real, real, labels if asked else None)
    found = by_class("values", samples, points(real, 1), points(real, 2), known, MEASURES)
    assert found is not None
    return found


def test_shares_and_a_class_that_is_bad() -> None:
    """A half is of class a, none of c, and class b is blurred."""
    labels = torch.tensor([0] * 120 + [1] * 120)
    samples = points(labels, 3)
    samples[120:] = CENTRES[1] + 2.5 * (samples[120:] - CENTRES[1])
    found = measured(labels, samples, asked=False)
    assert [c.name for c in found.classes] == list(NAMES)
    assert [c.share for c in found.classes] == pytest.approx([0.5, 0.5, 0], abs=0.05)
    assert [c.real_share for c in found.classes] == pytest.approx([1 / 3] * 3)
    assert found.accuracy > 0.99
    assert found.agreement is None
    good, bad, none = ({row.name: row for row in c.rows} for c in found.classes)
    assert good["clipped_density"].samples.value > 0.8
    assert bad["clipped_density"].samples.value < 0.6
    assert bad["sliced"].samples.value > 2 * bad["sliced"].real.value
    assert none == {}
    assert "as a classifier of real data sees them" in "\n".join(found.lines())


def test_classes_that_were_asked_for() -> None:
    """A quarter of the samples that should be of class a are of class b: asked, seen, and how often these agree."""
    labels = torch.arange(240) % 3
    drawn = labels.clone()
    drawn[: 240 // 4 : 3] = 1
    found = measured(labels, points(drawn, 3), asked=True)
    assert [c.share for c in found.classes] == pytest.approx([1 / 3] * 3)
    assert found.agreement == pytest.approx(1 - 20 / 240, abs=0.01)
    first, second, _ = ({row.name: row for row in c.rows} for c in found.classes)
    assert first["clipped_density"].samples.value < 0.85 * second["clipped_density"].samples.value
    assert found.to_dict()["asked"] is True


def test_one_class_is_none() -> None:
    labels = Labels(("a",), torch.zeros(40, dtype=torch.int64), torch.zeros(40, dtype=torch.int64))
    assert by_class("values", torch.ones(40, 2), torch.ones(40, 2), torch.ones(40, 2), labels, MEASURES) is None
