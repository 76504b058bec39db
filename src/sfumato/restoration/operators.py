"""What a measurement does to a sample: ``y = A(x)``, without the noise.

An operator maps samples (B, *input_shape) to readings (B, *output_shape), each row alone. Linear ones have an adjoint,
by automatic differentiation where none is written down, and a singular value decomposition where they are small.
``operator_for`` makes one from a matrix, a mask, a function, or an operator of another library, and tests it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sfumato.errors import InputError

MOST_ENTRIES = 2**26
"""Entries of the largest matrix that is decomposed: 512 MiB."""
MOST_SIDE = 4096
"""Its shorter side at most: a decomposition of 4,096 x 4,096 takes about a minute."""

_PROBED_AT_ONCE = 512


class Operator(ABC):
    """``y = A(x)``.

    Arguments:
        input_shape: the shape of one sample.
        output_shape: the shape of its readings.
        linear: whether A is linear. A map that is not has no adjoint.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    linear: bool = True

    @abstractmethod
    def __call__(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b *r"]:
        """The readings of samples (B, *input_shape), in the precision of ``x``."""

    def adjoint(self, y: Float[Tensor, "b *r"]) -> Float[Tensor, "b *s"]:
        """``A^T y``, by differentiation of ``<A(x), y>``: for a linear A its gradient is the same at every x."""
        with torch.enable_grad():
            x = torch.zeros(len(y), *self.input_shape, dtype=y.dtype, device=y.device, requires_grad=True)
            (found,) = torch.autograd.grad(self(x), x, y.detach())
        return found


class Matrix(Operator):
    """``y = M x`` on the flattened sample.

    Arguments:
        matrix: M, (readings, numbers of a sample).
        input_shape: the shape of one sample.

    Raises:
        InputError: a matrix that does not fit the shape, with entries that are not finite, or with zeros only.
    """

    def __init__(self, matrix: Tensor, input_shape: Sequence[int]) -> None:
        self.input_shape = tuple(input_shape)
        size = math.prod(self.input_shape)
        if matrix.ndim != 2 or matrix.shape[1] != size or not len(matrix):
            raise InputError(
                f"operator: a matrix of shape {tuple(matrix.shape)} does not act on samples of shape "
                f"{self.input_shape}; give one row per reading and {size} columns"
            )
        self.matrix = matrix.double()
        if not self.matrix.isfinite().all():
            raise InputError("operator: the matrix has entries that are NaN or infinite; repair them")
        if not self.matrix.any():
            raise InputError("operator: the matrix is all zeros, so its readings say nothing; give another")
        self.output_shape = (len(matrix),)

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x).T

    def adjoint(self, y: Tensor) -> Tensor:
        product: Tensor = y @ self.matrix.to(y)
        return product.reshape(len(y), *self.input_shape)


class Mask(Operator):
    """The values of a sample where ``mask`` is True, in order.

    Arguments:
        mask: what is known, (*input_shape), or a shape that broadcasts to it, such as (H, W) for (C, H, W).
        input_shape: the shape of one sample.

    Raises:
        InputError: a mask that does not fit the shape, or one that knows nothing.
    """

    def __init__(self, mask: Bool[Tensor, "*m"], input_shape: Sequence[int]) -> None:
        self.input_shape = tuple(input_shape)
        try:
            self.known = mask.expand(self.input_shape).flatten().nonzero()[:, 0]
        except RuntimeError:
            raise InputError(
                f"mask: shape {tuple(mask.shape)} does not fit samples of shape {self.input_shape}"
            ) from None
        if not len(self.known):
            raise InputError("mask: nothing is known; at least one value must be")
        self.output_shape = (len(self.known),)

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, self.known.to(x.device)]

    def adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), math.prod(self.input_shape))
        x[:, self.known.to(y.device)] = y
        return x.reshape(len(y), *self.input_shape)


class Downsampling(Operator):
    """The means of blocks of ``factor`` values along each axis of a signal (C, L) or an image (C, H, W).

    Raises InputError for another rank, and for sides that the factor does not divide.
    """

    def __init__(self, factor: int, input_shape: Sequence[int]) -> None:
        self.input_shape = tuple(input_shape)
        channels, *sides = _with_channels("downsampling", self.input_shape)
        if factor < 1 or any(side % factor for side in sides):
            raise InputError(f"downsampling: a factor of {factor} does not divide the sides {tuple(sides)}")
        self.factor = factor
        self.output_shape = (channels, *(side // factor for side in sides))

    def __call__(self, x: Tensor) -> Tensor:
        return (F.avg_pool1d if x.ndim == 3 else F.avg_pool2d)(x, self.factor)

    def adjoint(self, y: Tensor) -> Tensor:
        sides = range(2, y.ndim)
        for axis in sides:
            y = y.repeat_interleave(self.factor, axis)
        return y / float(self.factor ** len(sides))


class Blur(Operator):
    """The correlation of every channel with a kernel, with zeros beyond the edge.

    Arguments:
        kernel: of odd sides; (k,) for signals (C, L), (k, k') for images (C, H, W).
        input_shape: the shape of one sample.

    Raises:
        InputError: a kernel that does not fit the shape, or has an even side.
    """

    def __init__(self, kernel: Tensor, input_shape: Sequence[int]) -> None:
        self.input_shape = self.output_shape = tuple(input_shape)
        sides = _with_channels("blur", self.input_shape)[1:]
        if kernel.ndim != len(sides) or any(side % 2 == 0 for side in kernel.shape):
            raise InputError(
                f"blur: a kernel of shape {tuple(kernel.shape)} does not fit samples of shape {self.input_shape}; give "
                f"{len(sides)} odd side{'s' * (len(sides) > 1)}"
            )
        self.kernel = kernel.double()

    @classmethod
    def gaussian(cls, std: float, input_shape: Sequence[int]) -> "Blur":
        """A Gaussian of standard deviation ``std`` in samples or pixels, cut at 3 and of sum 1."""
        if not 0 < std < math.inf:
            raise InputError(f"blur: a width of {std} is none; give more than 0, in pixels")
        reach = max(1, math.ceil(3 * std))
        line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / std) ** 2)
        line = line / line.sum()
        return cls(line if len(input_shape) == 2 else line[:, None] * line, input_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return self._correlate(x, self.kernel.to(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self._correlate(y, self.kernel.to(y).flip(list(range(self.kernel.ndim))))

    def _correlate(self, x: Tensor, kernel: Tensor) -> Tensor:
        correlate = F.conv1d if kernel.ndim == 1 else F.conv2d
        merged = x.reshape(-1, 1, *x.shape[2:])
        return correlate(merged, kernel[None, None], padding=[side // 2 for side in kernel.shape]).reshape(x.shape)


class Function(Operator):
    """Any differentiable function of samples (B, *input_shape); whether it is linear is found out.

    Arguments:
        function: the function; row i of its result depends on row i alone.
        input_shape: the shape of one sample.
        adjoint: its adjoint; None to differentiate.

    Raises:
        InputError: a function that does not take such samples.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        input_shape: Sequence[int],
        adjoint: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.input_shape = tuple(input_shape)
        self.function, self.transposed, self.single = function, adjoint, False
        u, v = _probes(self.input_shape, 2)
        try:
            at_u, at_v, at_both = self._probed(u, v)
        except Exception as error:
            message = " ".join(str(error).split())
            raise InputError(
                f"operator: fails on a sample of shape {self.input_shape} ({type(error).__name__}: {message})"
            ) from None
        if at_u.ndim < 2 or len(at_u) != 1:
            raise InputError(
                f"operator: makes shape {tuple(at_u.shape)} of one sample; it must keep the first axis, (1, ...)"
            )
        self.output_shape = tuple(at_u.shape[1:])
        self.linear = _close(at_both, at_u - 2 * at_v, at_u.abs().amax() + at_v.abs().amax())

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x.float()).to(x) if self.single else self.function(x)

    def adjoint(self, y: Tensor) -> Tensor:
        if self.transposed is None:
            return super().adjoint(y)
        return self.transposed(y.float()).to(y) if self.single else self.transposed(y)

    def _probed(self, u: Tensor, v: Tensor) -> list[Tensor]:
        """The values at u, v and u - 2 v, in float64, or in float32 if the function knows no other type."""
        try:
            return [self(x[None]) for x in (u, v, u - 2 * v)]
        except RuntimeError:
            self.single = True
            return [self(x[None]) for x in (u, v, u - 2 * v)]


class Decomposition(NamedTuple):
    """``A = U diag(s) V^T`` with r = min(readings, numbers) singular values.

    Arguments:
        u: (readings, r).
        s: (r,), decreasing.
        v: (numbers of a sample, r).
    """

    u: Tensor
    s: Tensor
    v: Tensor


def decompose(operator: Operator, noise: Tensor | None = None) -> Decomposition:
    """The singular value decomposition of a linear operator, float64; of its readings divided by ``noise`` if given.

    Raises InputError for an operator that is not linear, or too large (``MOST_ENTRIES``, ``MOST_SIDE``).
    """
    matrix = dense(operator)
    if noise is not None:
        matrix = matrix / noise[:, None]
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    return Decomposition(u, s, vt.T)


def dense(operator: Operator) -> Float[Tensor, "r d"]:
    """The matrix of a linear operator, column by column, float64. Raises InputError as ``decompose`` does."""
    if not operator.linear:
        raise InputError("operator: is not linear, so it has no matrix; choose the method dps")
    columns, rows = math.prod(operator.input_shape), math.prod(operator.output_shape)
    if rows * columns > MOST_ENTRIES or min(rows, columns) > MOST_SIDE:
        raise InputError(
            f"operator: {rows:,} readings of {columns:,} numbers are too many to decompose; choose the method mmps"
        )
    unit = torch.eye(columns, dtype=torch.float64)
    parts = [
        operator(unit[i : i + _PROBED_AT_ONCE].reshape(-1, *operator.input_shape)).flatten(1)
        for i in range(0, columns, _PROBED_AT_ONCE)
    ]
    return torch.cat(parts).T


def operator_for(source: Any, input_shape: Sequence[int]) -> Operator:
    """An operator on samples of this shape, tested.

    Arguments:
        source: an ``Operator``; a matrix, as a tensor, an array, or sparse; a boolean mask of what is known; an object
            with ``A`` and ``A_adjoint`` (deepinv), or with ``matvec`` and ``rmatvec`` (SciPy's ``LinearOperator``,
            PyLops); or a function of samples (B, *input_shape).
        input_shape: the shape of one sample.

    Raises:
        InputError: none of these, an operator for other shapes, or an adjoint that is none.
    """
    operator = _adapted(source, tuple(input_shape))
    if operator.input_shape != tuple(input_shape):
        raise InputError(
            f"operator: acts on samples of shape {operator.input_shape}, but the model's have {tuple(input_shape)}"
        )
    check(operator)
    return operator


def check(operator: Operator) -> None:
    """The dot-product test, ``<A u, v> = <u, A^T v>`` for random u and v in float64, of a linear operator.

    Raises:
        InputError: the two differ, or readings are not finite.
    """
    (u,) = _probes(operator.input_shape, 1)
    forward = operator(u[None])
    if tuple(forward.shape) != (1, *operator.output_shape) or not forward.isfinite().all():
        raise InputError("operator: the readings of a random sample are not finite, or change their shape")
    if not operator.linear:
        return
    (v,) = _probes(operator.output_shape, 1)
    back = operator.adjoint(v[None])
    if tuple(back.shape) != (1, *operator.input_shape):
        raise InputError(
            f"operator: its adjoint makes shape {tuple(back.shape[1:])}, not that of a sample, {operator.input_shape}"
        )
    one, other = (forward[0] * v).sum(), (u * back[0]).sum()
    if not _close(one, other, forward.norm() * v.norm()):
        raise InputError(
            f"operator: its adjoint is none, <A u, v> = {float(one):.6g} but <u, A^T v> = {float(other):.6g} for some "
            "u and v; correct the adjoint, or leave it out to have it derived"
        )


def _adapted(source: Any, shape: tuple[int, ...]) -> Operator:
    if isinstance(source, Operator):
        return source
    if hasattr(source, "A") and hasattr(source, "A_adjoint"):
        return Function(source.A, shape, source.A_adjoint)
    if hasattr(source, "matvec") and hasattr(source, "rmatvec"):
        return _of_vectors(source, shape)
    if hasattr(source, "toarray"):  # sparse matrices
        source = source.toarray()
    if isinstance(source, Tensor) or hasattr(source, "__array__"):
        values = torch.as_tensor(source)
        return Mask(values, shape) if values.dtype == torch.bool else Matrix(values, shape)
    if callable(source):
        return Function(source, shape)
    raise InputError(
        f"operator: a {type(source).__name__} is none; give a matrix, a boolean mask, a function, or an Operator"
    )


def _of_vectors(source: Any, shape: tuple[int, ...]) -> Operator:
    """An operator on single vectors, as SciPy has them, applied row by row."""
    readings, size = source.shape
    if size != math.prod(shape):
        raise InputError(f"operator: acts on {size} numbers, but a sample of shape {shape} has {math.prod(shape)}")

    def rows(product: Callable[[Any], Any], values: Tensor, out: tuple[int, ...]) -> Tensor:
        found = [torch.as_tensor(product(row.cpu().double().numpy())) for row in values.detach().flatten(1)]
        return torch.stack(found).reshape(len(values), *out).to(values)

    return Function(lambda x: rows(source.matvec, x, (readings,)), shape, lambda y: rows(source.rmatvec, y, shape))


def _with_channels(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) not in (2, 3):
        raise InputError(f"{name}: samples of shape {shape} are neither signals (C, L) nor images (C, H, W)")
    return shape


def _probes(shape: tuple[int, ...], count: int) -> Tensor:
    """The same random samples each time, float64."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _close(a: Tensor, b: Tensor, scale: Tensor) -> bool:
    """Equal up to the rounding of float32, which many operators compute in."""
    return bool((a - b).abs().amax() <= 1e-5 * scale)
