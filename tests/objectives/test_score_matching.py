"""Score matching against its definition by torch.func, by enumeration of directions, and by quadrature of the noise."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfumato.core import (
    EDM,
    VE,
    VP,
    Cosine,
    LinearLogSNR,
    Logistic,
    Noise,
    Prediction,
    Process,
    Score,
    SeededNoise,
    Straight,
    V,
    geometric,
)
from sfumato.core.levels import expand
from sfumato.denoisers import Condition, Denoiser, ExactDenoiser, GaussianMixture, NetworkDenoiser
from sfumato.errors import InputError
from sfumato.objectives import Batch, DenoisingLoss, OneTime, UniformTimes
from sfumato.objectives.score_matching import ExplicitScoreMatching, ImplicitScoreMatching, SlicedScoreMatching
from sfumato.objectives.weights import simple

F64 = torch.float64
PROCESSES = [Process(VP(), Cosine()), Process(VE(), LinearLogSNR(-4.0, 4.0)), Process(Straight(), Logistic(-5.0, 5.0))]
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.scaling).__name__)
TIMES = UniformTimes()
SIGNS = torch.tensor(list(product((-1.0, 1.0), repeat=3)), dtype=F64)


class Tiny(nn.Module):
    """Two layers on D numbers of any shape, in float64, different at every label."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.inner = nn.Parameter(0.6 * torch.randn(5, dimensions, generator=generator, dtype=F64))
        self.outer = nn.Parameter(torch.randn(dimensions, 5, generator=generator, dtype=F64))

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        shift = 0 if cond is None else cond
        return (torch.tanh(x.flatten(1) @ self.inner.T + label.to(x)[:, None] + shift) @ self.outer.T).reshape(x.shape)


def tiny(process: Process, target=None, dimensions: int = 3) -> NetworkDenoiser:
    return NetworkDenoiser(Tiny(dimensions), process, target or V(), "log-ratio", 0.5)


def batch(count: int = 5):
    generator = torch.Generator().manual_seed(0)
    x_0, z = torch.randn(2, count, 3, generator=generator, dtype=F64).unbind()
    return x_0, torch.linspace(0.1, 0.9, count, dtype=F64), z


def draws(*fixed: Tensor):
    """A source whose draws 1, 2, ... are these, each for all samples where it has no batch of its own."""
    return lambda draw, like: fixed[draw - 1].to(like).reshape(-1, *like.shape[1:]).expand_as(like)


def scores_and_jacobians(denoiser: Denoiser, x_t: Tensor, t: Tensor, cond=None) -> tuple[Tensor, Tensor]:
    """s (B, D) and grad s (B, D, D), forward mode and a sample at a time, with a graph back to the weights."""
    scores, jacobians = [], []
    for i, (x, time) in enumerate(zip(x_t, t, strict=True)):
        sigma = float(denoiser.process.level(time).sigma)
        given = None if cond is None else cond.rows(slice(i, i + 1))

        def score(y, x=x, time=time, sigma=sigma, given=given):
            return -denoiser(y.reshape(1, *x.shape), time, given).eps.flatten() / sigma

        scores.append(score(x.flatten()))
        jacobians.append(torch.func.jacfwd(score)(x.flatten()))
    return torch.stack(scores), torch.stack(jacobians)


def gradients(losses: Tensor, denoiser: nn.Module) -> Tensor:
    found = torch.autograd.grad(losses.sum(), list(denoiser.parameters()), retain_graph=True)
    return torch.cat([g.flatten() for g in found])


# ------------------------------------------------------------------------------------------ against the definition


@each_process
@pytest.mark.parametrize("target", [V(), Noise(), Score(), EDM(0.5)], ids=lambda t: type(t).__name__)
def test_implicit_is_hyvarinens_objective_and_so_is_its_gradient(process, target):
    x_0, t, z = batch()
    denoiser = tiny(process, target)
    losses = ImplicitScoreMatching(TIMES).at(denoiser, Batch(x_0, t, draws(z)), t)
    s, jacobian = scores_and_jacobians(denoiser, process.perturb(x_0, t, z), t)
    want = process.level(t).sigma ** 2 * (torch.einsum("bii->b", jacobian) + s.square().sum(1) / 2) / 3
    # Both sum a few dozen numbers, some up to e^2.5 times the loss.
    torch.testing.assert_close(losses, want, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gradients(losses, denoiser), gradients(want, denoiser), rtol=1e-10, atol=1e-11)


@each_process
@pytest.mark.parametrize("count", [1, 2])
def test_a_direction_gives_its_quadratic_form(process, count):
    x_0, t, z = batch()
    v = torch.randn(count, 5, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    denoiser = tiny(process)
    s, jacobian = scores_and_jacobians(denoiser, process.perturb(x_0, t, z), t)
    sigma2 = process.level(t).sigma ** 2
    for law, chosen in (("gaussian", v), ("rademacher", v.sign())):
        curvature = torch.einsum("pbi,bij,pbj->pb", chosen, jacobian, chosen)
        projected = torch.einsum("pbi,bi->pb", chosen, s).square() / 2
        sliced = SlicedScoreMatching(TIMES, count, law).at(denoiser, Batch(x_0, t, draws(z, *v)), t)
        probed = ImplicitScoreMatching(TIMES, count, law).at(denoiser, Batch(x_0, t, draws(z, *v)), t)
        wants = sigma2 * (curvature + projected).mean(0) / 3, sigma2 * (curvature.mean(0) + s.square().sum(1) / 2) / 3
        for got, want in zip((sliced, probed), wants, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)
            torch.testing.assert_close(gradients(got, denoiser), gradients(want, denoiser), rtol=1e-10, atol=1e-11)


@each_process
def test_over_all_directions_sliced_is_implicit(process):
    """All 2^D sign vectors, or sqrt(D) times the axes: the mean of v v' is the identity, so that no chance is left."""
    x_0, t, z = batch()
    denoiser = tiny(process)
    exact = ImplicitScoreMatching(TIMES).at(denoiser, Batch(x_0, t, draws(z)), t)
    axes = math.sqrt(3) * torch.eye(3, dtype=F64)
    for kind in (SlicedScoreMatching, ImplicitScoreMatching):
        for law, directions in (("rademacher", 0.3 * SIGNS), ("gaussian", axes)):
            got = kind(TIMES, len(directions), law).at(denoiser, Batch(x_0, t, draws(z, *directions)), t)
            torch.testing.assert_close(got, exact, rtol=1e-12, atol=1e-13)
            torch.testing.assert_close(gradients(got, denoiser), gradients(exact, denoiser), rtol=1e-10, atol=1e-11)


def test_denoising_with_weight_one_is_vincents_objective_times_sigma_squared():
    """Annealed over geometric sigmas, or at a single one (Song & Ermon 2019, eq. 5 and 6, but for the half and D)."""
    process = Process(VE(), geometric(0.1, 3.0))
    x_0, _, z = batch()
    denoiser = tiny(process, Noise())
    for times, sigmas in ((OneTime(0.5), [math.sqrt(0.3)] * 5), (TIMES, [0.1 * 30 ** (u / 5) for u in range(5)])):
        t = torch.arange(5, dtype=F64) / 5
        losses = DenoisingLoss(times, simple)(denoiser, Batch(x_0, t, draws(z)))
        for i, sigma in enumerate(sigmas):
            noisy = x_0[i] + sigma * z[i]
            time = math.log(sigma / 0.1) / math.log(30)
            s = -denoiser(noisy[None], torch.tensor(time, dtype=F64)).eps[0].detach() / sigma
            want = sigma**2 * float((s + (noisy - x_0[i]) / sigma**2).square().sum()) / 3
            assert float(losses[i].detach()) == pytest.approx(want, rel=1e-10)


# ------------------------------------------------------------------------------------------ against each other


@each_process
def test_all_rungs_have_one_gradient_and_known_constants(process):
    """Three points as data, each noise by Gauss-Hermite quadrature: expectations without chance, in two dimensions."""
    nodes, mass = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(60))
    z = torch.cartesian_prod(nodes, nodes)
    noise_mass = torch.cartesian_prod(mass, mass).prod(1) / (2 * math.pi)
    points = torch.tensor([[0.5, 0.2], [-0.3, 0.6], [0.1, -0.7]], dtype=F64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    truth = GaussianMixture(weights, points, torch.zeros(3, 2, 2, dtype=F64))
    x_0, noises = points.repeat_interleave(len(z), 0), z.repeat(3, 1)
    joint = (weights[:, None] * noise_mass).flatten()
    denoiser = tiny(process, dimensions=2)
    t = torch.tensor(0.6, dtype=F64)

    def mean(objective):
        return (joint * objective.at(denoiser, Batch(x_0, t, draws(noises)), t)).sum()

    explicit = mean(ExplicitScoreMatching(TIMES, truth.predict))
    implicit = mean(ImplicitScoreMatching(TIMES))
    denoising = mean(DenoisingLoss(TIMES, simple)) / 2
    true = truth.predict(process.perturb(x_0, t, noises), process.level(t)).eps
    constant = float((joint * true.square().sum(1)).sum()) / 4  # sigma^2 E |grad log p|^2 / 2D
    # The quadrature's own error; 50 nodes differ from 60 by less.
    close = {"rtol": 1e-6, "atol": 1e-7}
    torch.testing.assert_close(explicit, implicit + constant, **close)
    torch.testing.assert_close(denoising, implicit + 0.5, **close)
    torch.testing.assert_close(gradients(implicit, denoiser), gradients(explicit, denoiser), **close)
    torch.testing.assert_close(gradients(denoising, denoiser), gradients(explicit, denoiser), **close)
    assert gradients(explicit, denoiser).abs().max() > 0.01


class Linear(Denoiser):
    """``eps_hat = A x_t + b``: the form that a Gaussian's score has."""

    def __init__(self, process: Process, dimensions: int) -> None:
        super().__init__()
        self.process = process
        self.A = nn.Parameter(torch.zeros(dimensions, dimensions, dtype=F64))
        self.b = nn.Parameter(torch.zeros(dimensions, dtype=F64))

    def forward(self, x_t: Tensor, t: Tensor, cond=None) -> Prediction:
        eps, level = x_t @ self.A.T + self.b, self.process.level(t)
        return Prediction((x_t - expand(level.sigma, x_t) * eps) / expand(level.alpha, x_t), eps)


@each_process
@pytest.mark.parametrize("kind", ["implicit", "probed", "sliced", "explicit"])
def test_the_minimiser_on_a_gaussian_is_its_score(process, kind):
    """The objectives are quadratic in A and b, and see two moments of x_t, which a few points have exactly."""
    root = torch.tensor([[0.6, 0.0, 0.0], [0.4, 0.5, 0.0], [-0.2, 0.3, 0.8]], dtype=F64)
    mean = torch.tensor([0.5, -1.0, 0.3], dtype=F64)
    axes = math.sqrt(3) * torch.cat((torch.eye(3, dtype=F64), -torch.eye(3, dtype=F64)))
    x_0, z = (mean + axes @ root.T).repeat_interleave(6, 0), axes.repeat(6, 1)
    objective = {
        "implicit": ImplicitScoreMatching(TIMES),
        "probed": ImplicitScoreMatching(TIMES, 8),
        "sliced": SlicedScoreMatching(TIMES, 8),
        "explicit": ExplicitScoreMatching(TIMES, GaussianMixture.gaussian(mean, root @ root.T).predict),
    }[kind]
    t = torch.tensor(0.4, dtype=F64)
    denoiser = Linear(process, 3)
    optimiser = torch.optim.LBFGS(
        denoiser.parameters(), max_iter=200, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = objective.at(denoiser, Batch(x_0, t, draws(z, *SIGNS)), t).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    level = process.level(t)
    total = level.alpha**2 * root @ root.T + level.sigma**2 * torch.eye(3, dtype=F64)
    A = level.sigma * torch.linalg.inv(total)
    torch.testing.assert_close(denoiser.A.detach(), A, rtol=0, atol=1e-8)
    torch.testing.assert_close(denoiser.b.detach(), -A @ (level.alpha * mean), rtol=0, atol=1e-8)


@each_process
def test_explicit_is_zero_at_the_truth_and_the_error_elsewhere(process):
    x_0, t, z = batch()
    mixture = GaussianMixture.isotropic(torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.5, 0.2]], dtype=F64), 0.4)
    objective = ExplicitScoreMatching(TIMES, mixture.predict)
    assert objective.at(ExactDenoiser(process, mixture), Batch(x_0, t, draws(z)), t).tolist() == [0] * 5
    denoiser = tiny(process)
    x_t, level = process.perturb(x_0, t, z), process.level(t)
    y = x_t.clone().requires_grad_()
    (true,) = torch.autograd.grad(mixture.log_prob(y, level).sum(), y)
    s, _ = scores_and_jacobians(denoiser, x_t, t)
    want = level.sigma**2 * (s - true).square().sum(1) / 6
    torch.testing.assert_close(objective.at(denoiser, Batch(x_0, t, draws(z)), t), want, rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------------------------------ the contract

OBJECTIVES = [
    ImplicitScoreMatching(TIMES),
    ImplicitScoreMatching(TIMES, 2),
    SlicedScoreMatching(TIMES),
    SlicedScoreMatching(TIMES, 2, "gaussian"),
]
each_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=["exact", "2 probes", "sliced", "2 gaussian"])


@each_objective
@pytest.mark.parametrize("shape", [(3,), (1, 6), (2, 4), (2, 2, 3), (1,)], ids=str)
def test_samples_of_any_shape_are_their_numbers(objective, shape):
    process, D = PROCESSES[0], math.prod(shape)
    x_0 = torch.randn(4, *shape, generator=torch.Generator().manual_seed(2), dtype=F64)
    t = torch.linspace(0.2, 0.8, 4, dtype=F64)
    noise, denoiser = SeededNoise.samples(0, 4), tiny(process, dimensions=D)
    losses = objective.at(denoiser, Batch(x_0, t, noise), t)
    assert losses.shape == (4,)
    torch.testing.assert_close(
        losses, objective.at(denoiser, Batch(x_0.flatten(1), t, noise), t), rtol=1e-13, atol=1e-14
    )


def test_a_convolution_of_an_image_has_the_trace_of_its_jacobian():
    """A network that needs its axes, so that a flattened input would not do."""

    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(2, 2, 3, padding=1, dtype=F64)

        def forward(self, x, label):
            return torch.sin(self.conv(x))

    process = PROCESSES[0]
    denoiser = NetworkDenoiser(Convolution(), process, V())
    x_0, z = torch.randn(2, 3, 2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=F64).unbind()
    t = torch.tensor([0.2, 0.5, 0.8], dtype=F64)
    losses = ImplicitScoreMatching(TIMES).at(denoiser, Batch(x_0, t, draws(z)), t)
    s, jacobian = scores_and_jacobians(denoiser, process.perturb(x_0, t, z), t)
    want = process.level(t).sigma ** 2 * (torch.einsum("bii->b", jacobian) + s.square().sum(1) / 2) / 12
    torch.testing.assert_close(losses, want, rtol=1e-11, atol=1e-12)


@each_objective
def test_a_sample_does_not_know_its_neighbours(objective):
    x_0, t, _ = batch()
    denoiser = tiny(PROCESSES[0])
    together = objective.at(denoiser, Batch(x_0, t, SeededNoise.samples(7, 5)), t)
    for i in range(5):
        alone = objective.at(denoiser, Batch(x_0[i : i + 1], t[i], SeededNoise.samples(7, 1, first=i)), t[i])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-12, atol=1e-13)


def test_one_draw_for_the_noise_and_one_for_each_direction():
    x_0, t, z = batch()
    asked = []

    def source(draw, like):
        asked.append(draw)
        return z.to(like)

    for objective, want in zip(OBJECTIVES, ([1], [1, 2, 3], [1, 2], [1, 2, 3]), strict=True):
        asked.clear()
        objective.at(tiny(PROCESSES[0]), Batch(x_0, t, source), t)
        assert sorted(asked) == want


@each_objective
def test_the_loss_can_be_measured_without_gradients(objective):
    x_0, t, _ = batch()
    denoiser, noise = tiny(PROCESSES[0]), SeededNoise.samples(1, 5)
    learning = objective.evaluate(denoiser, Batch(x_0, t, noise))
    with torch.no_grad():
        measured = objective.evaluate(denoiser, Batch(x_0, t, noise))
    assert learning.requires_grad
    assert not measured.requires_grad
    assert measured.grad_fn is None
    torch.testing.assert_close(measured, learning.detach(), rtol=0, atol=0)


@each_objective
def test_a_condition_reaches_the_network_and_the_data_no_gradient(objective):
    x_0, t, _ = batch()
    denoiser, noise = tiny(PROCESSES[0]), SeededNoise.samples(1, 5)
    cond = Condition(augmentation=torch.linspace(-1, 1, 5, dtype=F64)[:, None])
    x_0.requires_grad_()
    objective.at(denoiser, Batch(x_0, t, noise, cond), t).sum().backward()
    assert x_0.grad is None
    for i in range(5):
        same = cond.rows(torch.full((5,), i))
        got = objective.at(denoiser, Batch(x_0, t, noise, same), t)[i]
        torch.testing.assert_close(
            got, objective.at(denoiser, Batch(x_0, t, noise, cond), t)[i], rtol=1e-12, atol=1e-13
        )
    s, jacobian = scores_and_jacobians(denoiser, PROCESSES[0].perturb(x_0.detach(), t, noise(1, x_0)), t, cond)
    want = PROCESSES[0].level(t).sigma ** 2 * (torch.einsum("bii->b", jacobian) + s.square().sum(1) / 2) / 3
    exact = ImplicitScoreMatching(TIMES).at(denoiser, Batch(x_0.detach(), t, noise, cond), t)
    torch.testing.assert_close(exact, want, rtol=1e-11, atol=1e-12)


@each_objective
def test_float32_states(objective):
    x_0, t, _ = batch()
    denoiser, noise = tiny(PROCESSES[0]), SeededNoise.samples(1, 5)
    single = objective.at(denoiser, Batch(x_0.float(), t, noise), t)
    assert single.dtype == torch.float32
    # A few dozen roundings of 6e-8, of terms up to ten times the loss.
    torch.testing.assert_close(single.double(), objective.at(denoiser, Batch(x_0, t, noise), t), rtol=1e-4, atol=1e-5)


def test_the_weight_is_half_that_of_the_denoising_loss():
    level, rate = PROCESSES[0].level(torch.linspace(0.1, 0.9, 5)), torch.ones(5, dtype=F64)
    reference = DenoisingLoss(TIMES, simple).weight(level, rate)
    for objective in (*OBJECTIVES, ExplicitScoreMatching(TIMES, lambda x, level: Prediction(x, x))):
        torch.testing.assert_close(objective.weight(level, rate), reference / 2, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImplicitScoreMatching(TIMES, 0), "probes: 0 .*at least 1"),
        (lambda: SlicedScoreMatching(TIMES, -1), "projections: -1 .*at least 1"),
        (
            lambda: ImplicitScoreMatching(TIMES, 1, "normal"),
            "'normal' is not known; choose one of rademacher, gaussian",
        ),
        (lambda: SlicedScoreMatching(TIMES, 1, "normal"), "'normal' is not known; choose one of rademacher, gaussian"),
        (lambda: ImplicitScoreMatching(TIMES, None, "gaussian"), "no effect on an exact trace; give probes"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(InputError, match=message) as refused:
        make()
    assert "\n" not in str(refused.value)
