"""The choice of guidance: its error bars by repetition, and what it keeps of draws whose quality is known."""

import pytest
import torch
from torch import Tensor

from sfumato.errors import InputError
from sfumato.evaluation.choosing_guidance import EVERYWHERE, GRID, MIDDLE, choose_guidance, gain
from sfumato.evaluation.quality.kernels import energy_distance
from sfumato.evaluation.quality.sets import Sets
from sfumato.guidance import Interval

COUNT = 200
CLASSES = torch.arange(COUNT) % 2
LABELS = torch.arange(160) % 2


def of_classes(classes: Tensor, seed: int) -> Tensor:
    """Two classes with means -2 and 2 in the first of two numbers."""
    noise = torch.randn(len(classes), 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise + torch.stack((4.0 * classes - 2, 0 * classes), 1)


def drawn(best: float, interval: Interval):
    """Samples that are the wider the farther the weight is from ``best``, outside ``interval`` always as without."""

    def draw(weight: float, where: Interval, seed: int) -> Tensor:
        weight = weight if where == interval else 1.0
        means = of_classes(CLASSES, 0) - torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(0)).double()
        return means + (of_classes(CLASSES, seed + 100) - means) * (1 + 2 * abs(weight - best))

    return draw


@pytest.mark.parametrize(("best", "interval"), [(2.0, EVERYWHERE), (1.5, MIDDLE)])
def test_the_best_of_the_grid_is_kept(best: float, interval: Interval) -> None:
    found = choose_guidance(drawn(best, interval), CLASSES, of_classes(LABELS, 1), LABELS)
    assert len(found.tried) == len(GRID)
    assert (found.best.weight, found.best.interval) == (best, interval)
    assert found.kept
    assert found.checked.weight == best
    assert found.best.gain == max(each.gain for each in found.tried)


def test_guidance_that_only_harms_or_does_nothing_is_not_kept() -> None:
    real = of_classes(LABELS, 1)
    assert not choose_guidance(drawn(1.0, EVERYWHERE), CLASSES, real, LABELS).kept
    assert not choose_guidance(lambda w, where, seed: of_classes(CLASSES, seed), CLASSES, real, LABELS).kept


def test_classes_count_where_the_values_of_all_together_agree() -> None:
    def draw(weight: float, where: Interval, seed: int) -> Tensor:
        return of_classes(CLASSES if weight == 2 else 1 - CLASSES, seed)

    found = choose_guidance(draw, CLASSES, of_classes(LABELS, 1), LABELS)
    assert found.best.weight == 2
    assert found.kept


def test_the_error_of_a_gain_is_its_spread() -> None:
    gains, errors = [], []
    for i in range(200):
        labels = torch.randint(2, (120,), generator=torch.Generator().manual_seed(i))
        noise, real = of_classes(CLASSES, 3 * i), of_classes(labels, 3 * i + 1)
        guided, plain = Sets(1.1 * noise, real), Sets(1.4 * noise + 0.3, real)
        value, error = gain(guided, plain, CLASSES)
        assert value == pytest.approx(energy_distance(plain) - energy_distance(guided))
        gains.append(value)
        errors.append(error)
    spread = float(torch.tensor(gains).std())
    # 200 repetitions know a standard deviation to 5 %; second-order terms are left out.
    assert float(torch.tensor(errors).mean()) == pytest.approx(spread, rel=0.2)


def test_too_little_held_out_data_is_refused() -> None:
    with pytest.raises(InputError, match=r"39 held-out samples are too few.*training\.held_out=0\.1"):
        choose_guidance(drawn(2.0, EVERYWHERE), CLASSES, of_classes(LABELS[:39], 1), LABELS[:39])
