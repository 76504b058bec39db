import pytest
import torch

from sfumato.evaluation import recognise
from sfumato.evaluation.neighbours import nearest


def test_nearest_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(7, 2, 3, generator=generator, dtype=torch.float64)
    references = torch.randn(50, 2, 3, generator=generator, dtype=torch.float64)
    distances, index = nearest(queries, references, block=8)
    for i, query in enumerate(queries):
        by_hand = [float(((query - r) ** 2).mean() ** 0.5) for r in references]
        assert float(distances[i]) == pytest.approx(min(by_hand), abs=1e-12)
        assert int(index[i]) == by_hand.index(min(by_hand))


def test_a_copy_is_at_no_distance() -> None:
    references = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) + 3
    distances, index = nearest(references[[7, 3]].clone(), references)
    assert distances.tolist() == [0, 0]
    assert index.tolist() == [7, 3]


@pytest.fixture(scope="module")
def sets() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    # Three classes, far apart: a classifier is certain of them, and of nothing in between.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(100)
    values = torch.eye(3).mul(10)[labels] + torch.randn(300, 3, generator=generator)
    return values[:240], labels[:240], values[240:], labels[240:]


def test_real_data_is_recognised_as_itself(sets: tuple[torch.Tensor, ...]) -> None:
    r = recognise(*sets, sets[2])
    assert r.held_out_accuracy == 1.0
    assert r.sample_confidence == r.held_out_confidence
    assert r.share_distance == 0.0
    assert sum(r.sample_shares) == pytest.approx(1)


def test_blends_and_a_missing_class_show(sets: tuple[torch.Tensor, ...]) -> None:
    blends = sets[2][torch.randperm(60, generator=torch.Generator().manual_seed(1))].add(sets[2]).div(2)
    assert recognise(*sets, blends).sample_confidence < recognise(*sets, sets[2]).sample_confidence - 0.02
    lacking = sets[2][sets[3] != 1]
    r = recognise(*sets, lacking)
    assert r.sample_shares[1] == 0
    # A third of the probability has gone: the total variation distance is a third, twice what chance would give.
    assert r.share_distance == pytest.approx(1 / 3, abs=1e-9)
    assert r.share_floor < 0.5 * r.share_distance
