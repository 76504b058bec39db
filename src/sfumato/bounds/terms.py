"""The terms of the bound: the cost of each level in nats.

    -ELBO =  KL(q(x_T | x_0) || p(x_T))                                      prior
           + sum over pairs s < t of KL(q(x_s | x_t, x_0) || p(x_s | x_t))    steps
           - log p(x_0 | x_first)                                            decoder

The step p(x_s | x_t) is the posterior with x_0-hat instead of x_0. With the posterior's own variance its term is

    (SNR_s - SNR_t) / 2 |x_0 - x_0-hat|^2  =  (SNR_s / SNR_t - 1) / 2 |eps - eps-hat|^2

and in the limit of close levels ``-d logsnr / 2 |eps - eps-hat|^2`` (Kingma et al. 2021, eq. 13-15).
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Chain, Level, Prediction, Process, ValueGrid
from sfumato.core.levels import DATA, expand

Form = Literal["noise", "x_0", "score"]


def prior_term(process: Process, x_0: Float[Tensor, "b *s"], t: Tensor | float = 1.0) -> Float[Tensor, "b"]:
    """``KL(q(x_t | x_0) || process.prior(t))`` in nats per sample, float64: L_T for the noisiest level of a bound."""
    level = process.level(t)
    variance = process.prior(t).variance
    ratio = level.sigma**2 / variance
    squares = x_0.double().square().flatten(1).sum(1)
    signal = (level.alpha**2 / variance).to(squares)
    return 0.5 * (x_0[0].numel() * (ratio - 1 - ratio.log()).to(squares) + signal * squares)


def noise_errors(
    prediction: Prediction,
    x_0: Float[Tensor, "b *s"],
    noise: Float[Tensor, "b *s"],
    level: Level,
    form: Form | None = None,
) -> Float[Tensor, "b *s"]:
    """``(eps - eps-hat)^2`` of each number, computed from eps-hat, x_0-hat or the score.

    For a consistent prediction all forms are equal.

    Arguments:
        prediction: the prediction at ``alpha x_0 + sigma noise``.
        x_0: samples (B, *) in model units.
        noise: their noise.
        level: the level, of shape () or (B,).
        form: "noise"; "x_0" for ``SNR (x_0 - x_0-hat)^2``; "score" for ``sigma^2 (s - s-hat)^2`` with
            ``s = -eps / sigma``; None for x_0-hat where noise outweighs the signal and eps-hat elsewhere, as each is
            exact there.
    """
    if form == "score":
        sigma = expand(level.sigma, x_0.double())
        return (sigma * (prediction.eps.double() / sigma - noise.double() / sigma)).square()
    from_noise = (noise.double() - prediction.eps.double()).square()
    if form == "noise":
        return from_noise
    snr = expand(level.logsnr, x_0.double()).exp()
    from_x_0 = snr * (x_0.double() - prediction.x_0.double()).square()
    return from_x_0 if form == "x_0" else torch.where(snr < 1, from_x_0, from_noise)


def step_term(
    prediction: Prediction,
    x_0: Float[Tensor, "b *s"],
    noise: Float[Tensor, "b *s"],
    at_t: Level,
    at_s: Level,
    variance_share: float = 0.0,
    form: Form | None = None,
) -> Float[Tensor, "b"]:
    """``KL(q(x_s | x_t, x_0) || p(x_s | x_t))`` in nats per sample, float64.

    With r the posterior's variance over p's, each number costs

        (r - 1 - ln r + r (SNR_s / SNR_t - 1) (eps - eps-hat)^2) / 2

    Arguments:
        prediction: the prediction at ``x_t = alpha_t x_0 + sigma_t noise``.
        x_0: samples (B, *) in model units.
        noise: their noise.
        at_t: the noisier level.
        at_s: the finer level.
        variance_share: the position of p's log-variance between the posterior's (0, exact for data that is one point)
            and that for data of unit variance (1, beta_t for neighbours of a chain in VP). One that the prediction has
            learned takes precedence.
        form: as for ``noise_errors``.

    References:
        Kingma et al. 2021, eq. 13; Nichol & Dhariwal 2021, eq. 15.
    """
    x = x_0.double()
    if bool((at_t.logsnr == -torch.inf).any()):  # SNR_s / SNR_t is infinite; only the difference is finite
        snr = expand(at_s.logsnr.exp() * -torch.expm1(at_t.logsnr - at_s.logsnr), x)
        errors = snr * (x - prediction.x_0.double()).square()
    else:
        errors = expand(torch.expm1(at_s.logsnr - at_t.logsnr), x) * noise_errors(prediction, x_0, noise, at_t, form)
    learned = prediction.variance_share
    if learned is None and variance_share == 0:
        return 0.5 * errors.flatten(1).sum(1)
    p_t, p_s = at_t.alpha**2 + at_t.sigma**2, at_s.alpha**2 + at_s.sigma**2
    log_ratio = expand(torch.log(at_s.sigma**2 * p_t / (at_t.sigma**2 * p_s)), x)
    log_ratio = log_ratio * (variance_share if learned is None else learned.double())
    excess = torch.expm1(log_ratio)
    return 0.5 * (excess - log_ratio + log_ratio.exp() * errors).flatten(1).sum(1)


def finest_time(process: Process, grid: ValueGrid | None = None) -> float:
    """The time of a bound's finest level.

    That is a chain's first level, and 0 for a clock that begins at a finite log-SNR. A clock that begins at data itself
    is entered where the noise is too small to confuse the values of ``grid``: the middle between two values is six
    standard deviations away. Without a grid it is entered at sigma / alpha = 0.002.
    """
    if isinstance(process.schedule, Chain):
        return 1 / process.schedule.steps
    if bool(process.level(0.0).logsnr.isfinite()):
        return 0.0
    logsnr = DATA if grid is None else -2 * math.log(grid.step / 12)
    return float(process.schedule.time(torch.tensor(logsnr, dtype=torch.float64)).detach())
