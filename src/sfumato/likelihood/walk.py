"""The whole walk: every level of a bound visited.

DDPM's levels are 1 .. T of its chain and VDM's are 0 .. T of any grid (Ho et al. 2020, eq. 5; Kingma et al. 2021,
eq. 11).
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.bounds import Decoder
from sfumato.bounds.terms import Form, prior_term
from sfumato.denoisers import Denoiser

from .bound import Bound, Progress, check_data
from .control import Control
from .visits import Cells, Pilot, Visit, batched, check_term

WALK_DRAWS = 64  # a short walk draws the noise of its levels several times, for about so many evaluations in all
DECODER_SHARE = 20  # the decoder, often the noisiest of all levels, is drawn once for so many steps
PILOT_BUDGET = 64  # evaluations of a sample, of which the pilot may take a quarter
FEWEST = 8  # samples that a pilot can learn from


@torch.no_grad()
def walk(
    denoiser: Denoiser,
    x_0: Float[Tensor, "b *s"],
    decoder: Decoder,
    times: Float[Tensor, "n"],
    *,
    draws: int | None = None,
    variance: float = 0.0,
    form: Form | None = None,
    seed: int = 0,
    cond: Any = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> Bound:
    """The bound over all of ``times``, rising: each level visited ``draws`` times, enough for 64 visits unless told.

    ``variance`` is ``step_term``'s ``share``: 0 for the posterior's variance, 1 for beta; a denoiser that has learned
    its own uses that. The noise of sample i depends on ``seed`` and i alone. From 8 samples on a control variate
    steadies ``steps`` and ``decoder`` (see ``estimate``); ``contributions`` are the terms as they were. With one draw
    a level, ``Bound.variance`` is read off neighbouring levels' second differences. Raises InputError for data or
    times that cannot be; FloatingPointError, with the time, where a term is not finite.
    """
    check_data(x_0)
    process = denoiser.process
    cells = Cells.of(process, times)
    steps = len(times) - 1
    if draws is None:
        draws = -(-WALK_DRAWS // steps)
    last_draws = max(2, steps * draws // DECODER_SHARE)
    visit = Visit(denoiser, cells, Control.of(x_0), variance, form, cond)
    pilot = Pilot.none(cells)
    if len(x_0) >= FEWEST:
        pilot = Pilot.run(visit, x_0, decoder, PILOT_BUDGET, seed)
    done, total = 0, (steps * draws + last_draws * decoder.needs_prediction) * -(-len(x_0) // batch)
    parts = []
    for x, noise in batched(x_0, seed, batch):
        terms, controls, errors = (torch.zeros(len(x), steps, draws, dtype=torch.float64) for _ in range(3))
        middle = torch.full((len(x),), 0.5, dtype=torch.float64)
        for n in range(steps):
            for k in range(draws):
                seen = visit(x, noise(n * draws + k, x), torch.full((len(x),), n), middle)
                check_term(seen.term, seen.t)
                terms[:, n, k], controls[:, n, k], errors[:, n, k] = seen.term, seen.control, seen.distance
                done += 1
                if progress is not None:
                    progress(done, total)
        last, last_control = visit.decode(decoder, x, noise, steps * draws, last_draws)
        done += last_draws * decoder.needs_prediction
        left = terms - pilot.slope[:, None] * controls
        decoded = last - pilot.final_slope * last_control
        # What is known to change from level to level is not noise.
        known = cells.weights * pilot.size * visit.control.mean_errors(x, cells.middles).cpu()
        spread = _noise_variance(left - known[:, :, None]) + decoded.var(1) / last_draws
        parts.append((left.mean(2).sum(1), decoded.mean(1), terms.mean(2), errors.mean(2), spread))
    step, decoded, terms, errors, spread = (torch.cat(part) for part in zip(*parts, strict=True))
    return Bound(
        prior=prior_term(process, x_0, float(times[-1])).cpu(),
        steps=step,
        decoder=decoded,
        contributions=terms,
        logsnr=cells.lower.expand(len(x_0), -1),
        errors=errors,
        variance=spread,
        dimensions=x_0[0].numel(),
        evaluations=steps * draws + last_draws * decoder.needs_prediction + pilot.evaluations / len(x_0),
    )


def _noise_variance(terms: Float[Tensor, "b n k"]) -> Float[Tensor, "b"]:
    """The variance of the sum over n of the means over k."""
    if terms.shape[2] > 1:
        return terms.var(2).sum(1) / terms.shape[2]
    if terms.shape[1] < 3:
        return torch.full((len(terms),), math.nan, dtype=terms.dtype)
    # The square of (a - 2 b + c) holds the variances 1 : 4 : 1 and no straight trend. A sixth of their sum has each
    # level once but for the two at either end; the first and the last square are whole, so that the end's is in it.
    second = (terms[:, :-2, 0] - 2 * terms[:, 1:-1, 0] + terms[:, 2:, 0]).square()
    return second.sum(1) / 6 + 5 / 6 * (second[:, 0] + second[:, -1])
