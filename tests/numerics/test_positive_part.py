"""Systems of the identity and what is nearly a covariance: against eigenvectors, and each row on its own."""

import pytest
import torch
from torch import Tensor

from sfumato.numerics.positive_part import solve

N = 12


def operator(seed: int, eigenvalues: Tensor) -> Tensor:
    """The symmetric matrix 1 + U diag(eigenvalues) U^T."""
    g = torch.Generator().manual_seed(seed)
    U, _ = torch.linalg.qr(torch.randn(N, N, generator=g, dtype=torch.float64))
    return torch.eye(N).double() + (U * eigenvalues) @ U.T


def told(matrix: Tensor, right: Tensor) -> Tensor:
    """C x for the solution x of (1 + C) x = right, with the positive part C of the symmetric part of ``matrix - 1``."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    found = torch.zeros_like(right)
    for value, u in zip(values, vectors.T, strict=True):
        if value > 1:
            found += u * (u @ right) * (value - 1) / value
    return found


def positive(matrix: Tensor, x: Tensor) -> Tensor:
    """C x with that C."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * (values - 1).clamp(min=0)) @ (vectors.T @ x)


def applied(matrices: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("bij,bj->bi", matrices, x)


MATRICES = torch.stack(
    [
        operator(0, torch.logspace(-1, 3, N, dtype=torch.float64)),
        operator(1, torch.tensor([0.0] * 5 + [0.5, 2, 2, 2, 10, 100, 300]).double()),
        operator(2, torch.tensor([-300.0, -5, -1.5, -0.5] + [3.0] * 4 + [20, 50, 100, 400]).double()),
        operator(3, torch.linspace(0.1, 9, N, dtype=torch.float64)),
    ]
)
RIGHT = torch.randn(4, N, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def test_what_a_covariance_says_is_that_of_the_solution():
    """1 + C with C >= 0: C x is that of a direct solution, in all rows but the one whose C is no covariance."""
    x = solve(lambda v: applied(MATRICES, v), RIGHT, 1e-10)
    direct = torch.linalg.solve(MATRICES, RIGHT)
    for i in (0, 1, 3):
        C = MATRICES[i] - torch.eye(N).double()
        assert torch.allclose(C @ x[i], C @ direct[i], rtol=1e-7, atol=1e-8)


def test_directions_of_no_positive_variance_are_left_out():
    x = solve(lambda v: applied(MATRICES, v), RIGHT, 1e-12)
    for i in range(4):
        assert torch.allclose(positive(MATRICES[i], x[i]), told(MATRICES[i], RIGHT[i]), rtol=1e-6, atol=1e-8)
        assert x[i].norm() <= 1.001 * RIGHT[i].norm()  # and nothing is blown up


def test_a_matrix_that_is_not_symmetric_counts_by_its_symmetric_part():
    skew = torch.randn(N, N, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    matrix = MATRICES[2] + 3 * (skew - skew.T)
    x = solve(lambda v: v @ matrix.T, RIGHT[:1], 1e-12)
    assert torch.allclose(positive(matrix, x[0]), told(matrix, RIGHT[0]), rtol=1e-6, atol=1e-8)


def test_rows_do_not_depend_on_each_other_and_zero_stays():
    right = RIGHT.clone()
    right[3] = 0
    x = solve(lambda v: applied(MATRICES, v), right, 1e-3)
    for i in range(4):
        alone = solve(lambda v, i=i: applied(MATRICES[i : i + 1], v), right[i : i + 1], 1e-3)
        assert torch.allclose(alone[0], x[i], rtol=1e-9, atol=1e-12)
    assert x[3].eq(0).all()


def test_a_loose_tolerance_costs_fewer_products_and_keeps_its_promise():
    counts = []
    for tolerance in (0.1, 1e-6):
        seen: list[Tensor] = []
        x = solve(lambda v, seen=seen: seen.append(v) or applied(MATRICES[:1], v), RIGHT[:1], tolerance)
        assert (RIGHT[0] - MATRICES[0] @ x[0]).norm() <= 1.001 * tolerance * RIGHT[0].norm()
        counts.append(len(seen))
    assert counts[0] < counts[1] <= N


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_size_of_the_right_hand_side_does_not_matter(scale: float):
    right = (scale * RIGHT).float()
    x = solve(lambda v: applied(MATRICES.float(), v), right, 1e-5)
    for i, found in enumerate(x.double() / scale):
        assert torch.allclose(positive(MATRICES[i], found), told(MATRICES[i], RIGHT[i]), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("where", ["matrix", "right"])
def test_a_row_that_is_not_finite_is_nan_and_spoils_no_other(where: str):
    expected = solve(lambda x: applied(MATRICES, x), RIGHT)
    spoilt, given = MATRICES.clone(), RIGHT.clone()
    (spoilt if where == "matrix" else given)[1, 0] = torch.nan
    found = solve(lambda x: applied(spoilt, x), given)
    assert found[1].isnan().all()
    others = [i for i in range(len(RIGHT)) if i != 1]
    assert torch.allclose(found[others], expected[others], atol=1e-9)
