"""The negative ELBO as a loss, in nats per dimension, estimated at one noise level per sample.

    a chain of T levels       prior + T (step_k or, at k = 1, decoder)           k uniform on 1 .. T
    in continuous time        prior + decoder + (-d logsnr / dt) |eps - eps-hat|^2 / 2

The mean over times is the bound itself (Ho et al. 2020, eq. 5; Kingma et al. 2021, eq. 12 and 17). Every term gives
gradients: to the network, the variance of a step, the ends of a log-SNR, and the betas of a chain. The inside of a
``LearnedLogSNR`` does not change the bound; it follows the gradient of this estimate's variance (section 5.1 there).
"""

from jaxtyping import Float
from torch import Tensor

from sfumato.bounds import Decoder
from sfumato.bounds.terms import Form, finest_time, noise_errors, prior_term, step_term
from sfumato.core import Chain, LearnedLogSNR, Level, Prediction, Process
from sfumato.core.levels import expand
from sfumato.denoisers import Denoiser, NetworkDenoiser
from sfumato.errors import InputError

from .batch import Batch
from .objective import Objective
from .times import TimeSampler
from .weights import elbo, simple


class BoundLoss(Objective):
    """The whole bound of any denoiser under its process.

    In continuous time, draw 2 of the noise is for the decoder.

    Arguments:
        times: the distribution of times.
        decoder: p(x_0 | x_t) at the finest noise level.
        form: whether the errors of steps are computed from the noise, x_0 or the score; all three are equal.

    Raises:
        InputError: the decoder needs a prediction in continuous time, which would cost a second evaluation.
    """

    def __init__(self, times: TimeSampler, decoder: Decoder, form: Form | None = None) -> None:
        super().__init__(times)
        self.decoder = decoder
        self.form = form

    def at(
        self,
        denoiser: Denoiser,
        batch: Batch,
        t: Float[Tensor, "*b"],
    ) -> Float[Tensor, "b"]:
        process, x_0 = denoiser.process, batch.x_0
        t = t.expand(len(x_0))
        if isinstance(process.schedule, Chain):
            z = batch.noise(1, x_0)
            prediction = denoiser(process.perturb(x_0, t, z), t, batch.cond)
            losses = chain_bound(prediction, process, self.decoder, x_0, t, z, self.form)
        else:
            losses = self._continuous(denoiser, batch, t)
        return losses.to(x_0)

    def _continuous(self, denoiser: Denoiser, batch: Batch, t: Tensor) -> Tensor:
        process, schedule, x_0, noise = denoiser.process, denoiser.process.schedule, batch.x_0, batch.noise
        D = x_0[0].numel()
        if self.decoder.needs_prediction:
            raise InputError(
                "objective: in continuous time the decoder must not need a prediction; give "
                "ContinuousGaussian(needs_prediction=False) or Factorised"
            )
        first = finest_time(process, self.decoder.grid)
        t = first + (1 - first) * t
        level, z = process.level(t), noise(1, x_0)
        prediction = denoiser(process.perturb(x_0, t, z), t, batch.cond)
        errors = noise_errors(prediction, x_0, z, level, self.form).flatten(1).sum(1)
        steps = 0.5 * (1 - first) * process.rate(t) * errors / D
        if isinstance(schedule, LearnedLogSNR):
            steps = steps + schedule.density.variance_surrogate(steps, schedule.log_density(level.logsnr))
        at_first = process.level(first)
        decoded = self.decoder.log_prob(x_0, _noisy(x_0, noise(2, x_0), at_first), at_first)
        losses: Tensor = steps + (prior_term(process, x_0) - decoded) / D
        return losses

    def weight(self, level: Level, rate: Tensor) -> Tensor:
        return elbo(level, rate)


def _noisy(x_0: Tensor, noise: Tensor, level: Level) -> Tensor:
    return expand(level.alpha, x_0) * x_0 + expand(level.sigma, x_0) * noise


def chain_bound(
    prediction: Prediction,
    process: Process,
    decoder: Decoder,
    x_0: Float[Tensor, "b *s"],
    t: Float[Tensor, "b"],
    noise: Float[Tensor, "b *s"],
    form: Form | None = None,
) -> Float[Tensor, "b"]:
    """``prior + T L_k`` of a chain in nats per dimension, float64, from the ``prediction`` at times ``t`` = k / T."""
    schedule = process.schedule
    assert isinstance(schedule, Chain)
    T, D = schedule.steps, x_0[0].numel()
    last = t < 1.5 / T
    at_t, at_s = process.level(t), process.level((t - 1 / T).clamp(min=1 / T))
    # In the last step, to data, both levels are clamped to the same one: that term is 0, and the decoder replaces it.
    terms = step_term(prediction, x_0, noise, at_t, at_s, form=form)
    if last.any():
        following = process.level(2 / T) if T > 1 else None
        first = process.level(1 / T)
        prediction_at_first = Prediction(
            prediction.x_0[last],
            prediction.eps[last],
            None if prediction.variance_share is None else prediction.variance_share[last],
        )
        decoded = decoder.log_prob(
            x_0[last], _noisy(x_0[last], noise[last], first), first, following, prediction_at_first
        )
        terms = terms.masked_scatter(last, -decoded)
    bound: Tensor = (prior_term(process, x_0) + T * terms) / D
    return bound


class HybridLoss(Objective):
    """``L_simple + bound_weight L_vlb``: the first term trains the mean, the second only the variance of a step.

    ``L_simple = |eps - eps-hat|^2 / D``; L_vlb is ``chain_bound`` with the predicted mean held fixed, in nats per
    dimension.

    Arguments:
        times: the distribution of times.
        decoder: p(x_0 | x_t) at the finest noise level.
        bound_weight: the weight of L_vlb.

    References:
        Nichol & Dhariwal 2021, eq. 16, weight 0.001.
    """

    def __init__(self, times: TimeSampler, decoder: Decoder, bound_weight: float = 0.001) -> None:
        super().__init__(times)
        self.decoder = decoder
        self.bound_weight = bound_weight

    def at(
        self,
        denoiser: NetworkDenoiser,
        batch: Batch,
        t: Float[Tensor, "*b"],
    ) -> Float[Tensor, "b"]:
        process, x_0 = denoiser.process, batch.x_0
        t = t.expand(len(x_0))
        z = batch.noise(1, x_0)
        prediction = denoiser(process.perturb(x_0, t, z), t, batch.cond)
        errors = (z - prediction.eps).square().flatten(1).mean(1)
        fixed_mean = Prediction(prediction.x_0.detach(), prediction.eps.detach(), prediction.variance_share)
        bound = chain_bound(fixed_mean, process, self.decoder, x_0, t, z)
        losses: Tensor = errors + self.bound_weight * bound.to(errors)
        return losses

    def weight(self, level: Level, rate: Tensor) -> Tensor:
        return simple(level, rate)  # L_vlb trains only the variance
