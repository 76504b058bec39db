"""The bound from few visits of its many levels, or of infinitely many.

    sum_n L_n  =  E_{n ~ p} [L_n / p_n]

Each sample draws its own levels, two in each of S strata of equal probability, and the differences within the pairs
give the variance that its value has. What a Gaussian denoiser would pay on the same noise (``control``) is known in the
mean, so two multiples of it are taken off each term and put back by their exact sum over all levels: ``slope`` times
its excess on this noise, and ``size`` times its mean for this sample. Near data every denoiser pays ``|eps|^2``, and
near pure noise ``|x_0 - mean|^2``; the control carries off most of what noise and levels add. A pilot of a few samples
finds slope and size, and p, which is proportional to the spread that is left.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.bounds import Decoder
from sfumato.bounds.terms import Form, prior_term
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.numerics import random

from .bound import Bound, Progress, check_data
from .control import Control
from .visits import Cells, Pilot, Span, Visit, batched, check_term


@torch.no_grad()
def estimate(
    denoiser: Denoiser,
    x_0: Float[Tensor, "b *s"],
    decoder: Decoder,
    times: Float[Tensor, "n"] | Span,
    *,
    evaluations: int = 50,
    variance: float = 0.0,
    form: Form | None = None,
    seed: int = 0,
    cond: Any = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> Bound:
    """The bound over ``times``, or over a ``Span``, from at most ``evaluations`` of a sample, the pilot's among them.

    Without bias for each sample, and with its variance; a sample depends on ``seed``, on its index and, through the
    pilot, on which samples it is among. Other arguments, and what is raised, as for ``walk``; InputError also where
    ``evaluations`` pay for no pair of visits.
    """
    check_data(x_0)
    cells = Cells.of(denoiser.process, times)
    visit = Visit(denoiser, cells, Control.of(x_0), variance, form, cond)
    pilot = Pilot.run(visit, x_0, decoder, evaluations, seed)
    strata = int((evaluations - 2 * decoder.needs_prediction - pilot.evaluations / len(x_0)) // 2)
    if strata < 1:
        raise InputError(f"evaluations: {evaluations} are too few for pilot, decoder and a pair; give 12 or more")
    density = pilot.density
    cumulative = density.cumsum(0)
    done, total = 0, (2 * strata + 2 * decoder.needs_prediction) * -(-len(x_0) // batch)
    parts = []
    for number, (x, noise) in enumerate(batched(x_0, seed, batch)):
        index = torch.arange(number * batch, number * batch + len(x))
        uniforms = random.uniform(random.keys(random.derive(seed, "levels"), index), 0, 2 * strata)
        terms, left, errors, logsnr = (torch.zeros(len(x), 2 * strata, dtype=torch.float64) for _ in range(4))
        expected = cells.weights * pilot.size * visit.control.mean_errors(x, cells.middles).cpu()
        rows = torch.arange(len(x))
        for k in range(2 * strata):
            u = (k // 2 + uniforms[:, k]) / strata
            n = torch.searchsorted(cumulative, u).clamp(max=len(density) - 1)
            place = ((u - cumulative[n]) / density[n] + 1).clamp(0, 1)
            seen = visit(x, noise(k, x), n, place)
            check_term(seen.term, seen.t)
            visits = 2 * strata * density[n]
            terms[:, k] = seen.term / visits
            left[:, k] = (seen.term - pilot.slope[n] * seen.control - expected[rows, n]) / visits
            errors[:, k], logsnr[:, k] = seen.distance, seen.logsnr
            done += 1
            if progress is not None:
                progress(done, total)
        last, last_control = visit.decode(decoder, x, noise, 2 * strata, 2)
        done += 2 * decoder.needs_prediction
        final = last - pilot.final_slope * last_control
        spread = (left[:, 0::2] - left[:, 1::2]).square().sum(1) + final.diff()[:, 0].square() / 4
        parts.append((expected.sum(1) + left.sum(1), final.mean(1), terms, logsnr, errors, spread))
    steps, decoded, terms, logsnr, errors, spread = (torch.cat(part) for part in zip(*parts, strict=True))
    noisiest = times.last if isinstance(times, Span) else float(times[-1])
    return Bound(
        prior=prior_term(denoiser.process, x_0, noisiest).cpu(),
        steps=steps,
        decoder=decoded,
        contributions=terms,
        logsnr=logsnr,
        errors=errors,
        variance=spread,
        dimensions=x_0[0].numel(),
        evaluations=2 * strata + 2 * decoder.needs_prediction + pilot.evaluations / len(x_0),
    )
