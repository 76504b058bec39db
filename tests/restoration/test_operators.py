"""Operators against dense linear algebra and SciPy, and what is refused."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import aslinearoperator

from sfumato.errors import InputError
from sfumato.restoration import Blur, Downsampling, Function, Mask, Matrix, Measurement, decompose, operator_for
from sfumato.restoration.operators import Operator, dense

G = torch.Generator().manual_seed(1)
M = torch.randn(3, 12, generator=G, dtype=torch.float64)


def known() -> torch.Tensor:
    return torch.arange(12).reshape(1, 3, 4) % 3 == 0


OPERATORS = {
    "matrix": Matrix(M, (1, 3, 4)),
    "mask": Mask(known(), (1, 3, 4)),
    "mask of pixels": Mask(known()[0], (2, 3, 4)),
    "downsampled signal": Downsampling(3, (2, 6)),
    "downsampled image": Downsampling(2, (3, 4, 6)),
    "blurred signal": Blur.gaussian(0.7, (2, 9)),
    "blurred image": Blur(torch.randn(3, 5, generator=G), (2, 6, 7)),
    "function": Function(lambda x: x.cumsum(1)[:, ::2], (7,)),
}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_the_written_adjoint_is_the_transpose_and_the_derived_one_agrees(operator):
    matrix = dense(operator)
    y = torch.randn(4, *operator.output_shape, generator=G, dtype=torch.float64)
    assert torch.allclose(operator.adjoint(y).flatten(1), y.flatten(1) @ matrix, atol=1e-12)
    assert torch.allclose(Operator.adjoint(operator, y), operator.adjoint(y), atol=1e-12)
    u, s, v = decompose(operator)
    assert torch.allclose(u * s @ v.T, matrix, atol=1e-12)


def test_blur_and_downsampling_do_what_their_names_say():
    x = torch.randn(1, 2, 6, 7, generator=G, dtype=torch.float64)
    kernel = torch.randn(3, 5, generator=G, dtype=torch.float64)
    wanted = np.stack([correlate(channel, kernel.numpy(), mode="constant") for channel in x[0].numpy()])
    assert torch.allclose(Blur(kernel, (2, 6, 7))(x)[0], torch.from_numpy(wanted))
    x = torch.arange(8.0).reshape(1, 1, 2, 4)
    assert Downsampling(2, (1, 2, 4))(x).tolist() == [[[[2.5, 4.5]]]]


@pytest.mark.parametrize(
    "made", [lambda a: a, csr_matrix, aslinearoperator, torch.from_numpy], ids=["numpy", "sparse", "scipy", "torch"]
)
def test_any_kind_of_matrix_makes_the_same_operator(made):
    operator = operator_for(made(M.numpy()), (3, 4))
    x = torch.randn(5, 3, 4, generator=G)
    assert torch.allclose(operator(x), x.flatten(1) @ M.T.float(), atol=1e-5)
    assert torch.allclose(dense(operator), M)


def test_an_object_with_an_adjoint_and_a_function_in_float32():
    class Theirs:
        def A(self, x):
            return x @ M.T

        def A_adjoint(self, y):
            return y @ M

    assert torch.allclose(dense(operator_for(Theirs(), (12,))), M)
    assert torch.allclose(dense(operator_for(lambda x: x @ M.T.float(), (12,))), M, atol=1e-6)


def test_a_nonlinear_function_is_noticed():
    operator = operator_for(lambda x: x.clamp(-1, 1), (5,))
    assert not operator.linear
    with pytest.raises(InputError, match="not linear"):
        decompose(operator)


class Wrong:
    """An adjoint that is off by a factor."""

    def A(self, x):
        return x @ M.T

    def A_adjoint(self, y):
        return 1.001 * y @ M


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Wrong(), "its adjoint is none"),
        (M[:, :5], "does not act on samples"),
        (M * float("nan"), "NaN"),
        (M * 0, "all zeros"),
        (torch.zeros(12, dtype=torch.bool), "nothing is known"),
        (torch.ones(5, dtype=torch.bool), "does not fit"),
        (lambda x: x @ M, "fails on a sample"),
        (lambda x: x.sum(), "keep the first axis"),
        (Downsampling(2, (1, 2, 2)), "acts on samples of shape"),
        (3, "a int is none"),
    ],
)
def test_what_is_no_operator_is_refused(source, message):
    with pytest.raises(InputError, match=message):
        operator_for(source, (12,))


def test_wrong_factors_and_kernels_are_refused():
    for make in (
        lambda: Downsampling(4, (1, 6, 8)),
        lambda: Downsampling(2, (6,)),
        lambda: Blur(torch.ones(4), (1, 9)),
        lambda: Blur.gaussian(0.0, (1, 9)),
    ):
        with pytest.raises(InputError):
            make()


@pytest.mark.parametrize(
    ("y", "noise", "message"),
    [
        (torch.zeros(2, 4), 0.1, "does not fit the operator"),
        (torch.tensor([[0.0, float("nan"), 1.0]]), 0.1, "1 of 3 readings"),
        (torch.zeros(1, 3), 0.0, "no standard deviation"),
        (torch.zeros(1, 3), -1.0, "no standard deviation"),
        (torch.zeros(1, 3), torch.ones(2), "does not fit"),
    ],
)
def test_a_bad_measurement_is_refused(y, noise, message):
    with pytest.raises(InputError, match=message):
        Measurement(Matrix(M, (12,)), y, noise)


def test_model_units_keep_the_residual_and_wrong_units_are_refused():
    operator, noise = Matrix(M, (12,)), torch.tensor([0.1, 0.2, 0.3])
    scale, shift = torch.rand(12, generator=G).double() + 0.5, torch.randn(12, generator=G).double()
    measured = Measurement(operator, torch.randn(4, 3, generator=G), noise)

    def decode(x):
        return x * scale.to(x) + shift.to(x)

    inside = measured.in_model_units(decode)
    x = torch.randn(4, 12, generator=G, dtype=torch.float64)
    assert torch.allclose(inside.residual(x), measured.residual(decode(x)))
    assert torch.allclose(dense(inside.operator), M * scale)
    y = torch.randn(2, 3, generator=G).double()
    assert torch.allclose(inside.operator.adjoint(y), y @ (M * scale))
    with pytest.raises(InputError, match="far above the readings"):
        Measurement(Mask(torch.ones(12).bool(), (12,)), torch.zeros(1, 12), 3000.0).in_model_units(decode)
