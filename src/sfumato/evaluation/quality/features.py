"""Measures that look at single features, pairs of features and frequencies, for vectors, tables and signals."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..wasserstein import wasserstein
from .sets import Sets


def marginal_distances(sets: Sets) -> Float[Tensor, "d"]:
    """W_2 between the values of each feature, over the standard deviation of its real values.

    A feature that is constant in the real data counts as having deviation 1.
    """
    spread = sets.real.std(0)
    spread = torch.where(spread > 0, spread, 1.0)
    samples, real = (points.mT.sort(-1).values for points in (sets.samples, sets.real))
    return wasserstein(samples, real).sqrt() / spread


def marginals(sets: Sets) -> float:
    """The mean of ``marginal_distances``."""
    return float(marginal_distances(sets).mean())


def kolmogorov_smirnov(sets: Sets) -> float:
    """The largest difference between distribution functions, ``sup_v |F_s(v) - F_x(v)|``, on average over features."""
    values = torch.cat((sets.samples, sets.real)).mT.contiguous()
    functions = [
        torch.searchsorted(points.mT.contiguous().sort(-1).values, values, right=True).double() / len(points)
        for points in (sets.samples, sets.real)
    ]
    return float((functions[0] - functions[1]).abs().amax(1).mean())


def correlations(sets: Sets) -> float:
    """The root mean square of the differences between correlation coefficients, over pairs of features.

    A constant feature is uncorrelated with every other. It is 0 for a single feature.
    """
    away = _correlation(sets.samples) - _correlation(sets.real)
    width = len(away)
    return float((away.square().sum() / max(width * (width - 1), 1)).sqrt())


def spectra(sets: Sets, length: int) -> float:
    """The difference of mean power spectra of signals in decibels, root mean square over frequencies.

    The power of a frequency is the mean of ``|FFT|^2`` over signals and channels. Frequencies whose power in the real
    data is below 1e-10 of the largest are rounding, and left out; the constant is left in.

    Arguments:
        sets: signals, flattened (n, channels * length).
        length: positions of a signal.
    """
    power = [
        torch.fft.rfft(points.reshape(len(points), -1, length)).abs().square().mean((0, 1))
        for points in (sets.samples, sets.real)
    ]
    heard = power[1] > 1e-10 * power[1].max()
    ratio = power[0][heard].clamp(min=1e-300) / power[1][heard]
    return float((10 * ratio.log10()).square().mean().sqrt())


def _correlation(points: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    centred = points - points.mean(0)
    norms = centred.norm(dim=0)
    scaled = centred / torch.where(norms > 0, norms, 1.0)
    return (scaled.mT @ scaled).fill_diagonal_(0)
