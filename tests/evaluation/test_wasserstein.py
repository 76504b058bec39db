"""Distances against closed forms, and a floor that true samples stand on."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from sfumato.evaluation.wasserstein import Ruler, directions, sliced_wasserstein, wasserstein


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 5))
def test_unequal_sizes_by_copies(n: int, m: int, seed: int) -> None:
    """m copies of each of n numbers, and n copies of m, are the same sets in equal sizes."""
    a, b = normal(3, n, seed=seed).sort(-1).values, normal(3, m, seed=seed + 9).sort(-1).values
    copies = (a.repeat_interleave(m, -1) - b.repeat_interleave(n, -1)).square().mean(-1)
    assert wasserstein(a, b).tolist() == pytest.approx(copies.tolist(), rel=1e-12, abs=1e-15)


def test_one_dimension_against_the_best_pairing() -> None:
    """All pairings of 6 with 6 numbers; and of numbers a constant apart W_2 is W_1, which scipy knows."""
    from itertools import permutations

    a, b = normal(6).sort().values, 2 * normal(6, seed=1).sort().values
    best = min(float((a - b[list(p)]).square().mean()) for p in permutations(range(6)))
    assert float(wasserstein(a, b)) == pytest.approx(best, rel=1e-12)
    x, y = normal(5), (normal(5) + 0.7).repeat(3)
    assert sliced_wasserstein(x[:, None], y[:, None]) == pytest.approx(wasserstein_distance(x, y), rel=1e-9)


@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (1, 6, 7)])
def test_a_shift_is_its_length_over_the_root_of_the_dimensions(shape: tuple[int, ...]) -> None:
    x, shift = normal(40, *shape), normal(*shape, seed=1)
    expected = float(shift.norm()) / math.sqrt(shift.numel())
    assert sliced_wasserstein(x, x + shift) == pytest.approx(expected, rel=1e-9)


def test_a_part_of_a_frame_is_enough_in_many_dimensions() -> None:
    """256 of 1,024 directions: of a shift's squared parts a Beta(128, 384) share, here 6 of its deviations."""
    x, shift = normal(8, 1024), normal(1024, seed=1)
    found = sliced_wasserstein(x, x + shift) / (float(shift.norm()) / 32)
    assert found**2 == pytest.approx(1, abs=4 * 6 * math.sqrt(0.25 * 0.75 / 513))


def test_gaussians_of_two_shapes() -> None:
    """Along theta the deviations are |A theta| and |B theta|; their squared difference, averaged over the circle."""
    a, b = torch.tensor([1.0, 3.0]).double(), torch.tensor([2.0, 0.5]).double()
    x, y = normal(4000, 2) * a, normal(4000, 2, seed=1) * b
    angle = torch.linspace(0, math.pi, 2001, dtype=torch.float64)[:-1]
    circle = torch.stack((angle.cos(), angle.sin()), -1)
    expected = float(((circle * a).norm(dim=1) - (circle * b).norm(dim=1)).square().mean().sqrt())
    # A deviation of 4,000 samples is off by 1.1 % of itself, and the difference of two, of up to 2.5, by less than 5 %;
    # 500 random frames find the mean over angles to 2 %.
    assert sliced_wasserstein(x, y, count=1000) == pytest.approx(expected, rel=0.07)


def test_order_does_not_matter_and_sides_do_not() -> None:
    x, y = normal(30, 4), normal(20, 4, seed=1) + 1
    found = sliced_wasserstein(x, y)
    assert sliced_wasserstein(x[torch.randperm(30)], y.flip(0)) == pytest.approx(found, rel=1e-12)
    assert sliced_wasserstein(y, x) == pytest.approx(found, rel=1e-12)
    assert sliced_wasserstein(x, x) == 0


@pytest.mark.parametrize(("dimensions", "count"), [(1, 4), (3, 10), (7, 5)])
def test_directions_are_orthonormal_frames(dimensions: int, count: int) -> None:
    along = directions(dimensions, 0, count)
    columns = min(dimensions, count)
    assert len(along) >= count
    for frame in along.split(columns):
        assert torch.allclose(frame @ frame.mT, torch.eye(columns).double(), atol=1e-12)
    assert torch.equal(along, directions(dimensions, 0, count))
    if dimensions > 1:
        assert not torch.allclose(along, directions(dimensions, 1, count))


@pytest.fixture(scope="module")
def ruler() -> Ruler:
    return Ruler([normal(300, 3, seed=k) for k in range(8)], [normal(200, 3, seed=50 + k) for k in range(8)], 0)


def test_true_samples_stand_on_the_floor(ruler: Ruler) -> None:
    found = [ruler.measure(normal(200, 3, seed=100 + k)) for k in range(20)]
    ratios = np.array([f.ratio for f in found])
    # The mean of 20 has a fifth of one's error, beside that of the floor, which they share.
    assert abs(ratios.mean() - 1) < 4 * (ratios.std() / math.sqrt(20) + found[0].floor_error / found[0].floor)
    # The error that is given is that of the spread, or up to twice as large, as the jackknife has it here.
    spread = np.std([f.distance for f in found], ddof=1)
    assert 0.6 < np.mean([f.distance_error for f in found]) / spread < 2.2
    assert found[0].count == 200


def test_a_shift_is_found_beside_the_floor(ruler: Ruler) -> None:
    """Far from the data the floor hardly adds: the distance is that of the shift, its error that of a mean."""
    many = [ruler.measure(normal(200, 3, seed=100 + k) + 2) for k in range(10)]
    expected = 1 / math.sqrt(3 * 200)  # along the shift, of its length over the root of 3
    assert np.mean([f.distance for f in many]) == pytest.approx(2, abs=4 * expected)
    # One error, from 8 groups, is uncertain by 27 % (chi with 7 degrees of freedom), the mean of ten by 9 %.
    assert np.mean([f.distance_error for f in many]) == pytest.approx(expected, rel=0.3)
    found = many[0]
    assert found.ratio == pytest.approx(found.distance / found.floor, rel=1e-12)
    parts = (found.distance_error / found.distance, found.floor_error / found.floor)
    assert found.ratio_error == pytest.approx(found.ratio * math.hypot(*parts), rel=1e-9)


def test_data_that_is_all_the_same_has_no_floor() -> None:
    same = torch.ones(10, 2)
    assert math.isnan(Ruler([same] * 2, [same] * 2, 0).measure(same).ratio)


def test_one_sample_has_a_distance_and_no_error() -> None:
    """In one dimension W_2 of two single points is their distance; leaving one out leaves nothing."""
    one = torch.tensor([[3.0]])
    found = Ruler([one] * 2, [one + 0.5] * 2, 0).measure(one - 2)
    assert (found.distance, found.floor) == (pytest.approx(2, rel=1e-12), pytest.approx(0.5, rel=1e-12))
    assert math.isnan(found.distance_error)
    assert math.isnan(found.ratio_error)
