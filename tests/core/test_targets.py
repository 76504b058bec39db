"""Targets: every conversion by an independent solver, and the identities of the literature.

The error of the two-row solution is bounded componentwise: x_0 = (b x_t - sigma y) / det is made of
``|b| (|alpha x_0| + |sigma eps|) + |sigma| (|a x_0| + |b eps|)`` over |det|, each term rounded a few times, whatever
the rows; likewise eps. No target here lets det cancel (its two products never have opposite signs), so eight roundings
of that sum, 8 * 2.2e-16, bound what is lost at any log-SNR; they are large only near a target's own zero of det.
"""

import math

import numpy as np
import pytest
import torch

from sfumato.core import EDM, VE, VP, X0, Level, Noise, Score, Straight, V, Velocity

SCALINGS = [VP(), VE(), Straight()]
LOGSNR = torch.linspace(-20, 20, 41, dtype=torch.float64)
X = torch.tensor([[1.3], [-0.02], [250.0]], dtype=torch.float64)
E = torch.tensor([[-0.4], [2.2], [0.01]], dtype=torch.float64)
ROUNDINGS = 8 * 2.0**-52


def targets(scaling):
    return [X0(), Noise(), Score(), V(), Velocity(scaling), EDM(0.5), EDM(2.0), EDM(1.0)]


def levels(scaling):
    for value in LOGSNR:
        yield scaling.at(value)


def bounds(target, level):
    """What rounding may do to x_0 and to eps, as derived above."""
    a, b = (float(v) for v in target.row(level))
    alpha, sigma, det = float(level.alpha), float(level.sigma), abs(float(target.det(level)))
    x_t = alpha * X.abs() + sigma * E.abs()
    y = abs(a) * X.abs() + abs(b) * E.abs()
    return (
        ROUNDINGS * (abs(b) * x_t + sigma * y) / det,
        ROUNDINGS * (alpha * y + abs(a) * x_t) / det,
    )


def within(got, expected, bound):
    assert ((got - expected).abs() <= bound).all(), ((got - expected).abs() / bound).max()


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: type(s).__name__)
def test_every_conversion_between_targets_comes_back(scaling):
    for level in levels(scaling):
        x_t = level.alpha * X + level.sigma * E
        for source in targets(scaling):
            prediction = source.decode(source.encode(X, E, level), x_t, level)
            of_x_0, of_eps = bounds(source, level)
            within(prediction.x_0, X, of_x_0)
            within(prediction.eps, E, of_eps)
            for target in targets(scaling):
                a, b = (float(v) for v in target.row(level))
                error = abs(a) * (of_x_0 + ROUNDINGS * X.abs()) + abs(b) * (of_eps + ROUNDINGS * E.abs())
                within(target.encode(prediction.x_0, prediction.eps, level), target.encode(X, E, level), error)


def test_the_bound_is_tight_where_targets_are_well_posed():
    # v, velocity and EDM's output lose nothing at either end; the noise loses x_0 as 1 / alpha, and only that.
    for scaling in SCALINGS:
        for level in levels(scaling):
            for target in (V(), EDM(0.5)):
                of_x_0, of_eps = bounds(target, level)
                reach = X.abs() + E.abs()
                n = max(float(level.alpha), float(level.sigma))
                assert (of_x_0 * min(1, n) < 20 * ROUNDINGS * reach * max(1, n)).all()
                assert (of_eps * min(1, n) < 20 * ROUNDINGS * reach * max(1, n)).all()
            of_x_0, of_eps = bounds(Noise(), level)
            assert (of_eps <= ROUNDINGS * E.abs() * (1 + 1e-12)).all()


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: type(s).__name__)
def test_decode_is_the_solution_of_two_linear_equations(scaling):
    y, x_t = torch.tensor([[0.7], [-3.0]], dtype=torch.float64), torch.tensor([[-1.1], [0.4]], dtype=torch.float64)
    for level in levels(scaling):
        for target in targets(scaling):
            a, b = (float(v) for v in target.row(level))
            matrix = np.array([[float(level.alpha), float(level.sigma)], [a, b]])
            # LAPACK's elimination is backward stable row by row once the rows are of one size.
            scale = np.abs(matrix).max(axis=1)
            condition = np.linalg.cond(matrix / scale[:, None])
            prediction = target.decode(y, x_t, level)
            for i in (0, 1):
                right = np.array([float(x_t[i]), float(y[i])])
                expected = np.linalg.solve(matrix / scale[:, None], right / scale)
                got = np.array([float(prediction.x_0[i]), float(prediction.eps[i])])
                assert np.abs(got - expected).max() <= 1e-14 * condition * np.abs(expected).max()
            assert float(target.det(level)) == pytest.approx(np.linalg.det(matrix), rel=1e-13)


def test_det_is_zero_exactly_where_a_target_is_ill_posed():
    data, noise = (VP().at(torch.tensor(v, dtype=torch.float64)) for v in (math.inf, -math.inf))
    straight = Straight().at(torch.tensor(-math.inf, dtype=torch.float64))
    assert float(X0().det(data)) == 0
    for level in (noise, straight):
        assert float(Noise().det(level)) == 0
        assert float(Score().det(level)) == 0
        assert float(X0().det(level)) == -1
    assert float(Noise().det(data)) == 1
    for target in (V(), Velocity(VP()), EDM(0.5)):
        for level in (data, noise):
            assert abs(float(target.det(level))) >= 0.5
    for target in (V(), Velocity(Straight())):
        for end in (-math.inf, math.inf):
            assert float(target.det(Straight().at(torch.tensor(end, dtype=torch.float64)))) == 1


def test_det_of_v_is_the_norm_and_of_edm_the_norm_over_sigma_data(scaling):
    level = scaling.at(LOGSNR)
    torch.testing.assert_close(V().det(level), torch.hypot(level.alpha, level.sigma), rtol=1e-15, atol=0)
    norm = torch.sqrt((level.alpha * 0.5) ** 2 + level.sigma**2)
    torch.testing.assert_close(EDM(0.5).det(level), -norm / 0.5, rtol=1e-14, atol=0)


def test_velocity_is_noise_in_ve_v_in_vp_and_the_difference_on_straight_paths():
    for value in LOGSNR:
        level = VE().at(value)
        assert torch.equal(Velocity(VE()).encode(X, E, level), E)
        level = VP().at(value)
        torch.testing.assert_close(
            Velocity(VP()).encode(X, E, level), level.alpha * E - level.sigma * X, rtol=1e-15, atol=1e-14
        )
        torch.testing.assert_close(Velocity(VP()).encode(X, E, level), V().encode(X, E, level), rtol=1e-14, atol=1e-13)
        level = Straight().at(value)
        assert torch.equal(Velocity(Straight()).encode(X, E, level), E - X)


def test_score_is_the_gradient_of_the_kernel(scaling):
    x_0, eps = X[:, 0].clone(), E[:, 0]
    for value in LOGSNR[::5]:
        level = scaling.at(value)
        x_t = (level.alpha * x_0 + level.sigma * eps).requires_grad_()
        log_q = torch.distributions.Normal(level.alpha * x_0, level.sigma).log_prob(x_t).sum()
        (score,) = torch.autograd.grad(log_q, x_t)
        # x_t - alpha x_0 cancels down to sigma eps.
        slack = 1e-15 * float(((level.alpha * x_0).abs() / level.sigma**2).max()) + 1e-13 * float(score.abs().max())
        torch.testing.assert_close(Score().encode(x_0, eps, level), score, rtol=0, atol=slack)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 3.0])
def test_edm_is_karras_et_al_table_1(sigma_data):
    noise = torch.logspace(-3, 2, 11, dtype=torch.float64)
    for sigma in noise:
        level = VE().at(-2 * sigma.log())
        c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
        c_out = sigma * sigma_data / torch.sqrt(sigma_data**2 + sigma**2)
        x, F = X + sigma * E, torch.tensor([[0.3], [-1.0], [2.0]], dtype=torch.float64)
        denoised = c_skip * x + c_out * F
        prediction = EDM(sigma_data).decode(F, x, level)
        torch.testing.assert_close(prediction.x_0, denoised, rtol=1e-13, atol=1e-13 * float((c_skip * x).abs().max()))
        # The network's own target, equation 8: (y - c_skip (y + n)) / c_out.
        expected = (X - c_skip * x) / c_out
        slack = 1e-14 * float((X / c_out).abs().max())
        torch.testing.assert_close(EDM(sigma_data).encode(X, E, level), expected, rtol=1e-12, atol=slack)


def test_edm_is_the_same_network_output_in_any_units():
    for value in LOGSNR[::4]:
        ve, vp, straight = (EDM(0.5).encode(X, E, scaling.at(value)) for scaling in (VE(), VP(), Straight()))
        torch.testing.assert_close(vp, ve, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(straight, ve, rtol=1e-13, atol=1e-13)


def test_edm_output_has_unit_variance_for_data_of_its_sigma(scaling):
    for sigma_data in (0.5, 2.0):
        a, b = EDM(sigma_data).row(scaling.at(LOGSNR))
        torch.testing.assert_close((a * sigma_data) ** 2 + b**2, torch.ones_like(a), rtol=1e-14, atol=0)


def test_v_is_minus_edm_at_unit_sigma_data_and_has_unit_norm(scaling):
    level = scaling.at(LOGSNR)
    a, b = V().row(level)
    torch.testing.assert_close(a**2 + b**2, torch.ones_like(a), rtol=1e-14, atol=0)
    for mine, edm in zip((a, b), EDM(1.0).row(level), strict=True):
        torch.testing.assert_close(mine, -edm, rtol=1e-15, atol=0)


def test_a_level_for_each_sample_of_an_image_batch_in_float32():
    x_0, eps = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).unbind()
    level = VP().at(torch.tensor([-3.0, 0.0, 5.0], dtype=torch.float64))
    shaped = level.like(x_0)
    x_t = shaped.alpha * x_0 + shaped.sigma * eps
    for target in (X0(), Noise(), V(), EDM(0.5)):
        prediction = target.decode(target.encode(x_0, eps, level), x_t, level)
        assert prediction.x_0.dtype == prediction.eps.dtype == torch.float32
        for i in range(3):
            own = Level(level.alpha[i], level.sigma[i], level.logsnr[i])
            alone = target.decode(target.encode(x_0[i], eps[i], own), x_t[i], own)
            assert torch.equal(prediction.x_0[i], alone.x_0)
            assert torch.equal(prediction.eps[i], alone.eps)
        # Worst of the four: x_0 from the noise at alpha = 0.22, eps from x_0 at sigma = 0.08; amplified 13 times.
        torch.testing.assert_close(prediction.x_0, x_0, rtol=0, atol=1e-5)
        torch.testing.assert_close(prediction.eps, eps, rtol=0, atol=1e-5)
