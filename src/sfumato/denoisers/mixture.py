"""A mixture of Gaussians fitted to the data, as a denoiser. Its estimate is an input of the network.

The q principal directions A of the data carry a mixture of K Gaussians, and the directions beside them one isotropic
Gaussian of variance s^2:

    x_0 = m + A z + rest,    z ~ sum_k w_k N(m_k, U_k diag(l_k) U_k^T),    rest ~ N(0, s^2 (I - A A^T)).

At every level this is a mixture again, with variances ``v = alpha^2 l_k + sigma^2``, and the estimates are exact for it
(as in ``exact``): with ``p_k = U_k^T (A^T (x_t - alpha m) - alpha m_k)``,

    E[z | x_t, k] = m_k + alpha U_k (l_k p_k / v),    E[eps | x_t, k] = sigma U_k (p_k / v).

Fitting takes seconds. The samples of the mixture have the arrangement of the data, which a network learns last, and
lack its detail, which a network learns first.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sfumato.core import Level, Prediction, Process
from sfumato.core.levels import expand
from sfumato.errors import InputError
from sfumato.numerics import mixtures

from .base import Denoiser
from .condition import Condition
from .exact import GaussianMixture


class MixtureDenoiser(Denoiser):
    """The exact estimates of a mixture that ``fit`` adapts to data; before that, of N(0, I).

    Arguments:
        process: the process.
        shape: shape of one sample, D numbers.
        directions: q, at most D.
        components: K.
        classes: number of classes, which differ in the weights of the components.
    """

    mean: Tensor
    directions: Tensor
    rest: Tensor
    log_weights: Tensor
    centres: Tensor
    variances: Tensor
    axes: Tensor

    def __init__(
        self, process: Process, shape: tuple[int, ...], directions: int, components: int, classes: int = 0
    ) -> None:
        super().__init__()
        self.process = process
        self.classes = classes
        D, q, K = torch.Size(shape).numel(), directions, components
        if q > D:
            raise InputError(f"base.directions: {q} are more than the {D} numbers of a sample; give at most {D}")
        unit = torch.eye(q)
        self.register_buffer("mean", torch.zeros(D))
        self.register_buffer("directions", torch.eye(D, q))
        self.register_buffer("rest", torch.ones(()))  # s^2
        self.register_buffer("log_weights", torch.full((classes + 1, K), -math.log(K)))
        self.register_buffer("centres", torch.zeros(K, q))
        self.register_buffer("variances", torch.ones(K, q))
        self.register_buffer("axes", unit[:, None].repeat(1, K, 1))  # (q, K, q): U_k is axes[:, k]

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        return self.predict(x_t, self.process.level(t), None if cond is None else cond.classes)

    def predict(self, x_t: Tensor, level: Level, classes: Int64[Tensor, "b"] | None = None) -> Prediction:
        """E[x_0 | x_t] and E[eps | x_t] at a ``level`` of shape () or (B,), with x_t's shape and type."""
        with torch.autocast(x_t.device.type, enabled=False):
            x_0, eps = self._estimates(x_t.flatten(1), level, classes)
        return Prediction(x_0.view_as(x_t), eps.view_as(x_t))

    def _estimates(self, x: Tensor, level: Level, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, A, s2, log_weights, centres, variances, axes = (
            buffer.to(x.dtype)
            for buffer in (
                self.mean,
                self.directions,
                self.rest,
                self.log_weights,
                self.centres,
                self.variances,
                self.axes,
            )
        )
        K, q = centres.shape
        alpha, sigma = expand(level.alpha, x), expand(level.sigma, x)
        away = x - alpha * mean
        z = away @ A
        flat = axes.reshape(q, K * q)
        origin = torch.einsum("kq,qkr->kr", centres, axes)
        p = (z @ flat).view(-1, K, q)
        p = p - expand(level.alpha, p) * origin
        v = expand(level.alpha, p) ** 2 * variances + expand(level.sigma, p) ** 2
        scaled = p / v
        own = log_weights[-1:] if classes is None else log_weights[classes.to(x.device)]
        weights = (own - 0.5 * (v.log() + p * scaled).sum(-1)).softmax(1)
        scaled = weights[..., None] * scaled
        pulled, noise = (part.flatten(1) @ flat.T for part in (variances * scaled, scaled))
        z_0, z_eps = weights @ centres + alpha * pulled, sigma * noise
        beside = (away - z @ A.T) / (alpha**2 * s2 + sigma**2)
        return mean + z_0 @ A.T + alpha * s2 * beside, z_eps @ A.T + sigma * beside

    @property
    def distribution(self) -> GaussianMixture:
        """The mixture of samples of all classes in model units, with its K covariances of D x D written out."""
        mean, A, s2, centres, variances, axes = (
            buffer.detach().double().cpu()
            for buffer in (self.mean, self.directions, self.rest, self.centres, self.variances, self.axes)
        )
        inner = torch.einsum("qkr,kr,skr->kqs", axes, variances, axes)
        covariances = A @ inner @ A.T + s2 * (torch.eye(len(A), dtype=torch.float64) - A @ A.T)
        weights = self.log_weights[-1].detach().double().cpu().softmax(0)
        return GaussianMixture(weights, mean + centres @ A.T, (covariances + covariances.mT) / 2)

    @torch.no_grad()
    def assign(self, law: GaussianMixture) -> None:
        """Take K Gaussians, in model units, with covariances in all D directions (q = D).

        Raises:
            InputError: another number of Gaussians or of directions than the denoiser has.
        """
        K, D = len(self.centres), len(self.mean)
        if tuple(law.means.shape) != (K, D) or self.directions.shape[1] != D:
            raise InputError(
                f"mixture: {len(law.means)} Gaussians of {law.means.shape[1]} numbers do not fit {K} components of {D} "
                "numbers in all directions"
            )
        variances, axes = torch.linalg.eigh(law.covariances)
        mean = law.weights @ law.means
        self.mean.copy_(mean)
        self.directions.copy_(torch.eye(D))
        self.rest.fill_(mixtures.LEAST)
        self.log_weights.copy_(law.weights.log().expand_as(self.log_weights))
        self.centres.copy_(law.means - mean)
        self.variances.copy_(variances.clamp(min=mixtures.LEAST))
        self.axes.copy_(axes.permute(1, 0, 2))

    @torch.no_grad()
    def fit(self, x_0: Float[Tensor, "n *s"], labels: Int64[Tensor, "n"] | None, seed: int) -> None:
        """Fit the mixture to samples.

        Arguments:
            x_0: samples in model units, at least as many as there are components.
            labels: their classes; needed by a mixture with classes.
            seed: of the centres that fitting starts from.
        """
        x = x_0.flatten(1).float()
        K, q = self.centres.shape
        generator = torch.Generator(x.device).manual_seed(seed)
        mean = x.mean(0)
        A, spread = _principal(x - mean, q, seed)
        z = (x - mean) @ A
        if labels is None or not self.classes:
            labels = torch.full((len(x),), -1, device=x.device)
        found = mixtures.fit(z, K, generator, labels, self.classes)
        new = {
            "mean": mean,
            "directions": A,
            "rest": torch.tensor(max(spread, mixtures.LEAST)),
            "log_weights": found.weights.log(),
            "centres": found.means,
            "variances": found.variances,
            "axes": found.axes.permute(1, 0, 2),
        }
        for name, value in new.items():
            getattr(self, name).copy_(value)


def _principal(x: Float[Tensor, "n d"], q: int, seed: int) -> tuple[Float[Tensor, "d q"], float]:
    """The q principal directions of centred samples, and the mean variance beside them."""
    D = x.shape[1]
    if q == D:
        return torch.eye(D, device=x.device), 0.0
    with torch.random.fork_rng(devices=[]):  # the random projections of Halko et al. 2011
        torch.manual_seed(seed)
        _, singular, axes = torch.pca_lowrank(x, min(q + 10, *x.shape), center=False)
    captured = singular[:q].square().sum()
    return axes[:, :q].contiguous(), float((x.square().sum() - captured) / (len(x) * (D - q)))
