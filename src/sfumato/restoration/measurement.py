"""A measurement: readings ``y = A(x) + noise`` of known Gaussian noise, in data units or in those of a model."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError

from .operators import Operator

_MOST_NOISE = 10.0  # times the readings' own size: beyond, a measurement says nothing, and the units are wrong


@dataclass(frozen=True, eq=False)
class Measurement:
    """``y_i = A(x_i) + noise z``, z standard normal.

    Arguments:
        operator: A.
        y: readings (M, *operator.output_shape), one row per measurement.
        noise: the standard deviation of the noise in the units of y: one number, one per reading, or one per reading of
            each measurement (M, *operator.output_shape).

    Raises:
        InputError: another shape, values that are not finite, a noise that is not above 0.
    """

    operator: Operator
    y: Tensor
    noise: Tensor | float

    def __post_init__(self) -> None:
        shape = self.operator.output_shape
        y, noise = (torch.as_tensor(value, dtype=torch.float64) for value in (self.y, self.noise))
        if tuple(y.shape[1:]) != shape or not len(y):
            raise InputError(
                f"measurements: shape {tuple(y.shape)} does not fit the operator; give a row of shape {shape} each"
            )
        if not y.isfinite().all():
            bad = int((~y.isfinite()).sum())
            raise InputError(
                f"measurements: {bad:,} of {y.numel():,} readings are NaN or infinite; remove or mask them"
            )
        if noise.ndim and tuple(noise.shape) not in (shape, tuple(y.shape)):
            raise InputError(
                f"noise: shape {tuple(noise.shape)} does not fit; give one number, or one per reading, {shape}"
            )
        if not ((noise > 0) & noise.isfinite()).all():
            raise InputError(f"noise: {float(noise.min()):g} is no standard deviation; give more than 0, in data units")
        object.__setattr__(self, "y", y)
        object.__setattr__(self, "noise", noise)

    def __len__(self) -> int:
        return len(self.y)

    def row(self, i: int) -> "Measurement":
        """Measurement number i alone."""
        noise = torch.as_tensor(self.noise)
        return replace(self, y=self.y[i : i + 1], noise=noise[i] if noise.ndim == self.y.ndim else noise)

    def residual(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b r"]:
        """``(y - A(x)) / noise`` flattened, for M = 1 or M = B; standard normal for the true x."""
        return ((self.y.to(x) - self.operator(x)) / torch.as_tensor(self.noise).to(x)).flatten(1)

    def in_model_units(self, decode: Callable[[Tensor], Tensor]) -> "Measurement":
        """The same measurement of ``x_model``, where ``x = decode(x_model)`` is affine.

        Raises InputError for noise far above what a sample of unit size moves a reading by.
        """
        composed = Decoded(self.operator, decode)
        # Smooth samples move a reading by the sum of its row, rough ones by the row's norm.
        one = torch.ones(1, *self.operator.input_shape, dtype=torch.float64)
        size = max(float((composed(one) - composed(0 * one)).abs().amax()), composed.row_norm())
        least = float(torch.as_tensor(self.noise).min())
        if least > _MOST_NOISE * size:
            raise InputError(
                f"noise: {least:g} is far above the readings, which the data moves by about {size:.3g}; "
                "give the standard deviation of the noise in the data's units"
            )
        return Measurement(composed, self.y - composed.offset, self.noise)


class Decoded(Operator):
    """``x -> A(decode(x)) - A(decode(0))``, linear where A is; ``A(decode(x))`` where A is not.

    Arguments:
        operator: A, on samples in data units.
        decode: an affine map of samples, from model units to data units.
    """

    def __init__(self, operator: Operator, decode: Callable[[Tensor], Tensor]) -> None:
        self.operator, self.decode = operator, decode
        self.input_shape, self.output_shape = operator.input_shape, operator.output_shape
        self.linear = operator.linear
        zero = torch.zeros(1, *self.input_shape, dtype=torch.float64)
        self.start = decode(zero)[0]
        self.offset = operator(self.start[None]) if self.linear else torch.zeros((), dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        return self.operator(self.decode(x) - self.start.to(x) if self.linear else self.decode(x))

    def adjoint(self, y: Tensor) -> Tensor:
        back = self.operator.adjoint(y)
        with torch.enable_grad():
            x = torch.zeros_like(back, requires_grad=True)
            (found,) = torch.autograd.grad(self.decode(x), x, back)
        return found

    def row_norm(self) -> float:
        """The root mean square, over the readings, of the norms of A's rows; estimated with 16 random samples."""
        return row_norm(self)


def row_norm(operator: Operator) -> float:
    """``|A|_F / sqrt(readings)``, estimated from ``E |A u - A 0|^2 = |A|_F^2`` with 16 fixed random u."""
    u = torch.randn(16, *operator.input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        return float((operator(u) - operator(u[:1] * 0)).pow(2).mean().sqrt())
