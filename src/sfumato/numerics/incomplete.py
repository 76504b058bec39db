"""A mixture of Gaussians fitted to rows with gaps, and what it says of the gaps.

EM with missing values (Ghahramani & Jordan 1994): with o the numbers that a row has and m those it lacks,

    E[x_m | x_o, k] = m_m + S_mo S_oo^-1 (x_o - m_o),    Cov[x_m | x_o, k] = S_mm - S_mo S_oo^-1 S_om

per component k, weighed by p(k | x_o). Every row is a batch entry: the rows and columns of the gaps are replaced in S
by those of the unit matrix, which leaves S_oo^-1 as it is.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_AT_ONCE = 2**24  # numbers of a batch of matrices: 128 MB
_LEAST = 1e-3  # added to the variances, which are about 1
_DIAGONAL = 0.1  # share of the diagonal in what the covariances are drawn to


@dataclass(frozen=True, eq=False)
class IncompleteMixture:
    """A mixture of K Gaussians in D dimensions, in float64.

    Arguments:
        weights: (K,).
        means: (K, D).
        covariances: (K, D, D).
    """

    weights: Float[Tensor, "k"]
    means: Float[Tensor, "k d"]
    covariances: Float[Tensor, "k d d"]

    def given(
        self, x: Float[Tensor, "n d"], gaps: "Gaps | None" = None, factors: "list[tuple[Tensor, Tensor]] | None" = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """p(k | x_o) of shape (n, K), means of x (K, n, D) with x_o in its places, and log p(x_o) of shape (n,).

        Arguments:
            x: the rows, NaN for gaps.
            gaps: those of ``x``, if they are known already.
            factors: what ``gaps`` makes of each covariance, if that is known already.
        """
        gaps = Gaps(x) if gaps is None else gaps
        factors = [gaps.factors(each) for each in self.covariances] if factors is None else factors
        log, means = [], []
        for weight, mean, covariance, (precision, log_det) in zip(
            self.weights, self.means, self.covariances, factors, strict=True
        ):
            filled, power = gaps.conditional(x, mean, covariance, precision)
            means.append(filled)
            log.append(weight.log() - 0.5 * (power + log_det + gaps.seen.sum(1) * math.log(2 * math.pi)))
        joint = torch.stack(log, 1)
        total = joint.logsumexp(1)
        return (joint - total[:, None]).exp(), torch.stack(means), total

    def mean(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The rows with their gaps at the mean given the rest."""
        weights, means, _ = self.given(x)
        return torch.einsum("nk,knd->nd", weights, means)

    def left_out(self, x: Float[Tensor, "n d"]) -> Iterator[Float[Tensor, "n d"]]:
        """For each column j, the mean of the rows given what they have beside column j.

        With e_j = x_j - E[x_j | the rest of x_o] = (S_oo^-1 (x_o - m_o))_j / (S_oo^-1)_jj, whose variance is
        1 / (S_oo^-1)_jj, taking x_j out of the row subtracts (S_oo^-1)_.j e_j from S_oo^-1 (x_o - m_o), and
        log N(e_j; 0, 1 / (S_oo^-1)_jj) from log p(x_o).
        """
        gaps = Gaps(x)
        parts = []
        for weight, mean, covariance in zip(self.weights, self.means, self.covariances, strict=True):
            precision, log_det = gaps.factors(covariance)
            solved, power = gaps.solved(x, mean, precision)
            parts.append((weight.log() - 0.5 * (power + log_det), solved, precision))
        for j in range(x.shape[1]):
            seen = gaps.seen[:, j]
            log, means = [], []
            for (base, solved, precision), mean, covariance in zip(parts, self.means, self.covariances, strict=True):
                column = precision[:, :, j][gaps.pattern]
                own = torch.where(seen > 0, column[:, j], 1.0)
                rest = solved[:, j] / own
                means.append(mean + (solved - column * rest[:, None]) @ covariance)
                log.append(base + 0.5 * seen * (rest**2 * own - own.log()))
            shares = torch.stack(log, 1).softmax(1)
            found = torch.einsum("nk,knd->nd", shares, torch.stack(means))
            kept = ~gaps.lacking
            kept[:, j] = False
            yield torch.where(kept, x, found)

    def draw(self, x: Float[Tensor, "n d"], draws: int, generator: torch.Generator) -> Float[Tensor, "m n d"]:
        """The rows with their gaps drawn from the posterior given the rest, ``draws`` times."""
        gaps = Gaps(x)
        weights, means, _ = self.given(x, gaps)
        chosen = torch.multinomial(weights, draws, replacement=True, generator=generator).T  # (m, n)
        found = x.expand(draws, *x.shape).clone()
        for k, covariance in enumerate(self.covariances):
            precision, _ = gaps.factors(covariance)
            root = torch.linalg.cholesky(covariance)
            for i in range(draws):
                rows = torch.nonzero((chosen[i] == k) & gaps.any)[:, 0]
                # x_m given x_o is its mean plus what a draw u of N(0, S) deviates from its own mean given u_o.
                u = torch.randn((len(rows), x.shape[1]), generator=generator, dtype=x.dtype) @ root.mT
                expected, _ = gaps.conditional(u, torch.zeros_like(self.means[k]), covariance, precision, rows)
                found[i, rows] = means[k][rows] + (u - expected)
        return torch.where(gaps.lacking, found, x)


class Gaps:
    """The gaps of rows (n, D), and what a Gaussian says of them. Rows with the same gaps share their matrices."""

    def __init__(self, x: Float[Tensor, "n d"]) -> None:
        self.lacking: Bool[Tensor, "n d"] = x.isnan()
        self.any = self.lacking.any(1)
        patterns, self.pattern = torch.unique(self.lacking, dim=0, return_inverse=True)
        self.patterns = patterns.to(x.dtype)  # 1 for a gap
        self.seen = (~self.lacking).to(x.dtype)

    def factors(self, covariance: Float[Tensor, "d d"]) -> tuple[Tensor, Tensor]:
        """S_oo^-1 of each pattern, 0 beside it (P, D, D), and log det S_oo of each row (n,)."""
        precisions, logs = [], []
        for lacking in torch.split(self.patterns, max(_AT_ONCE // covariance.shape[0] ** 2, 1)):
            seen = 1 - lacking
            both = seen[:, :, None] * seen[:, None, :]
            root = torch.linalg.cholesky(both * covariance + torch.diag_embed(lacking))
            precisions.append(both * torch.cholesky_inverse(root))
            logs.append(2 * root.diagonal(dim1=1, dim2=2).log().sum(1))
        return torch.cat(precisions), torch.cat(logs)[self.pattern]

    def conditional(
        self,
        x: Float[Tensor, "r d"],
        mean: Float[Tensor, "d"],
        covariance: Float[Tensor, "d d"],
        precisions: Float[Tensor, "p d d"],
        rows: Int64[Tensor, "r"] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Rows with their gaps at the mean, and (x_o - m_o)^T S_oo^-1 (x_o - m_o).

        ``rows`` are the numbers of those that ``x`` has values for; all by default.
        """
        lacking = self.lacking if rows is None else self.lacking[rows]
        solved, power = self.solved(x, mean, precisions, rows)
        return torch.where(lacking, mean + solved @ covariance, x), power

    def solved(
        self,
        x: Float[Tensor, "r d"],
        mean: Float[Tensor, "d"],
        precisions: Float[Tensor, "p d d"],
        rows: Int64[Tensor, "r"] | None = None,
    ) -> tuple[Float[Tensor, "r d"], Float[Tensor, "r"]]:
        """S_oo^-1 (x_o - m_o), 0 in the gaps, and (x_o - m_o)^T S_oo^-1 (x_o - m_o), as for ``conditional``."""
        pattern, lacking = (each if rows is None else each[rows] for each in (self.pattern, self.lacking))
        rest = torch.where(lacking, 0.0, x - mean)
        size = max(_AT_ONCE // x.shape[1] ** 2, 1)
        parts = zip(torch.split(rest, size), torch.split(pattern, size), strict=True)
        found = torch.cat([(precisions[which] @ part[..., None])[..., 0] for part, which in parts])
        return found, (rest * found).sum(1)

    def unknown(
        self, weights: Float[Tensor, "n"], covariance: Float[Tensor, "d d"], precisions: Float[Tensor, "p d d"]
    ) -> Float[Tensor, "d d"]:
        """The weighed sum over rows of the covariances of the gaps given the rest."""
        by_pattern = torch.zeros(len(self.patterns), dtype=weights.dtype).index_add(0, self.pattern, weights)
        total = torch.zeros_like(covariance)
        size = max(_AT_ONCE // covariance.shape[0] ** 2, 1)
        for start in range(0, len(self.patterns), size):
            part = slice(start, start + size)
            left = covariance - covariance @ precisions[part] @ covariance
            both = self.patterns[part, :, None] * self.patterns[part, None, :]
            total = total + (by_pattern[part, None, None] * both * left).sum(0)
        return total


def fit(
    x: Float[Tensor, "n d"],
    components: int,
    weights: Float[Tensor, "n"] | None = None,
    steps: int = 20,
    seed: int = 0,
) -> IncompleteMixture:
    """The mixture by EM from the centres of a k-means++ start.

    Covariances are drawn to the common one, and that to its diagonal, as by D rows, so that a small component has
    one, too.

    Arguments:
        x: rows of mean about 0 and variance about 1, NaN for gaps.
        components: K.
        weights: of the rows, of mean 1.
        steps: of EM.
        seed: of the start.
    """
    n, d = x.shape
    gaps = Gaps(x)
    rows = torch.ones(n, dtype=x.dtype) if weights is None else weights
    filled = x.nan_to_num(nan=0.0)
    spread = torch.cov(filled.mT, correction=0).reshape(d, d) + 0.01 * torch.eye(d, dtype=x.dtype)
    mixture = IncompleteMixture(
        torch.full((components,), 1 / components, dtype=x.dtype),
        _centres(filled, rows, components, torch.Generator().manual_seed(seed)),
        spread.expand(components, d, d),
    )
    for _ in range(steps):
        mixture = _step(x, gaps, rows, mixture)
    return mixture


def _step(x: Tensor, gaps: Gaps, rows: Tensor, old: IncompleteMixture) -> IncompleteMixture:
    """One step of EM."""
    d = x.shape[1]
    factors = [gaps.factors(each) for each in old.covariances]
    shares, means, _ = old.given(x, gaps, factors)
    scatters, centres = [], []
    weighed = shares * rows[:, None]
    counts = weighed.sum(0)
    for k, (filled, weight) in enumerate(zip(means, weighed.T, strict=True)):
        centre = weight @ filled / counts[k].clamp(min=1e-9)
        rest = filled - centre
        unknown = gaps.unknown(weight, old.covariances[k], factors[k][0])
        scatters.append((rest * weight[:, None]).mT @ rest + unknown)
        centres.append(centre)
    scatter = torch.stack(scatters)
    pooled = scatter.sum(0) / rows.sum()
    target = (1 - _DIAGONAL) * pooled + _DIAGONAL * torch.diag(pooled.diagonal())
    least = _LEAST * torch.eye(d, dtype=x.dtype)
    covariances = (scatter + d * target) / (counts + d)[:, None, None] + least
    return IncompleteMixture((counts + 1) / (counts + 1).sum(), torch.stack(centres), covariances)


def _centres(x: Tensor, weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows far from each other (k-means++), then ten steps of k-means."""
    chosen = [x[int(torch.multinomial(weights, 1, generator=generator))]]
    for _ in range(count - 1):
        apart = torch.cdist(x, torch.stack(chosen)).amin(1) ** 2
        chosen.append(x[int(torch.multinomial(weights * apart + 1e-12, 1, generator=generator))])
    centres = torch.stack(chosen)
    for _ in range(10):
        nearest = torch.cdist(x, centres).argmin(1)
        hot = torch.nn.functional.one_hot(nearest, count).to(x) * weights[:, None]
        total = hot.sum(0)[:, None]
        centres = torch.where(total > 0, hot.mT @ x / total.clamp(min=1e-9), centres)
    return centres
