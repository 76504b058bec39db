"""The sub-VP SDE against the formulas of Song et al. 2021, in their own terms: B is the integral of beta.

Whatever holds for every scaling and every schedule holds for these as well, in the other files of this folder.
"""

import math

import pytest
import torch
from scipy import integrate

from sfumato.core import VP, LinearBeta, Process, Straight, SubVP, SubVPBeta
from sfumato.errors import InputError

BETA_MIN, BETA_MAX = 0.1, 20.0
PROCESS = Process(SubVP(), SubVPBeta(LinearBeta(BETA_MIN, BETA_MAX)))
TIMES = [1e-3, 0.02, 0.2, 0.5, 0.8, 0.999]


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def beta(t: float) -> float:
    return BETA_MIN + t * (BETA_MAX - BETA_MIN)


def integral(t: float) -> float:
    return integrate.quad(beta, 0, t, epsabs=0, epsrel=1e-13)[0]


def test_the_marginal_is_that_of_equation_29():
    level = PROCESS.level(tensor(*TIMES))
    for i, t in enumerate(TIMES):
        B = integral(t)
        assert float(level.alpha[i]) == pytest.approx(math.exp(-B / 2), rel=1e-12)
        assert float(level.sigma[i]) == pytest.approx(-math.expm1(-B), rel=1e-11)


def test_the_sde_is_that_of_appendix_b():
    f, g2 = PROCESS.sde(tensor(*TIMES))
    for i, t in enumerate(TIMES):
        assert float(f[i]) == pytest.approx(-beta(t) / 2, rel=1e-10)
        assert float(g2[i]) == pytest.approx(beta(t) * -math.expm1(-2 * integral(t)), rel=1e-10)


def test_the_variance_solves_its_own_equation():
    # d sigma^2 / dt = 2 f sigma^2 + g^2 from no variance at data: the marginal without a closed form.
    def rhs(t, y):
        return [-beta(t) * y[0] + beta(t) * -math.expm1(-2 * integral(t))]

    times = [0.1, 0.4, 1.0]
    solution = integrate.solve_ivp(rhs, (0, 1), [0.0], t_eval=times, rtol=1e-10, atol=1e-13)
    assert PROCESS.level(tensor(*times)).sigma.square().tolist() == pytest.approx(solution.y[0].tolist(), rel=1e-7)


def test_the_variance_is_below_vps_at_every_time():
    t = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    vp = Process(VP(), LinearBeta(BETA_MIN, BETA_MAX)).level(t)
    level = PROCESS.level(t)
    torch.testing.assert_close(level.alpha, vp.alpha, rtol=1e-12, atol=0)
    assert (level.sigma < vp.sigma).all()
    torch.testing.assert_close(level.sigma, vp.sigma**2, rtol=1e-11, atol=0)


def test_other_rates_and_other_scalings():
    t = tensor(0.3, 0.9)
    flat = Process(SubVP(), SubVPBeta(LinearBeta(3.0, 3.0))).level(t)
    torch.testing.assert_close(flat.alpha, torch.exp(-1.5 * t), rtol=1e-12, atol=0)
    # A clock is log-SNRs alone: in another scaling it has the same ones.
    schedule = SubVPBeta()
    ratio = Process(Straight(), schedule).level(t).ratio
    torch.testing.assert_close(ratio, Process(SubVP(), schedule).level(t).ratio, rtol=1e-12, atol=0)


def test_the_end_of_noise_and_its_remedy():
    level = SubVP().at(tensor(-math.inf))
    assert (float(level.alpha), float(level.sigma)) == (0, 1)
    assert float(SubVP().coordinate(level)) == 1
    assert float(SubVP().coordinate(SubVP().at(tensor(math.inf)))) == 0
    warning = Process(SubVP(), SubVPBeta(LinearBeta(0.1, 2.0))).check_prior().warning
    assert warning is not None
    assert warning.endswith("raise beta_max")
    with pytest.raises(InputError, match="beta_min"):
        SubVPBeta(LinearBeta(0.0, 1.0))
