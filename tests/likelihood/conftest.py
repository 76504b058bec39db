"""Distributions whose density is known, and what a bound costs on a Gaussian in closed form."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Prediction, Process, Straight, Tabulated, linear_betas
from sfumato.core.levels import Level
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def covariance(d: int, seed: int) -> Tensor:
    root = normal(d, d, seed=seed) / math.sqrt(d)
    return 0.4 * root @ root.T + 0.05 * torch.eye(d, dtype=F64)


GRID = 0.7 * torch.tensor([-1.0, 0.0, 1.0], dtype=F64)
TARGETS = {
    "nine modes": GaussianMixture.isotropic(torch.cartesian_prod(GRID, GRID), 0.1),
    "Gaussian in 2-D": GaussianMixture.gaussian(normal(2, seed=1), covariance(2, 2)),
    "Gaussian in 64-D": GaussianMixture.gaussian(0.3 * normal(64, seed=1), covariance(64, 3)),
    "mixture in 64-D": GaussianMixture(
        torch.tensor([0.5, 0.3, 0.2], dtype=F64),
        0.7 * normal(3, 64, seed=4),
        torch.stack([covariance(64, seed) for seed in (5, 6, 7)]),
    ),
}
PROCESSES = {
    "VP": Process(VP(), Cosine(-12.0, 11.0)),
    "VE": Process(VE(), LinearLogSNR(-9.0, 10.0)),
    "straight": Process(Straight(), Logistic()),
    "chain": Process(VP(), Tabulated(linear_betas(100, 1e-3, 0.15))),
}


class Axes:
    """N(mean, diag(variances)): all that a bound is made of, averaged over the noise, for each sample."""

    def __init__(self) -> None:
        self.mean = torch.tensor([1.0, -0.5, 0.2], dtype=F64)
        self.variances = torch.tensor([0.05, 0.4, 1.8], dtype=F64)
        self.mixture = GaussianMixture.gaussian(self.mean, self.variances.diag())

    def errors(self, x: Tensor, level: Level) -> Tensor:
        """E |eps - eps-hat|^2, as eps - eps-hat = (alpha^2 v eps - alpha sigma (x_0 - m)) / (alpha^2 v + sigma^2)."""
        v, a, s = self.variances, level.alpha[..., None], level.sigma[..., None]
        return (((a**2 * v) ** 2 + (a * s * (x - self.mean)) ** 2) / (a**2 * v + s**2) ** 2).sum(-1)

    def decoder(self, x: Tensor, level: Level) -> Tensor:
        """E -log N(x_0; x_0-hat, r^2), and x_0 - x_0-hat is r times the noise's error."""
        return 0.5 * (x.shape[1] * math.log(2 * math.pi / float(level.logsnr.exp())) + self.errors(x, level))

    def prior(self, x: Tensor, level: Level) -> Tensor:
        wide = level.alpha**2 + level.sigma**2
        r = level.sigma**2 / wide
        return 0.5 * (x.shape[1] * (r - 1 - r.log()) + (level.alpha**2 / wide) * x.square().sum(1))

    def walk(self, process: Process, x: Tensor, times: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
        """(prior, steps, decoder) of a walk over ``times`` whose steps have the variance of this share."""
        steps = torch.zeros(len(x), dtype=F64)
        for s, t in itertools.pairwise(times):
            at_s, at_t = process.level(s), process.level(t)
            kept = at_t.alpha / at_s.alpha
            p_s, p_t = at_s.alpha**2 + at_s.sigma**2, at_t.alpha**2 + at_t.sigma**2
            small = at_s.sigma**2 - (kept * at_s.sigma**2) ** 2 / at_t.sigma**2
            large = p_s - (kept * p_s) ** 2 / p_t
            r = (small / large) ** share
            if float(at_t.alpha) == 0:
                pull = at_s.logsnr.exp() * (x - self.mean).square().sum(1)
            else:
                pull = torch.expm1(at_s.logsnr - at_t.logsnr) * self.errors(x, at_t)
            steps += 0.5 * (x.shape[1] * (r - 1 - r.log()) + r * pull)
        first, last = process.level(times[0]), process.level(times[-1])
        return self.prior(x, last), steps, self.decoder(x, first)

    def span(self, process: Process, x: Tensor, first: float, last: float) -> Tensor:
        """The continuous bound, by Simpson's rule over the log-SNR."""
        at_first, at_last = process.level(first), process.level(last)
        logsnr = torch.linspace(float(at_last.logsnr.clamp(min=-40)), float(at_first.logsnr), 8001, dtype=F64)
        values = self.errors(x[:, None], process.scaling.at(logsnr))
        weights = torch.full((8001,), 2.0, dtype=F64)
        weights[1::2], weights[0], weights[-1] = 4, 1, 1
        integral = values @ weights * (logsnr[1] - logsnr[0]) / 3
        return self.prior(x, at_last) + 0.5 * integral + self.decoder(x, at_first)


class Counted(Denoiser):
    """Counts the samples that were denoised; ``share`` is a learned variance for every number."""

    def __init__(self, process: Process, mixture: GaussianMixture, share: float | None = None) -> None:
        super().__init__()
        self.process = process
        self.exact = ExactDenoiser(process, mixture)
        self.share = share
        self.count = 0

    def forward(self, x_t: Tensor, t: Tensor, cond=None) -> Prediction:
        self.count += len(x_t)
        found = self.exact(x_t, t, cond)
        share = None if self.share is None else torch.full_like(x_t, self.share)
        return Prediction(found.x_0, found.eps, share)


@pytest.fixture(scope="session")
def axes() -> Axes:
    return Axes()


@pytest.fixture(scope="session")
def counted() -> type[Counted]:
    return Counted


@pytest.fixture(scope="session", params=TARGETS, ids=list(TARGETS))
def target(request) -> GaussianMixture:
    return TARGETS[request.param]


@pytest.fixture(scope="session")
def targets() -> dict[str, GaussianMixture]:
    return TARGETS


@pytest.fixture(scope="session", params=PROCESSES, ids=list(PROCESSES))
def process(request) -> Process:
    return PROCESSES[request.param]
