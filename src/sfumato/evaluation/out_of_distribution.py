"""Scores of how unlike the training data a sample is.

Likelihood alone misleads: smooth pictures of something else score best.

    typicality     |bits - mean bits of reference data|                            Nalisnick et al. 2019
    complexity     bits - bits of a general-purpose compressor                     Serra et al. 2020
    score norms    Mahalanobis distance of log |eps-hat(alpha x_0, t)| over levels   Mahmood et al. 2021

For each of them, higher is less like the data.
"""

import bz2
import lzma
import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sfumato.data import DataSpec
from sfumato.denoisers import Condition, Denoiser, condition_rows

NORM_LEVELS = 10
_FROM, _TO = 8.0, -4.0  # log-SNR of the finest and of the coarsest level of the norms


def compressed_bits(values: Shaped[Tensor, "b *s"], spec: DataSpec) -> Float[Tensor, "b"] | None:
    """Bits/dim that the best of zlib, bz2 and lzma needs for each sample, raw or as differences along rows.

    Arguments:
        values: samples (B, *) in data units, on the levels of the data.
        spec: the data contract.

    Returns:
        Bits/dim (B,); None for data without levels.
    """
    levels, grid = spec.level_index(values), spec.grid
    if levels is None or grid is None:
        return None
    kind = np.uint8 if grid.count <= 256 else np.uint16 if grid.count <= 65536 else np.uint32
    index = levels.numpy().astype(kind)
    differences = np.diff(index, axis=-1, prepend=index[..., :1] * 0)  # they wrap, and can be undone
    lengths = []
    for sample in zip(index, differences, strict=True):
        raw = [part.tobytes() for part in sample]
        lengths.append(min(len(pack(part)) for part in raw for pack in (_zlib, bz2.compress, _lzma)))
    return torch.tensor(lengths, dtype=torch.float64) * 8 / math.prod(spec.shape)


def _zlib(raw: bytes) -> bytes:
    return zlib.compress(raw, 9)


def _lzma(raw: bytes) -> bytes:
    return lzma.compress(raw, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}])


@torch.no_grad()
def score_norms(
    denoiser: Denoiser, x_0: Float[Tensor, "b *s"], batch: int = 256, cond: Condition | None = None
) -> Float[Tensor, "b levels"]:
    """``log |eps-hat(alpha x_0, t)|`` at ten levels, evenly in log-SNR, without added noise.

    Arguments:
        denoiser: the denoiser.
        x_0: samples (B, *) in model units.
        batch: samples per evaluation.
        cond: the condition of each sample, or None.
    """
    process = denoiser.process
    ends = [float(process.level(t).logsnr) for t in (0.0, 1.0)]
    logsnr = torch.linspace(min(_FROM, ends[0]), max(_TO, ends[1]), NORM_LEVELS, dtype=torch.float64)
    rows = []
    for start in range(0, len(x_0), batch):
        kept, columns = slice(start, start + batch), []
        x, cond_rows = x_0[kept], condition_rows(cond, kept)
        for t in process.schedule.time(logsnr).clamp(0, 1):
            eps = denoiser(process.perturb(x, t, torch.zeros_like(x)), t, cond_rows).eps
            columns.append(eps.double().flatten(1).norm(dim=1).clamp(min=1e-12).log().cpu())
        rows.append(torch.stack(columns, dim=1))
    return torch.cat(rows)


@dataclass(frozen=True, eq=False)
class Reference:
    """Training data to compare with.

    Arguments:
        bits: its bits/dim (N,).
        norms: its score norms (N, L); None for a model without a denoiser.
    """

    bits: Tensor
    norms: Tensor | None

    def typicality(self, bits: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """``|bits - mean bits of the reference|``."""
        return (bits - self.bits.mean()).abs()

    def norm_distance(self, norms: Float[Tensor, "b levels"]) -> Float[Tensor, "b"]:
        """The Mahalanobis distance to the reference, whose covariance is shrunk a little towards its diagonal."""
        assert self.norms is not None
        centred = self.norms - self.norms.mean(0)
        covariance = centred.T @ centred / max(len(centred) - 1, 1)
        shrunk = 0.95 * covariance + 0.05 * covariance.diag().diag() + 1e-9 * torch.eye(len(covariance)).to(covariance)
        away = norms - self.norms.mean(0)
        return torch.einsum("bi,ij,bj->b", away, torch.linalg.inv(shrunk), away).clamp(min=0).sqrt()


@dataclass(frozen=True)
class AUROC:
    """The area under a ROC curve: how often a sample of the other set scores higher; 0.5 is chance.

    Arguments:
        value: the area.
        error: its standard error.
    """

    value: float
    error: float


def auroc(this: Float[Tensor, "n"], other: Float[Tensor, "m"]) -> AUROC:
    """How often scores of ``other`` are higher than scores of ``this``, with its standard error. Ties count half.

    References:
        DeLong et al. 1988.
    """
    n, m = len(this), len(other)
    higher = (other[:, None] > this[None]).double() + 0.5 * (other[:, None] == this[None]).double()
    variance = math.nan
    if n > 1 and m > 1:
        variance = float(higher.mean(1).var() / m + higher.mean(0).var() / n)
    return AUROC(float(higher.mean()), math.sqrt(variance))
