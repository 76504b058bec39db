"""The hierarchy against a diffusion model's own ELBO, against integrals, and against models whose marginal is known."""

import math

import pytest
import torch

from sfumato.bounds import ContinuousGaussian, DiscretisedGaussian, Factorised
from sfumato.core import VP, Gaussian, Process, SeededNoise, Tabulated, ValueGrid, cosine_betas, linear_betas
from sfumato.errors import InputError
from sfumato.hierarchical import DenoisingGenerator, MarkovianHVAE, Restrictions
from sfumato.likelihood import walk, walk_times

from .conftest import (
    ALL,
    BETAS,
    RESTRICTED,
    LinearHierarchy,
    affine,
    data,
    log_ratio,
    network_denoiser,
    seeded,
    shaken,
)

GRID = ValueGrid(-2.0, 0.25, 17)
DECODERS = [DiscretisedGaussian(GRID), Factorised(GRID), ContinuousGaussian()]

# ------------------------------------------------------------------------- all three restrictions: a diffusion model


def diffusion_terms(denoiser, decoder, x, noise):
    """The ELBO over the levels k / T of a chain, by the process's own algebra (Ho et al. 2020, eq. 5)."""
    process = denoiser.process
    steps = process.schedule.steps
    top = process.level(1.0, like=x)
    prior = Gaussian(top.alpha * x, top.sigma**2).kl(process.prior(1.0))
    gaps = []
    for k in range(2, steps + 1):
        t, s = k / steps, (k - 1) / steps
        x_t = process.perturb(x, t, noise(k, x))
        x_hat = denoiser(x_t, torch.tensor(t, dtype=torch.float64)).x_0
        gaps.append(process.posterior(x_t, x, t, s).kl(process.posterior(x_t, x_hat, t, s)))
    first = 1 / steps
    x_1 = process.perturb(x, first, noise(1, x))
    following = process.level(2 / steps) if steps > 1 else None
    belief = denoiser(x_1, torch.tensor(first, dtype=torch.float64))
    return prior, gaps, -decoder.log_prob(x, x_1, process.level(first), following, belief)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize(
    ("betas", "shape"),
    [(cosine_betas(12), (2,)), (linear_betas(40), (1, 2, 3)), ([0.4], (3,)), (BETAS, (2, 2))],
    ids=["cosine", "linear", "one step", "three steps"],
)
def test_with_all_three_restrictions_it_is_a_diffusion_model(betas, shape, decoder):
    denoiser = network_denoiser(betas, shape)
    numbers, steps = math.prod(shape), len(betas)
    model = MarkovianHVAE(
        shape, [numbers] * steps, restrictions=ALL, generator=DenoisingGenerator(denoiser, decoder, shape)
    )
    x = (data(6, *shape).clamp(-2, 2) * 4).round() / 4
    noise = seeded(6)
    prior, gaps, last = diffusion_terms(denoiser, decoder, x, noise)
    terms = model.terms(x, noise)
    # The network computes in float32, and so agrees to its rounding only where its input's last digit differs.
    torch.testing.assert_close(terms.prior, prior, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(terms.decoder, last, rtol=1e-5, atol=1e-6)
    assert terms.steps.shape == (6, steps - 1)
    for column, gap in zip(terms.steps.T, gaps, strict=True):
        torch.testing.assert_close(column, gap, rtol=1e-5, atol=1e-6)
    total = prior + sum(gaps) + last
    torch.testing.assert_close(terms.nats, total, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.loss(x.float(), noise).double(), total / numbers, rtol=1e-5, atol=1e-5)


def test_with_all_three_restrictions_it_samples_as_ancestral_sampling_does():
    denoiser = network_denoiser(BETAS, (2,))
    model = MarkovianHVAE((2,), [2] * 3, restrictions=ALL, generator=DenoisingGenerator(denoiser, DECODERS[2], (2,)))
    noise, like = seeded(7), torch.zeros(7, 2)
    x = noise(0, like)
    for row, t in enumerate((3, 2)):
        belief = denoiser(x, torch.tensor(t / 3, dtype=torch.float64))
        x = denoiser.process.posterior(x, belief.x_0, t / 3, (t - 1) / 3).sample(noise(4 + row, like))
    expected = denoiser(x, torch.tensor(1 / 3, dtype=torch.float64)).x_0
    torch.testing.assert_close(model.sample(7, noise), expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------ fewer restrictions: integrals decide


def density(model, network_step, points, at):
    """p(at | points) of one-dimensional Gaussians as a matrix (points, at)."""
    gaussian = network_step(points[:, None])
    mean, deviation = gaussian.mean.expand(len(points), 1), gaussian.variance.sqrt().expand(len(points), 1)
    return torch.distributions.Normal(mean, deviation).log_prob(at)


@pytest.mark.parametrize("name", RESTRICTED)
def test_it_bounds_the_likelihood_that_an_integral_gives(name):
    """One number, two latents, random weights: -log p(x) and the bound itself by the trapezoid rule on a grid.

    The mean of 40,000 estimates at each x is within four standard errors of the integral, and the integral is above
    -log p(x). Gaussians no narrower than 0.3 on points 0.05 apart: the rule is exact to rounding.
    """
    arguments = {**RESTRICTED[name], "widths": [1, 1]}
    if "betas" in arguments:
        arguments["betas"] = (0.3, 0.6)
    torch.manual_seed(1)
    model = shaken(MarkovianHVAE((1,), hidden=8, depth=1, **arguments), seed=3, by=0.2).double()
    z = torch.arange(-15, 15, 0.05, dtype=torch.float64)
    with torch.no_grad():
        log_prior = model.prior(z[:, None]).log_prob(z[:, None])
        down = density(model, lambda u: model.generator.step(u, 2), z, z)  # (z_2, z_1)
        up = density(model, lambda u: model.encoder.step(u, 2), z, z)  # (z_1, z_2)
        for value in (-1.3, 0.4):
            x = torch.full((1, 1), value, dtype=torch.float64)
            decoder = model.generator.log_prob(x.expand(len(z), 1), z[:, None])
            joint = log_prior[:, None] + down + decoder  # (z_2, z_1)
            exact = -(joint.exp().sum() * 0.05**2).log()
            path = density(model, lambda u: model.encoder.step(u, 1), x[:, 0], z).T + up  # (z_1, z_2)
            assert float(path.exp().sum()) * 0.05**2 == pytest.approx(1, abs=1e-9)
            bound = (path.exp() * (path - joint.T)).sum() * 0.05**2
            estimates = model.terms(x.expand(40_000, 1), seeded(40_000)).nats
            error = float(estimates.std()) / math.sqrt(len(estimates))
            assert abs(float(estimates.mean() - bound)) < 4 * error
            assert error < 0.02
            assert bound > exact + 0.02


def test_the_exact_encoder_makes_the_bound_an_equality():
    truth = LinearHierarchy()
    model, x = truth.model(), truth.sample(20_000)
    exact = -truth.log_prob(x)
    with torch.no_grad():
        # With the exact posterior the ratio of a path is p(x) itself, whatever the path.
        torch.testing.assert_close(log_ratio(model, x[:50], seeded(50)), exact[:50], rtol=0, atol=1e-10)
        gap = model.terms(x, seeded(len(x))).nats - exact
        error = float(gap.std()) / math.sqrt(len(gap))
        assert abs(float(gap.mean())) < 4 * error
        assert error < 0.02
        model.encoder.networks[1].path.weight *= 0.5
        worse = model.terms(x, seeded(len(x))).nats - exact
        assert float(worse.mean()) > 10 * error


def principal(count=400):
    """Data of three numbers, and the maximum-likelihood pPCA of two of them (Tipping & Bishop 1999, eq. 7 and 8)."""
    mixing = torch.tensor([[1.0, 0.4, 0.0], [0.0, 0.8, -0.5], [0.1, 0.0, 0.3]], dtype=torch.float64)
    x = data(count, 3) @ mixing
    x -= x.mean(0)
    covariance = x.T @ x / count
    values, vectors = torch.linalg.eigh(covariance)
    noise = values[0]
    weight = vectors[:, 1:] * (values[1:] - noise).sqrt()
    model = torch.distributions.MultivariateNormal(
        torch.zeros(3).double(), weight @ weight.T + noise * torch.eye(3).double()
    )
    return x, weight, noise, -model.log_prob(x)


def test_one_latent_with_the_weights_of_ppca_attains_its_likelihood():
    x, weight, noise, exact = principal()
    model = MarkovianHVAE((3,), [2], hidden=8, depth=1, restrictions=Restrictions(standard_end=True)).double()
    precision = weight.T @ weight + noise * torch.eye(2).double()  # diagonal: the columns are orthogonal
    inverse = torch.linalg.inv(precision)
    affine(model.generator.networks[0], weight, noise)
    affine(model.encoder.networks[0], inverse @ weight.T, noise * inverse.diagonal())
    torch.testing.assert_close(log_ratio(model, x, seeded(len(x))), exact, rtol=0, atol=1e-9)
    repeated = x.repeat(50, 1)
    gap = (model.terms(repeated, seeded(len(repeated))).nats - exact.repeat(50)).detach()
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(len(gap))


def test_a_vae_that_is_trained_gets_to_ppca():
    """From scratch in 400 steps. A nonlinear model of 400 samples may go below the linear optimum: it overfits."""
    x, _, _, exact = principal()
    torch.manual_seed(0)
    model = MarkovianHVAE((3,), [2], hidden=16, depth=1, restrictions=Restrictions(standard_end=True))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    optimum = float(exact.mean()) / 3
    start = float(model.loss(x.float(), seeded(len(x))).detach().mean())
    for step in range(400):
        optimiser.zero_grad()
        model.loss(x.float(), seeded(len(x), step)).mean().backward()
        optimiser.step()
    end = float(model.loss(x.float().repeat(20, 1), seeded(20 * len(x), 10**6)).detach().mean())
    assert start > optimum + 0.3
    assert optimum - 0.03 < end < optimum + 0.03


# --------------------------------------------------------------------------------------------- sampling and the rest


def test_samples_and_reconstructions_have_the_law_of_the_model():
    truth = LinearHierarchy()
    model, count = truth.model(), 20_000
    drawn = model.sample(count, seeded(count)).double()
    # A sample variance has standard error sqrt(2 / n) of itself.
    assert ((drawn.var(0) / truth.c[0] - 1).abs() < 4 * math.sqrt(2 / count)).all()
    x, weight = truth.sample(count), torch.ones(2, dtype=torch.float64)
    for level in (1, 2, 3):
        again = model.reconstruct(x, level, seeded(count, 3))
        assert ((again.var(0) / truth.c[0] - 1).abs() < 4 * math.sqrt(2 / count)).all()
        # Up and down from z_level are independent, given it: the covariance is its variance, twice scaled down to x.
        weight = weight * truth.w[level - 1]
        expected = weight**2 * truth.c[level]
        spread = ((truth.c[0] ** 2 + expected**2) / count).sqrt()
        assert (((x * again).mean(0) - expected).abs() < 4 * spread).all()


def test_a_sample_does_not_depend_on_its_neighbours(hierarchy):
    many, few = hierarchy.sample(6, seeded(6)), hierarchy.sample(2, seeded(2))
    torch.testing.assert_close(many[:2], few, rtol=1e-5, atol=1e-6)
    assert hierarchy.sample(0, seeded(0)).shape == (0, 2)
    x = data(6, 2)
    torch.testing.assert_close(
        hierarchy.terms(x, seeded(6)).nats[:2], hierarchy.terms(x[:2], seeded(2)).nats, rtol=1e-10, atol=1e-10
    )


def test_gradients_reach_every_parameter(hierarchy):
    hierarchy.float().loss(data(16, 2).float(), seeded(16)).mean().backward()
    for name, parameter in hierarchy.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_gradient_is_that_of_differences(hierarchy):
    x, noise = data(5, 2), seeded(5)
    hierarchy.loss(x, noise).mean().backward()
    step = 1e-6
    for parameter in hierarchy.parameters():
        place = int(parameter.grad.abs().argmax())
        values, found = [], float(parameter.grad.flatten()[place])
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[place] += sign * step
                values.append(float(hierarchy.loss(x, noise).mean()))
                parameter.view(-1)[place] -= sign * step
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(found, rel=1e-5, abs=1e-9)


def test_data_with_levels_is_bounded_by_its_entropy():
    """Two numbers of which each is one of 17 values, uniform: nobody codes them in less than 2 log 17 nats."""
    torch.manual_seed(0)
    model = MarkovianHVAE((2,), [2, 1], hidden=8, depth=1, grid=GRID)
    values = torch.cartesian_prod(GRID.values, GRID.values).repeat(20, 1)
    total = model.terms(values, seeded(len(values))).nats.detach()
    assert float(total.mean()) > 2 * math.log(17)
    drawn = model.sample(50, seeded(50))
    assert GRID.index(drawn).shape == (50, 2)
    with pytest.raises(InputError, match=r"^data: 1 numbers are none of the 17 values"):
        model.terms(torch.tensor([[0.1, 0.25]]), seeded(1))


def test_all_that_is_learned_is_in_the_state(hierarchy):
    x, noise = data(5, 2), seeded(5)
    torch.manual_seed(5)
    arguments = {"widths": list(hierarchy.widths)}
    linear = any(name.startswith("encoder") for name in hierarchy.state_dict())
    if not linear:
        arguments |= {"betas": BETAS}
    standard = not any(name.startswith("prior") for name in hierarchy.state_dict())
    restrictions = Restrictions(set(hierarchy.widths) == {2}, not linear, standard)
    fresh = MarkovianHVAE((2,), hidden=8, depth=1, restrictions=restrictions, **arguments).double()
    fresh.load_state_dict(hierarchy.state_dict())
    assert torch.equal(fresh.loss(x, noise), hierarchy.loss(x, noise))


def chain(betas=BETAS, shape=(2,)):
    return DenoisingGenerator(network_denoiser(betas, shape), ContinuousGaussian(), shape)


LINEAR = Restrictions(True, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": []}, r"^widths=\(\) is not allowed"),
        ({"widths": [2, 0]}, r"^widths=\(2, 0\) is not allowed"),
        ({"widths": [2, 1], "restrictions": Restrictions(True)}, r"^widths=\[2, 1\] with .*give 2 for each latent"),
        ({"widths": [2, 2], "restrictions": LINEAR}, r"^betas: restrictions.linear_encoder needs one per latent"),
        ({"widths": [2, 2], "betas": BETAS}, r"^betas: a learned encoder has none"),
        ({"widths": [2, 2], "restrictions": LINEAR, "betas": BETAS}, r"^widths: 2 latents, but betas for 3"),
        ({"widths": [2, 2], "restrictions": LINEAR, "generator": chain()}, r"^widths: 2 latents, but betas for 3"),
        ({"widths": [2] * 3, "generator": chain()}, r"^generator: a denoiser needs restrictions.linear_encoder"),
        (
            {"widths": [2] * 3, "restrictions": LINEAR, "betas": BETAS, "generator": chain()},
            r"^generator: .*leave out betas and grid$",
        ),
        ({"widths": [2] * 3, "restrictions": LINEAR, "generator": chain(shape=(1, 2))}, r"^generator: made for shape"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused_in_a_line(arguments, message):
    with pytest.raises(InputError, match=message) as refusal:
        MarkovianHVAE((2,), **arguments)
    assert "\n" not in str(refusal.value)


def test_calls_that_do_not_fit_are_refused(hierarchy):
    with pytest.raises(InputError, match=r"^restrictions: linear_encoder .* set same_dimension as well$"):
        Restrictions(linear_encoder=True)
    with pytest.raises(InputError, match=r"^x of shape \(4, 3\) does not fit"):
        hierarchy.terms(torch.zeros(4, 3), seeded(4))
    with pytest.raises(InputError, match=r"^level: 4 is not one of the latents 1 .. 3"):
        hierarchy.reconstruct(torch.zeros(4, 2), 4, seeded(4))
    with pytest.raises(InputError, match=r"^count: -1 is not allowed; give a whole number of at least 0"):
        hierarchy.sample(-1, seeded(0))


def test_the_betas_of_the_denoisers_chain_are_those_of_its_process():
    betas = torch.tensor([0.1, 0.3], dtype=torch.float64)
    assert torch.equal(chain(betas).chain.betas, Process(VP(), Tabulated(betas)).schedule.betas)


def test_its_elbo_is_the_likelihood_floors_walk():
    """The same network, the same latents, two programs: prior, every step and the decoder agree to 1e-5."""
    betas, shape, steps = cosine_betas(12), (2,), 12
    denoiser = network_denoiser(betas, shape)
    decoder = ContinuousGaussian()
    model = MarkovianHVAE(shape, [2] * steps, restrictions=ALL, generator=DenoisingGenerator(denoiser, decoder, shape))
    x, seed = data(6, 2), 3
    bound = walk(denoiser, x, decoder, walk_times(denoiser.process), draws=1, seed=seed)
    source = SeededNoise.samples(seed, len(x))
    # The walk's draw n makes x_t of step n, from level n + 2 down to n + 1; after the steps come two for the decoder.
    passes = [
        model.terms(x, lambda draw, like, k=k: source(steps - 1 + k if draw == 1 else draw - 2, like)) for k in (0, 1)
    ]
    torch.testing.assert_close(bound.prior, passes[0].prior, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(bound.contributions, passes[0].steps, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bound.decoder, (passes[0].decoder + passes[1].decoder) / 2, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        bound.nats, passes[0].prior + passes[0].steps.sum(1) + bound.decoder, rtol=1e-5, atol=1e-5
    )
