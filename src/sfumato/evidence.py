"""Whether a model explains a measurement: its evidence against that of measurements simulated from the model."""

from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError
from sfumato.numerics import random
from sfumato.numerics.integers import whole
from sfumato.reconstruction import Prior, has_closed_form, reconstruct
from sfumato.reporting import Progress
from sfumato.restoration import operator_for

_PARTICLES, _STEPS = 64, 6


@runtime_checkable  # so that the test run can check annotations
class SampledPrior(Prior, Protocol):
    """A model that also draws samples."""

    def sample(self, count: int, *, seed: int) -> Tensor:
        """Samples in data units."""


@dataclass(frozen=True, eq=False)
class Explained:
    """The evidence of measurements among that of simulated ones.

    Arguments:
        log_evidence: of each measurement, in nats; roughly, by few particles, where the model is no mixture (M,).
        simulated: of each simulated one (S,).
        p_value: the probability of evidence as small as a measurement's if the model is right (M,).
    """

    log_evidence: Tensor
    simulated: Tensor
    p_value: Tensor


def explained(
    model: SampledPrior,
    y: Float[Tensor, "m *r"],
    operator: Any,
    noise: float | Float[Tensor, "..."],
    *,
    simulations: SupportsIndex = 99,
    seed: SupportsIndex = 0,
    batch: SupportsIndex = 256,
    progress: Progress | None = None,
) -> Explained:
    """Compare log p(y) with that of S measurements ``A(x) + noise z`` of samples x of the model.

    With k of them at most as likely as y, ``p = (1 + k) / (1 + S)``. The same estimate with random numbers of its own
    scores each, so p is right however coarse the estimate: if y is a measurement of the model, all S + 1 are
    exchangeable. Where there are fewer readings than unknowns, something fits any readings within the noise; p is
    small where nothing plausible does.

    Arguments:
        model: the prior.
        y: measurements.
        operator: a linear operator, as ``model.reconstruct`` takes it.
        noise: the standard deviation of the readings' noise: one number, or one per reading.
        simulations: S; the least p is 1 / (1 + S).
        seed: random seed.
        batch: samples evaluated at once.
        progress: called with the number of measurements that are done, of M + S.

    Raises:
        InputError: as ``model.reconstruct`` does; noise that differs between measurements; an operator that is not
            linear.
    """
    A = operator_for(operator, model.spec.shape)
    if not A.linear:
        raise InputError("simulations: the evidence is known for linear operators alone; leave them out")
    level = torch.as_tensor(noise, dtype=torch.float64)
    if level.ndim and tuple(level.shape) != A.output_shape:
        raise InputError(f"noise: shape {tuple(level.shape)} does not fit; give one number, or one per reading")
    count, key = whole("simulations", simulations, 1), whole("seed", seed)
    x = model.sample(count, seed=random.derive(key, "simulated")).double()
    g = torch.Generator().manual_seed(random.derive(key, "noise of simulations"))
    clean = A(x.cpu())
    simulated = clean + level * torch.randn(clean.shape, generator=g, dtype=torch.float64)
    rows = torch.cat([y.double().reshape(-1, *A.output_shape), simulated])
    method = "exact" if has_closed_form(model) else "annealed"
    found = reconstruct(
        model, rows, A, noise=noise, draws=2, method=method, steps=_STEPS, particles=_PARTICLES, seed=key,
        batch=batch, progress=progress,
    ).log_evidence  # fmt: skip
    own, others = found[:-count], found[-count:]
    below = (others[None] <= own[:, None]).sum(1)
    return Explained(own, others, (1 + below) / (1 + count))
