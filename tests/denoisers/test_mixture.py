"""The mixture whose estimate a network gets: it is exact, and fitting finds what data was drawn from."""

import pytest
import torch
from torch import nn

from sfumato.core import VE, VP, X0, Cosine, LinearLogSNR, Logistic, Process, Straight
from sfumato.core.levels import expand
from sfumato.denoisers import NOT_GIVEN, Condition, ExactDenoiser, GaussianMixture, MixtureDenoiser, NetworkDenoiser
from sfumato.errors import InputError
from sfumato.numerics import mixtures

PROCESSES = [Process(VP(), Cosine()), Process(VE(), LinearLogSNR(-8.0, 8.0)), Process(Straight(), Logistic(-9.0, 9.0))]
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.scaling).__name__)
SHAPE = (2, 3)  # of one sample
D, Q, K = 6, 3, 4
TIMES = (0.02, 0.3, 0.7, 1.0)


def random_mixture(process: Process, classes: int = 0) -> MixtureDenoiser:
    """Any mixture, in float64."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    found = MixtureDenoiser(process, SHAPE, Q, K, classes).double()
    found.mean.copy_(draw(D))
    found.directions.copy_(torch.linalg.qr(draw(D, Q))[0])
    found.rest.fill_(0.04)
    found.log_weights.copy_(draw(classes + 1, K).log_softmax(1))
    found.centres.copy_(2 * draw(K, Q))
    found.variances.copy_(draw(K, Q).exp())
    found.axes.copy_(torch.linalg.qr(draw(K, Q, Q))[0].permute(1, 0, 2))
    return found


def written_out(mixture: MixtureDenoiser, row: int = -1) -> GaussianMixture:
    """The same distribution with its D x D covariances."""
    A = mixture.directions
    beside = torch.eye(D, dtype=torch.float64) - A @ A.T
    U = mixture.axes.permute(1, 0, 2)
    within = A @ (U * mixture.variances[:, None]) @ U.mT @ A.T
    weights = mixture.log_weights[row].exp()
    return GaussianMixture(weights, mixture.mean + mixture.centres @ A.T, within + mixture.rest * beside)


def noisy(process: Process, t: torch.Tensor) -> torch.Tensor:
    level = process.level(t)
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 2 * torch.hypot(expand(level.alpha, x), expand(level.sigma, x)) * x


@each_process
@pytest.mark.parametrize("t", [*TIMES, torch.tensor([0.01, 0.2, 0.5, 0.9, 1.0])], ids=str)
def test_the_estimates_are_those_of_the_same_mixture_written_out(process, t):
    mixture, t = random_mixture(process), torch.as_tensor(t, dtype=torch.float64)
    x_t = noisy(process, t)
    found, expected = mixture(x_t, t), ExactDenoiser(process, written_out(mixture))(x_t, t)
    torch.testing.assert_close(found.x_0, expected.x_0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.eps, expected.eps, rtol=1e-9, atol=1e-9)


def test_a_class_has_weights_of_its_own_and_none_those_of_all():
    process = PROCESSES[0]
    mixture, t = random_mixture(process, classes=2), torch.tensor(0.6, dtype=torch.float64)
    x_t = noisy(process, t)
    classes = torch.tensor([1, 0, NOT_GIVEN, 1, 0])
    found = mixture(x_t, t, Condition(classes=classes)).x_0
    for i, row in enumerate(classes):
        expected = ExactDenoiser(process, written_out(mixture, int(row)))(x_t[i, None], t).x_0
        torch.testing.assert_close(found[i, None], expected)
    torch.testing.assert_close(found[2, None], mixture(x_t, t).x_0[2, None])


def test_both_estimates_stay_accurate_where_the_other_would_be_divided_by_nothing():
    """In float32, an eps computed from x_0 near data would be rounding error, and so an x_0 from eps near noise."""
    process = Process(VP(), LinearLogSNR(-18.0, 18.0))
    mixture = random_mixture(process)
    for t in (1e-3, 1.0):
        time = torch.tensor(t, dtype=torch.float64)
        x_t = noisy(process, time).float()
        exact = mixture(x_t.double(), time)
        found = random_mixture(process).float()(x_t, time)
        torch.testing.assert_close(found.x_0.double(), exact.x_0, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.eps.double(), exact.eps, rtol=1e-3, atol=1e-3)


def test_an_unfitted_mixture_is_the_standard_normal():
    mixture, t = MixtureDenoiser(PROCESSES[0], SHAPE, Q, K), torch.tensor(0.4, dtype=torch.float64)
    x_t = noisy(PROCESSES[0], t).float()
    alpha = float(PROCESSES[0].level(t).alpha)
    torch.testing.assert_close(mixture(x_t, t).x_0, alpha * x_t)


def test_fitting_finds_the_mixture_that_data_was_drawn_from():
    """Four clusters in a plane of six dimensions: densities of new samples within 0.03 nat of the true ones."""
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(D, 2, generator=generator, dtype=torch.float64))[0]
    centres = 3 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    within = plane @ torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64) @ plane.T
    covariance = within + 0.01 * (torch.eye(D, dtype=torch.float64) - plane @ plane.T)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    truth = GaussianMixture(weights, centres @ plane.T + 1, covariance.expand(4, D, D))
    mixture = MixtureDenoiser(PROCESSES[0], (D,), 2, 4)
    mixture.fit(truth.sample(5000, generator).float(), None, seed=1)
    new = truth.sample(4000, generator)
    nats = truth.log_prob(new) - written_out(mixture.double()).log_prob(new)
    assert abs(float(nats.mean())) < 0.03
    assert sorted(mixture.log_weights[0].exp().tolist()) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.02)


def test_fitting_gives_each_class_the_weights_of_its_samples():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3000) % 3
    x_0 = torch.tensor([[0.0], [4.0], [8.0]])[labels] + 0.3 * torch.randn(3000, 1, generator=generator)
    mixture = MixtureDenoiser(PROCESSES[0], (1,), 1, 3, classes=3)
    mixture.fit(x_0, labels, seed=0)
    at = mixture.centres.flatten() + mixture.mean
    for label in range(3):
        own = mixture.log_weights[label].exp()
        assert float((own * at).sum()) == pytest.approx(4 * label, abs=0.1)
        assert float(own.max()) > 0.99
    torch.testing.assert_close(mixture.log_weights.exp().sum(1), torch.ones(4))
    assert mixture.log_weights[3].exp().tolist() == pytest.approx([1 / 3] * 3, abs=0.01)


@pytest.mark.parametrize("counts", [(40, 1, 1, 58), (97, 1, 1, 1), (1, 1, 1, 97), (25, 25, 25, 25), (50, 0, 49, 1)])
@pytest.mark.parametrize("components", [2, 4, 5, 10])
def test_every_class_that_can_have_it_begins_with_components_of_its_own(counts, components):
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    z = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    first = mixtures._first_components(z, components, torch.Generator().manual_seed(0), labels, 4)
    assert int(first.max()) < components
    owners = [set(labels[first == k].tolist()) for k in range(components)]
    if components >= sum(count > 0 for count in counts):
        assert all(len(owner) <= 1 for owner in owners)
        assert set().union(*owners) == {k for k in range(4) if counts[k]}


def test_few_samples_share_the_covariance_of_all():
    """With n samples of its own, a component has the part n / (n + q) of its own scatter."""
    generator = torch.Generator().manual_seed(0)
    far = torch.cat([torch.randn(20, 2, generator=generator), 100 + 9 * torch.randn(200, 2, generator=generator)])
    mixture = MixtureDenoiser(PROCESSES[0], (2,), 2, 2)
    mixture.fit(far, None, seed=0)
    small = int(mixture.log_weights[0].argmin())
    scatters = [(part - part.mean(0)).T @ (part - part.mean(0)) for part in (far[:20], far[20:])]
    expected = (scatters[0] + 2 * sum(scatters) / 220) / 22
    U = mixture.axes[:, small]
    torch.testing.assert_close(U @ mixture.variances[small].diag() @ U.T, expected, rtol=1e-3, atol=1e-2)


def test_fitting_twice_gives_the_same_bits_whatever_was_drawn_before():
    x_0 = torch.randn(300, 4, 5, generator=torch.Generator().manual_seed(0))
    found = []
    for _ in range(2):
        torch.randn(7)
        mixture = MixtureDenoiser(PROCESSES[0], (4, 5), 3, 4)
        mixture.fit(x_0, None, seed=5)
        found.append(mixture.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("x_0", [torch.zeros(50, 6), torch.eye(6).repeat(9, 1), torch.full((3, 6), 7.0)], ids=str)
def test_data_without_spread_gives_finite_estimates(x_0):
    process = PROCESSES[0]
    mixture = MixtureDenoiser(process, (6,), 2, 2)
    mixture.fit(x_0, None, seed=0)
    for t in TIMES:
        found = mixture(torch.randn(4, 6), torch.tensor(t, dtype=torch.float64))
        assert found.x_0.isfinite().all()
        assert found.eps.isfinite().all()


def test_more_directions_than_numbers_are_refused():
    with pytest.raises(InputError, match=r"base.directions: 7 are more than the 6 numbers of a sample; give at most 6"):
        MixtureDenoiser(PROCESSES[0], SHAPE, 7, 2)


class Answer(nn.Module):
    """A network that says the estimate of its base."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.seen: list[torch.Tensor] = []

    def forward(self, x, label, cond=None):
        self.seen.append(x)
        return self.factor * x[:, SHAPE[0] :]


@each_process
def test_a_network_gets_the_estimate_of_its_base_after_its_own_input(process):
    mixture, t = random_mixture(process), torch.tensor([0.01, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    network, x_t = Answer(), noisy(process, t)
    found = NetworkDenoiser(network, process, X0(), base=mixture)(x_t, t * 0.9)
    expected = mixture(x_t, t * 0.9).x_0
    torch.testing.assert_close(found.x_0, expected)
    level = process.level(t * 0.9)
    scaled = expand(torch.rsqrt(level.alpha**2 + level.sigma**2), x_t) * x_t
    torch.testing.assert_close(network.seen[0], torch.cat([scaled, expected], dim=1))


def test_a_sample_does_not_depend_on_its_batch():
    mixture, t = random_mixture(PROCESSES[0]).float(), torch.tensor(0.5, dtype=torch.float64)
    x_t = noisy(PROCESSES[0], t).float()
    together = mixture(x_t, t).x_0
    alone = torch.cat([mixture(x_t[i, None], t).x_0 for i in range(len(x_t))])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
