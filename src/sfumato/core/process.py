"""A Gaussian diffusion process: a scaling (units) and a schedule (clock), and what follows from the two.

    q(x_t | x_0)      = N(alpha_t x_0, sigma_t^2)
    q(x_t | x_s)      = N((alpha_t / alpha_s) x_s, sigma_t^2 c)                                          s < t
    q(x_s | x_t, x_0) = N((alpha_t sigma_s^2) / (alpha_s sigma_t^2) x_t + alpha_s c x_0, sigma_s^2 c)
    c = 1 - exp(logsnr_t - logsnr_s)

``c`` is the fraction of the variance at t that was added since s. Neither end is a special case: from data (logsnr_s =
+inf) c is 1, and at pure noise (alpha_t = 0) the posterior does not depend on x_t.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from sfumato.errors import InputError

from .gaussians import Gaussian
from .levels import Level, expand
from .scalings import Scaling
from .schedules import Schedule

_SCALES = 0.05, 2.5  # of data in model units; beyond, `auto` with 20 evaluations is off by a tenth of the data's size
_GAP_WORTH_A_WARNING = 0.01  # bits/dim; DDPM's own chain has 1e-5, VDM's about 1e-3, NCSN's about 5e-3


def added_noise_fraction(at_t: Level, at_s: Level) -> Tensor:
    """``c = 1 - exp(logsnr_t - logsnr_s)``, the fraction of the variance at t that was added since s, in (0, 1]."""
    return -torch.expm1(at_t.logsnr - at_s.logsnr)


@dataclass(frozen=True)
class PriorCheck:
    """The gap between the end of a process and the prior that sampling starts from.

    Arguments:
        signal: ``alpha / sqrt(alpha^2 + sigma^2)`` at t = 1, the signal that is left in units of x_t's scale.
        bits_per_dim: L_T, the prior term of the bound.
        warning: one line about a gap or a scale of the data that matters, with its fix; or None.
    """

    signal: float
    bits_per_dim: float
    warning: str | None


@dataclass(frozen=True)
class Process:
    """A diffusion process: a scaling and a schedule.

    Arguments:
        scaling: the units of x_t.
        schedule: the log-SNR as a function of time.

    Raises:
        InputError: the log-SNR does not fall strictly on [0, 1], or the scaling has no finite level at its end (VE with
            a log-SNR of -inf).
    """

    scaling: Scaling
    schedule: Schedule

    def __post_init__(self) -> None:
        t = torch.linspace(0, 1, 1025, dtype=torch.float64)
        logsnr = self.schedule.logsnr(t).detach()
        rising = ~(logsnr[1:] < logsnr[:-1])
        if rising.any():
            k = int(rising.int().argmax())
            raise InputError(
                f"{type(self.schedule).__name__}: the log-SNR does not fall between t = {t[k]:.4f} ({logsnr[k]:.6g}) "
                f"and t = {t[k + 1]:.4f} ({logsnr[k + 1]:.6g}); a schedule must be strictly decreasing"
            )
        if not self.level(1.0).sigma.detach().isfinite():
            raise InputError(
                f"{type(self.scaling).__name__}: sigma is infinite at t = 1; give {type(self.schedule).__name__} a "
                "finite logsnr_min"
            )

    def level(self, t: Tensor | float, like: Tensor | None = None) -> Level:
        """The noise level at ``t`` in [0, 1], of shape () or (B,), float64; shaped to broadcast against ``like``."""
        level = self.scaling.at(self.schedule.logsnr(torch.as_tensor(t, dtype=torch.float64)))
        return level if like is None else level.like(like)

    def grid(self, times: Float[Tensor, "n"]) -> Level:
        """The levels that a sampler visits. A time of exactly 0 is data itself (sigma = 0) for every clock.

        Clocks such as the geometric one stop at a finite log-SNR. The last step of a sampler, or the first of an
        encoder, covers the rest, which costs no evaluation (NCSNv2's final denoising, Song & Ermon 2020).
        """
        logsnr = self.schedule.logsnr(times.double())
        return self.scaling.at(torch.where(times == 0, torch.full_like(logsnr, math.inf), logsnr))

    def perturb(self, x_0: Float[Tensor, "b *s"], t: Tensor | float, noise: Float[Tensor, "b *s"]) -> Tensor:
        """``x_t = alpha x_0 + sigma noise``: a draw from q(x_t | x_0)."""
        level = self.level(t, like=x_0)
        return level.alpha * x_0 + level.sigma * noise

    def transition(self, x_s: Float[Tensor, "b *s"], s: Tensor | float, t: Tensor | float) -> Gaussian:
        """q(x_t | x_s) for s < t; N(sqrt(1 - beta_t) x_s, beta_t) for neighbours (Ho et al. 2020, eq. 2)."""
        at_s, at_t = self.level(s), self.level(t)
        return Gaussian(
            mean=expand(at_t.alpha / at_s.alpha, x_s) * x_s,
            variance=expand(at_t.sigma**2 * added_noise_fraction(at_t, at_s), x_s),
        )

    def posterior(
        self, x_t: Float[Tensor, "b *s"], x_0: Float[Tensor, "b *s"], t: Tensor | float, s: Tensor | float
    ) -> Gaussian:
        """q(x_s | x_t, x_0) for any s < t (Ho et al. 2020, eq. 6-7, for neighbours of a chain)."""
        from_x_t, from_x_0, variance = posterior_coefficients(self.level(t), self.level(s))
        return Gaussian(
            mean=expand(from_x_t, x_t) * x_t + expand(from_x_0, x_t) * x_0,
            variance=expand(variance, x_t),
        )

    def rate(self, t: Tensor | float) -> Tensor:
        """``-d logsnr / dt`` at t in (0, 1), of t's shape, by differentiation."""
        t = torch.as_tensor(t, dtype=torch.float64)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(t, torch.ones_like(t))  # type: ignore[no-untyped-call]
            rate: Tensor = forward_ad.unpack_dual(self.schedule.logsnr(dual)).tangent  # type: ignore[no-untyped-call]
        return -rate

    def sde(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """``(f, g^2)`` of ``dx = f x dt + g dw`` at t in (0, 1), of t's shape (Song et al. 2021, eq. 5).

        ``f = d log alpha / dt`` and ``g^2 = -sigma^2 d logsnr / dt``, both by differentiation. Where the log-SNR is
        infinite, at an end that is exactly data or exactly noise, they do not exist.
        """
        t = torch.as_tensor(t, dtype=torch.float64)

        with forward_ad.dual_level():
            dual = forward_ad.make_dual(t, torch.ones_like(t))  # type: ignore[no-untyped-call]
            logsnr = self.schedule.logsnr(dual)
            log_alpha = forward_ad.unpack_dual(self.scaling.log_alpha(logsnr)).tangent  # type: ignore[no-untyped-call]
            logsnr_rate = forward_ad.unpack_dual(logsnr).tangent  # type: ignore[no-untyped-call]
        f = torch.zeros_like(t) if log_alpha is None else log_alpha  # None: alpha does not depend on t
        return f, -(self.level(t).sigma ** 2) * logsnr_rate

    def prior(self, t: Tensor | float = 1.0) -> Gaussian:
        """The distribution that sampling starts from: N(0, alpha^2 + sigma^2).

        Its variance is that of x_t for data of unit second moment. In VP it is N(0, 1) at every t, in VE its deviation
        is sqrt(1 + sigma_max^2), and at the end of a straight path it is N(0, 1).
        """
        level = self.level(t)
        return Gaussian(torch.zeros_like(level.alpha), level.alpha**2 + level.sigma**2)

    def check_prior(self, second_moment: float = 1.0) -> PriorCheck:
        """The cost of the signal that is left at t = 1: L_T = KL(q(x_T | x_0) || prior), averaged over data.

        The warning is about this cost, and about the scale: the levels of processes and the grids of samplers suit data
        of about unit variance. It is None for less than 0.01 bits/dim and ``sqrt(E[x_0^2])`` within 0.05 to 2.5.

        With ``E[x_0^2] = second_moment`` per dimension and the prior variance p, in bits/dim,
        ``L_T = (sigma^2 / p + alpha^2 E[x_0^2] / p - 1 - ln(sigma^2 / p)) / (2 ln 2)`` (Ho et al. 2020, section 4).
        """
        with torch.no_grad():
            level, prior = self.level(1.0), self.prior().variance
        ratio = level.sigma**2 / prior
        nats = 0.5 * (ratio + level.alpha**2 * second_moment / prior - 1 - ratio.log())
        bits = float(nats) / math.log(2)
        signal = float(level.alpha / prior.sqrt())
        warnings = []
        if bits > _GAP_WORTH_A_WARNING:
            warnings.append(
                f"the process leaves {signal:.2g} of the signal at t = 1, which costs {bits:.2g} bits/dim "
                f"(L_T) and biases samples towards the data's mean; {self.schedule.remedy}"
            )
        size = math.sqrt(second_moment)
        if second_moment > 0 and not _SCALES[0] <= size <= _SCALES[1]:
            warnings.append(
                f"the data has a root mean square of {size:.3g} per number where levels and samplers suit about 1, so "
                "samples can be wrong; scale the data to about unit variance (with a Transform, such as data.Affine)"
            )
        return PriorCheck(signal, bits, "; ".join(warnings) or None)


def posterior_coefficients(at_t: Level, at_s: Level) -> tuple[Tensor, Tensor, Tensor]:
    """(weight of x_t, weight of x_0, variance) of q(x_s | x_t, x_0), from the levels: the module's third formula."""
    fraction = added_noise_fraction(at_t, at_s)
    from_x_t = at_t.alpha * at_s.sigma**2 / (at_s.alpha * at_t.sigma**2)
    return from_x_t, at_s.alpha * fraction, at_s.sigma**2 * fraction
