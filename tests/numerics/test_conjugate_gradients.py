"""Conjugate gradients against a direct solution, and each row on its own."""

import torch

from sfumato.numerics.conjugate_gradients import solve


def test_each_row_is_solved_and_does_not_depend_on_the_others():
    g = torch.Generator().manual_seed(0)
    roots = torch.randn(6, 8, 8, generator=g, dtype=torch.float64)
    matrices = roots @ roots.mT + torch.logspace(-2, 3, 6, dtype=torch.float64)[:, None, None] * torch.eye(8)
    right = torch.randn(6, 8, generator=g, dtype=torch.float64)
    right[3] = 0

    def product(rows):
        return lambda x: torch.einsum("bij,bj->bi", matrices[rows], x)

    x, _ = solve(product(slice(None)), right, 1e-9)
    assert torch.allclose(x, torch.linalg.solve(matrices, right), rtol=1e-6)
    for i in range(6):
        alone, _ = solve(product(slice(i, i + 1)), right[i : i + 1], 1e-9)
        assert torch.allclose(alone[0], x[i], rtol=1e-12, atol=1e-15)


def test_a_loose_tolerance_costs_fewer_products_and_keeps_its_promise():
    g = torch.Generator().manual_seed(0)
    root = torch.randn(30, 30, generator=g, dtype=torch.float64)
    matrix, right = root @ root.T + torch.eye(30), torch.randn(1, 30, generator=g, dtype=torch.float64)
    loose, few = solve(lambda x: x @ matrix, right, 0.1)
    _, many = solve(lambda x: x @ matrix, right, 1e-6)
    assert (right - loose @ matrix).norm() <= 0.1 * right.norm()
    assert few < many


def test_a_matrix_that_is_not_positive_stops_with_a_finite_result():
    x, _ = solve(lambda x: -x, torch.ones(2, 3))
    assert x.tolist() == [[0.0] * 3] * 2
