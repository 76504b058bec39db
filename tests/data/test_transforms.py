"""The transform against derivatives, densities and explicit sums."""

import math

import pytest
import torch

from sfumato.data import Affine
from sfumato.data.transforms import transform_from_dict

PLANE = Affine((1.0, -2.0), (0.5, 4.0))
BYTES = Affine((127.5,), (127.5,), 0.0, 255.0, 256)
FREE = Affine((3.0,), (2.0,))


@pytest.mark.parametrize(("transform", "shape"), [(PLANE, (2,)), (FREE, (2, 3)), (FREE, (1, 2, 2))])
def test_the_log_determinant_is_that_of_the_jacobian(transform: Affine, shape: tuple[int, ...]) -> None:
    x = torch.randn(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gained = transform.log_det(x)
    for sample, nats in zip(x, gained, strict=True):
        jacobian = torch.func.jacrev(transform.decode)(sample).reshape(sample.numel(), -1)
        assert nats.item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), rel=1e-12)


def test_a_density_in_data_units_integrates_to_one() -> None:
    # -log p(x) in model units plus the log determinant is that of a normal with the transform's mean and deviation.
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    nats = (0.5 * x.square() + 0.5 * math.log(2 * math.pi)).sum(1) + PLANE.log_det(x)
    normal = torch.distributions.Normal(torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 4.0]).double())
    torch.testing.assert_close(nats, -normal.log_prob(PLANE.decode(x)).sum(1))


def test_probabilities_of_levels_do_not_change_with_the_units() -> None:
    assert BYTES.log_det(torch.zeros(3, 1, 4, 4)).tolist() == [0.0] * 3


def test_bounds_in_model_units_are_those_of_the_ends() -> None:
    assert FREE.bounds is None
    assert FREE.model_bounds() is None
    assert [float(end) for end in BYTES.model_bounds() or ()] == [-1.0, 1.0]
    low, high = Affine((1.0, 0.0), (2.0, 0.5), -1.0, 3.0).model_bounds() or (None, None)
    assert low is not None
    assert high is not None
    assert (low.tolist(), high.tolist()) == ([-1.0, -2.0], [1.0, 6.0])


def test_the_grid_is_that_of_the_encoded_levels() -> None:
    assert FREE.grids == (None,)
    (grid,) = BYTES.grids
    assert grid is not None
    torch.testing.assert_close(grid.values, BYTES.encode(torch.arange(256, dtype=torch.float64)))
    first, second = Affine((1.0, 0.0), (2.0, 0.5), -1.0, 3.0, 5).grids
    assert first is not None
    assert second is not None
    assert (first.values.tolist(), second.values.tolist()) == ([-1, -0.5, 0, 0.5, 1], [-2, 0, 2, 4, 6])


def test_levels_are_counted_from_the_lower_bound() -> None:
    thirds = Affine((0.25,), (0.75,), -0.5, 1.0, 4)
    index = thirds.level_index(torch.tensor([-0.5, 0.0, 0.49, 1.0]))
    assert index is not None
    assert index.tolist() == [0, 1, 2, 3]
    assert thirds.round_to_levels(torch.tensor([-0.4, 0.2, 0.3, 0.9])).tolist() == [-0.5, 0.0, 0.5, 1.0]
    assert FREE.level_index(torch.zeros(1)) is None
    assert FREE.round_to_levels(torch.tensor([0.3])).item() == pytest.approx(0.3)


def test_only_clipping_makes_the_two_ways_of_decoding_differ() -> None:
    x = torch.tensor([-3.0, -1.0, 0.5, 2.0])
    assert BYTES.decode_unclipped(x).tolist() == [-255.0, 0.0, 191.25, 382.5]
    assert BYTES.decode(x).tolist() == [0.0, 0.0, 191.25, 255.0]
    assert torch.equal(FREE.decode(x), FREE.decode_unclipped(x))


def test_the_factor_between_units_is_one_number_only_where_all_features_share_it() -> None:
    assert (FREE.unit_scale, PLANE.unit_scale) == (2.0, None)


@pytest.mark.parametrize("transform", [PLANE, BYTES, FREE])
def test_a_transform_survives_its_plain_values(transform: Affine) -> None:
    assert transform_from_dict(transform.to_dict()) == transform


def test_a_transform_in_words() -> None:
    assert BYTES.range_in_words() == "from 0 to 255 in 256 levels"
    assert FREE.range_in_words() == "not bounded"
    assert dict(BYTES.describe())["range"] == "0 to 255"
    many = Affine(tuple(map(float, range(20))), (1.0,) * 20)
    assert dict(many.describe())["shift to model units"].endswith("10, 11, … (20 in all)")
