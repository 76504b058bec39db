"""Chains of ever more steps and the SDEs that they are discretisations of (Song et al. 2021, appendix B).

DDPM's betas, ``beta(k / T) / T``, become the VP SDE of the linear rate, NCSN's sigmas the VE SDE of the geometric
clock. Differences fall as 1 / T; ``tests/sampling/test_limits.py`` has what samplers make of them.
"""

import math

import pytest
import torch

from sfumato.core import VE, VP, LinearBeta, Process, Tabulated, geometric, geometric_betas, linear_betas

TIMES = torch.linspace(0.05, 1, 397, dtype=torch.float64)[:-1]


def ddpm(T: int) -> Process:
    def beta(t: float) -> float:
        return 0.1 + t * (20 - 0.1)

    return Process(VP(), Tabulated(linear_betas(T, beta(1 / T) / T, beta(1) / T)))


def ncsn(T: int) -> Process:
    return Process(VE(), Tabulated(geometric_betas(T, 0.01, 50.0)))


LIMITS = {
    "DDPM": (ddpm, Process(VP(), LinearBeta(0.1, 20.0))),
    "NCSN": (ncsn, Process(VE(), geometric(0.01, 50.0))),
}


def differences(chain: Process, limit: Process) -> dict[str, float]:
    """The largest over the times: of log-SNRs, and of f and g^2 relative to the limit's."""
    (f, g2), (f_limit, g2_limit) = chain.sde(TIMES), limit.sde(TIMES)
    return {
        "log-SNR": float((chain.level(TIMES).logsnr - limit.level(TIMES).logsnr).abs().max()),
        "f": float(((f - f_limit).abs() / f_limit.abs().clamp(min=1e-300)).max()),
        "g^2": float((g2 / g2_limit - 1).abs().max()),
    }


@pytest.mark.parametrize("name", LIMITS)
def test_the_chain_becomes_the_sde_as_one_over_its_steps(name):
    make, limit = LIMITS[name]
    coarse, middle, fine = (differences(make(T), limit) for T in (4000, 8000, 16000))
    for what in ("log-SNR", "g^2", *(["f"] if name == "DDPM" else [])):
        assert math.log2(coarse[what] / middle[what]) == pytest.approx(1, abs=0.06)
        assert math.log2(middle[what] / fine[what]) == pytest.approx(1, abs=0.04)
        assert fine[what] < 0.01
    if name == "NCSN":
        assert coarse["f"] == 0


def test_ddpms_thousand_betas_are_the_rates_thousandth_part():
    # Ho et al.'s 1e-4 .. 0.02 are beta(0) / T .. beta(1) / T; in the limit it does not matter which end of a step.
    ours, theirs = linear_betas(1000, 0.1 / 1000, 20 / 1000), linear_betas(1000)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    decay = [float(Tabulated(theirs).decay[-1]), float(LinearBeta(0.1, 20.0).decay(torch.ones(()).double()))]
    assert decay[0] == pytest.approx(decay[1], rel=0.01)
