"""Traces of Jacobians against their closed form and torch.func."""

from itertools import product

import pytest
import torch
from torch import Tensor

from sfumato.numerics.divergence import divergence

F64 = torch.float64
MATRIX = torch.tensor([[0.3, -1.2, 0.5], [0.9, 0.1, -0.4], [2.0, 0.7, -0.6]], dtype=F64)
Y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)


def field(y: Tensor) -> Tensor:
    return torch.tanh(y @ MATRIX) * y.square().sum(1, keepdim=True)


def jacobians() -> Tensor:
    return torch.stack([torch.autograd.functional.jacobian(lambda v: field(v[None])[0], y) for y in Y])


def test_the_exact_trace_is_that_of_each_samples_jacobian():
    value, trace = divergence(field, Y)
    torch.testing.assert_close(value, field(Y), rtol=0, atol=0)
    torch.testing.assert_close(trace, torch.einsum("bii->b", jacobians())[:, None], rtol=1e-13, atol=1e-13)


def test_a_probe_gives_its_quadratic_form_and_all_sign_vectors_the_trace():
    """Over all 2^D of them Hutchinson's mean is exact: no statistics needed."""
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=3)), dtype=F64)
    probes = signs[:, None].expand(8, 5, 3)
    value, found = divergence(field, Y, probes)
    torch.testing.assert_close(value, field(Y), rtol=0, atol=0)
    torch.testing.assert_close(found, torch.einsum("pi,bij,pj->bp", signs, jacobians(), signs), rtol=1e-12, atol=1e-12)
    exact = torch.einsum("bii->b", jacobians())
    torch.testing.assert_close(found.mean(1), exact, rtol=1e-12, atol=1e-12)


def test_probes_may_differ_between_samples():
    probes = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    _, found = divergence(field, Y, probes)
    want = torch.einsum("pbi,bij,pbj->bp", probes, jacobians(), probes)
    torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("probes", [None, torch.ones(1, 5, 3, dtype=F64)], ids=["exact", "probes"])
def test_nothing_of_the_graph_is_left_and_it_works_without_gradients(probes):
    y = Y.clone()
    with torch.no_grad():
        value, trace = divergence(field, y, probes)
    assert not (y.requires_grad)
    assert not (value.requires_grad)
    assert not (trace.requires_grad)
    assert trace.shape == (5, 1)
