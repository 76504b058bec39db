"""Guidance on mixtures whose classes are known exactly."""

import math

import pytest
import torch
from torch import Tensor

from sfumato.core import VP, Cosine, Process
from sfumato.denoisers import NOT_GIVEN, Condition, ExactDenoiser
from sfumato.denoisers.exact import GaussianMixture
from sfumato.errors import InputError
from sfumato.generate import generate
from sfumato.guidance import Autoguided, ClassifierFree, Interval
from sfumato.sampling.methods import tableau

PROCESS = Process(VP(), Cosine())
WEIGHTS = torch.tensor([0.3, 0.2, 0.1, 0.4], dtype=torch.float64)
MEANS = torch.tensor([[-1.5, 0.0], [0.5, 1.2], [0.2, -1.0], [1.5, 0.3]], dtype=torch.float64)
STD = 0.35
LABELS = torch.tensor([0, 1, 0, 1])


def oracle(std: float = STD) -> ExactDenoiser:
    return ExactDenoiser(PROCESS, GaussianMixture.isotropic(MEANS, std, WEIGHTS), LABELS)


def log_density(x: Tensor, t: float, only: int | None) -> Tensor:
    """log p(x_t), or log p(x_t, class), summed over components one by one."""
    level = PROCESS.level(torch.tensor(t, dtype=torch.float64))
    terms = []
    for weight, mean, label in zip(WEIGHTS, MEANS, LABELS.tolist(), strict=True):
        if only is None or only == label:
            variance = level.alpha**2 * STD**2 + level.sigma**2
            squared = (x - level.alpha * mean).pow(2).sum(1)
            terms.append(weight.log() - squared / (2 * variance) - torch.log(2 * math.pi * variance))
    return torch.stack(terms).logsumexp(0)


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("weight", [0.0, 1.5, 3.0])
def test_the_score_is_that_of_the_class_sharpened(t: float, weight: float) -> None:
    """Its score is grad [log p(x) + w log p(class | x)], by autograd on densities that the denoiser does not use."""
    torch.manual_seed(0)
    x = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    target = log_density(x, t, None) + weight * (log_density(x, t, 1) - log_density(x, t, None))
    (score,) = torch.autograd.grad(target.sum(), x)
    time = torch.tensor(t, dtype=torch.float64)
    level = PROCESS.level(time)
    with torch.no_grad():
        found = ClassifierFree(oracle(), weight)(x, time, Condition(classes=torch.ones(7, dtype=torch.int64)))
    assert torch.allclose(found.eps, -level.sigma * score, rtol=1e-9, atol=1e-11)
    assert torch.allclose(level.alpha * found.x_0 + level.sigma * found.eps, x, atol=1e-11)


def test_weight_one_is_the_conditional_model_and_not_given_is_not_changed() -> None:
    x, t = torch.randn(3, 2).double(), torch.tensor(0.3, dtype=torch.float64)
    cond = Condition(classes=torch.tensor([1, NOT_GIVEN, 0]))
    plain = oracle()(x, t, cond)
    assert torch.equal(ClassifierFree(oracle(), 1.0)(x, t, cond).x_0, plain.x_0)
    assert torch.equal(ClassifierFree(oracle(), 4.0)(x, t, cond).x_0[1], plain.x_0[1])
    assert (ClassifierFree(oracle(), 4.0)(x, t, cond).x_0[[0, 2]] != plain.x_0[[0, 2]]).all()


def test_autoguidance_is_its_formula() -> None:
    x, t = torch.randn(3, 2).double(), torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    cond = Condition(classes=torch.tensor([1, 0, 1]))
    better, worse = oracle()(x, t, cond), oracle(0.8)(x, t, cond)
    for w in (0.0, 1.0, 2.5):
        found = Autoguided(oracle(), oracle(0.8), w)(x, t, cond)
        assert torch.allclose(found.x_0, (1 - w) * worse.x_0 + w * better.x_0, atol=1e-12)
        assert torch.allclose(found.eps, (1 - w) * worse.eps + w * better.eps, atol=1e-12)


def test_outside_the_interval_nothing_is_guided_or_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    x, times = torch.randn(4, 2).double(), torch.tensor([0.1, 0.4, 0.6, 0.95], dtype=torch.float64)
    logsnr = PROCESS.level(times).logsnr
    inside = Interval(float(logsnr[2]), float(logsnr[1]))
    cond = Condition(classes=torch.ones(4, dtype=torch.int64))
    some, everywhere, plain = (
        each(x, times, cond).x_0
        for each in (ClassifierFree(oracle(), 2, inside), ClassifierFree(oracle(), 2), oracle())
    )
    assert torch.equal(some[1:3], everywhere[1:3])
    assert torch.equal(some[[0, 3]], plain[[0, 3]])
    guided = ClassifierFree(oracle(), 2, inside)
    monkeypatch.setattr(ClassifierFree, "worse", lambda *_: pytest.fail("evaluated"))
    assert torch.equal(guided(x, times[3], cond).x_0, oracle()(x, times[3], cond).x_0)
    with pytest.raises(InputError, match="interval: 2 to 1"):
        Interval(2, 1)


@pytest.mark.parametrize("method", ["ddim", "heun", "dpm++2m", "ancestral"])
def test_sample_i_is_the_same_alone(method: str) -> None:
    cond = Condition(classes=torch.tensor([1, 0, 1, 0, 1, 1]))
    guided, table = ClassifierFree(oracle(), 1.5, Interval(-4, 6)), tableau(PROCESS, method, 12)
    together = generate(guided, table, 6, (2,), 3, cond=cond)
    alone = generate(guided, table, 2, (2,), 3, cond=cond.rows(slice(2, 4)), first=2, batch=1)
    assert torch.allclose(together[2:4], alone, atol=1e-5)


@pytest.mark.parametrize(("method", "steps"), [("heun", 200), ("dpm++2m", 30), ("ancestral", 300)])
def test_weight_one_samples_the_exact_class(method: str, steps: int) -> None:
    """Kolmogorov-Smirnov, 4000 against 4000 samples, along three directions.

    At p < 1e-4 its critical distance is 0.050; a distribution function that is off by 0.08 somewhere is found with a
    probability above 0.99, as the distance found is off by 0.011 (one standard error). A weight of 2 is found too.
    """
    from scipy.stats import ks_2samp

    n, table = 4000, tableau(PROCESS, method, steps)
    cond = Condition(classes=torch.ones(n, dtype=torch.int64))
    own = LABELS == 1
    true = GaussianMixture.isotropic(MEANS[own], STD, WEIGHTS[own] / WEIGHTS[own].sum())
    exact = true.sample(n, torch.Generator().manual_seed(5))
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, -0.6]], dtype=torch.float64)

    def least(weight: float) -> float:
        found = generate(ClassifierFree(oracle(), weight), table, n, (2,), 1, cond=cond, batch=n).double()
        return min(float(ks_2samp((found @ d).numpy(), (exact @ d).numpy()).pvalue) for d in directions)

    assert least(1.0) > 1e-4
    assert least(2.0) < 1e-4


def test_refuses_what_it_cannot_do() -> None:
    x, t = torch.randn(2, 2).double(), torch.tensor(0.3, dtype=torch.float64)
    with pytest.raises(InputError, match="guidance: a weight of nan"):
        ClassifierFree(oracle(), math.nan)
    with pytest.raises(InputError, match="none is given; name a class"):
        ClassifierFree(oracle(), 2)(x, t)
    other = ExactDenoiser(Process(VP(), Cosine(logsnr_min=-5.0)), oracle().distribution)
    with pytest.raises(InputError, match="the guide has another process"):
        Autoguided(oracle(), other, 2)
