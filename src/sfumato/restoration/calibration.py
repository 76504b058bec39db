"""The operator of an instrument, estimated from samples that were measured with it.

From pairs of samples x and readings ``y = A x + b + noise`` (n of them), A and b by ridge regression around the means,

    A^T = (X^T X + n lambda I)^-1 X^T Y,

with lambda of the least squared error when each pair is predicted from the others (leave-one-out, in closed form). The
covariance of those errors is that of the noise and of what is not known of A, b together, for samples like the pairs'.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError

from .operators import Matrix

_STRENGTHS = 10.0 ** torch.arange(-9, 1, dtype=torch.float64)  # lambda, of the mean variance of the samples' numbers
_SHRINK = 1.0  # of the covariance to its diagonal, r / n for r readings: few pairs do not make it singular


@dataclass(frozen=True, eq=False)
class Calibration:
    """An instrument with correlated noise, float64.

    Arguments:
        matrix: (readings, numbers of a sample), in data units.
        bias: (readings,).
        covariance: of the noise and of what is not known of the matrix (readings, readings).
        shape: the shape of a sample.
    """

    matrix: Tensor
    bias: Tensor
    covariance: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, x: Float[Tensor, "n *s"], y: Float[Tensor, "m r"]) -> "Calibration":
        """Estimate an instrument.

        Arguments:
            x: samples in data units.
            y: their readings.

        Raises:
            InputError: fewer than 8 pairs, numbers of samples and of readings that differ, values that are not finite,
                readings or samples that are all the same.
        """
        if len(x) != len(y) or len(x) < 8:
            raise InputError(
                f"pairs: {len(x)} samples and {len(y)} readings; give a row of readings for each of at least 8"
            )
        if not (x.isfinite().all() and y.isfinite().all()):
            raise InputError("pairs: some values are NaN or infinite; remove their rows")
        samples, readings = x.flatten(1).double(), y.double()
        if float(samples.std(0).max()) == 0 or float(readings.std(0).min()) == 0:
            raise InputError("pairs: the samples, or one of the readings, are all the same; measure others")
        n = len(samples)
        gaps, wanted = samples - samples.mean(0), readings - readings.mean(0)
        u, s, vt = torch.linalg.svd(gaps, full_matrices=False)
        left = wanted / wanted.std(0)
        least, chosen, errors = torch.inf, float(_STRENGTHS[0]), wanted
        for strength in (_STRENGTHS * gaps.pow(2).mean() * n).tolist():
            share = s**2 / (s**2 + strength)
            kept = 1 - 1 / n - (u**2) @ share  # what each pair does not say of itself; the mean is known from n
            off = (left - u @ (share[:, None] * (u.T @ left))) / kept.clamp(min=1e-9)[:, None]
            if float(off.pow(2).mean()) < least:
                least, chosen, errors = float(off.pow(2).mean()), strength, off * wanted.std(0)
        matrix = ((u * (s / (s**2 + chosen))).T @ wanted).T @ vt
        covariance = errors.T @ errors / n
        share = _SHRINK * len(covariance) / (n + len(covariance))
        covariance = (1 - share) * covariance + share * torch.diag(covariance.diagonal())
        return cls(matrix, readings.mean(0) - matrix @ samples.mean(0), covariance, tuple(x.shape[1:]))

    @property
    def operator(self) -> Matrix:
        """The operator of whitened readings: their noise is white and of deviation 1."""
        return Matrix(self._whitening @ self.matrix, self.shape)

    def whitened(self, y: Float[Tensor, "m r"]) -> Float[Tensor, "m r"]:
        """Readings as ``operator`` makes them.

        Raises InputError for another number of readings.
        """
        if y.shape[-1] != len(self.bias):
            raise InputError(
                f"measurements: {y.shape[-1]} readings, but the instrument was calibrated for {len(self.bias)}"
            )
        return (y.double() - self.bias) @ self._whitening.T

    @property
    def _whitening(self) -> Tensor:
        found: Tensor = torch.linalg.inv(torch.linalg.cholesky(self.covariance))
        return found
