import math

import pytest
import torch

from sfumato.core import VP, Process, SeededNoise, Tabulated, V
from sfumato.denoisers import NetworkDenoiser
from sfumato.hierarchical import MarkovianHVAE, Restrictions
from sfumato.hierarchical.gaussian_mlp import unbounded
from sfumato.networks import MLP

BETAS = (0.2, 0.5, 0.7)
ALL = Restrictions(True, True, True)
RESTRICTED = {
    "none": {"widths": [2, 1, 3]},
    "same dimension": {"widths": [2, 2, 2], "restrictions": Restrictions(same_dimension=True)},
    "linear encoder": {"widths": [2, 2, 2], "restrictions": Restrictions(True, True), "betas": BETAS},
    "all three": {"widths": [2, 2, 2], "restrictions": ALL, "betas": BETAS},
}


def shaken(module, seed=0, by=0.15):
    """The module with random numbers added to all its parameters, so that nothing is the zero it started as."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)
    return module


def network_denoiser(betas, shape, seed=0):
    network = shaken(MLP(shape, width=16, depth=1), seed)
    return NetworkDenoiser(network, Process(VP(), Tabulated(torch.as_tensor(betas))), V())


def data(count, *shape, seed=0):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_ratio(model, x, noise):
    """log q(z_1 .. z_T | x) - log p(x, z_1 .. z_T) of one path a sample: the bound's definition."""
    z, total = x.flatten(1), 0.0
    for t in range(1, len(model.widths) + 1):
        up = model.encoder.step(z, t)
        z_t = up.sample(noise(t, up.mean))
        down = model.generator.log_prob(z, z_t) if t == 1 else model.generator.step(z_t, t).log_prob(z)
        total = total + up.log_prob(z_t) - down
        z = z_t
    return total - model.prior(z).log_prob(z)


def apart(a, b):
    """How many standard errors lie between the means of two sets of independent values."""
    error = math.hypot(*(float(v.std()) / math.sqrt(len(v)) for v in (a, b)))
    return abs(float(a.mean() - b.mean())) / error


@pytest.fixture(params=RESTRICTED.values(), ids=RESTRICTED.keys())
def hierarchy(request):
    """A hierarchy over two numbers with three latents and random weights, in float64."""
    torch.manual_seed(0)
    return shaken(MarkovianHVAE((2,), hidden=8, depth=1, **request.param)).double()


def affine(mlp, weight, variance):
    """Make a GaussianMLP into N(diag(weight) x, diag(variance)), or N(weight x, ...) for a matrix."""
    with torch.no_grad():
        for parameter in mlp.head.parameters():
            parameter.zero_()
        outputs = mlp.path.out_features
        raw = [unbounded(float(v)) for v in torch.as_tensor(variance).expand(outputs)]
        mlp.head.bias[outputs:] = torch.tensor(raw, dtype=torch.float64)
        mlp.path.weight.copy_(weight if weight.ndim == 2 else torch.diag(weight))
        mlp.path.bias.zero_()


class LinearHierarchy:
    """z_{t-1} = w_t z_t + noise of variance s_t, number by number, from N(0, I): all Gaussian, all known.

    Variances of the levels c_t: c_T = 1, c_{t-1} = w_t^2 c_t + s_t. By Bayes' rule
    q(z_t | z_{t-1}) = N(w_t c_t / c_{t-1} z_{t-1}, c_t s_t / c_{t-1}).
    """

    def __init__(self):
        self.w = torch.tensor([[0.9, -1.2], [0.5, 0.8], [1.1, 0.3]], dtype=torch.float64)
        self.s = torch.tensor([[0.2, 0.1], [0.6, 0.3], [0.5, 1.2]], dtype=torch.float64)
        c = [torch.ones(2, dtype=torch.float64)]
        for w, s in zip(self.w.flip(0), self.s.flip(0), strict=True):
            c.append(w**2 * c[-1] + s)
        self.c = torch.stack(c[::-1])  # c_0 .. c_T

    def model(self):
        model = MarkovianHVAE((2,), [2, 2, 2], hidden=8, depth=1, restrictions=Restrictions(True, False, True)).double()
        for t in range(1, 4):
            w, s, above, below = self.w[t - 1], self.s[t - 1], self.c[t], self.c[t - 1]
            affine(model.generator.networks[t - 1], w, s)
            affine(model.encoder.networks[t - 1], w * above / below, above * s / below)
        return model

    def log_prob(self, x):
        return torch.distributions.Normal(0, self.c[0].sqrt()).log_prob(x).sum(1)

    def sample(self, count):
        return self.c[0].sqrt() * data(count, 2, seed=5)


def seeded(count, seed=0):
    return SeededNoise.samples(seed, count)
