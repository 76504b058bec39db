"""Score matching by its definition: the losses that denoising replaced, which do not use the noise of a sample.

With s = -eps_hat / sigma the predicted score at x_t, of D numbers, and v a random direction with E[v v'] = I,

    explicit     sigma^2 E |s - grad log p_t|^2 / 2D                         needs to know p_t    (Hyvarinen 2005)
    implicit     sigma^2 E [tr(grad s) + |s|^2 / 2] / D                      D backward passes    (Hyvarinen 2005)
                 or with v' (grad s) v instead of the trace                  one per v            (Hutchinson 1990)
    sliced       sigma^2 E [v' (grad s) v + (v's)^2 / 2] / D                 one per v            (Song et al. 2019)
    denoising    sigma^2 E |s + eps / sigma|^2 / 2D                          none                 (Vincent 2011)

The factor 1/2 applies only to the norm. The last loss is half the ``DenoisingLoss`` of weight ``simple``. All have the
same gradient: implicit and sliced are explicit minus a constant, and ``denoising = implicit + 1/2`` (Stein's identity).

In terms of the predicted noise ``sigma^2 tr(grad s) = -sigma tr(grad eps_hat)``: there is no division by sigma, and
values at different noise levels are comparable. The derivative is by x_t: a noisy sample is treated as data. As sigma
goes to 0, these become the losses on clean data.
"""

from collections.abc import Callable
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Level, NoiseSource, Prediction
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.numerics.integers import whole

from .batch import Batch
from .objective import Objective
from .times import TimeSampler
from .weights import simple

DIRECTIONS = ("rademacher", "gaussian")
"""Distributions of a direction: each number +-1, with the least variance of a trace, or standard normal."""


class ExplicitScoreMatching(Objective):
    """``|eps_hat - eps_true|^2 / 2D``, the error of the score itself, for data of a known distribution.

    Arguments:
        times: the distribution of times.
        truth: the exact prediction ``truth(x_t, level)`` at a level of the denoiser's process, such as
            ``GaussianMixture.predict``.
    """

    def __init__(self, times: TimeSampler, truth: Callable[[Tensor, Level], Prediction]) -> None:
        super().__init__(times)
        self.truth = truth

    def weight(self, level: Level, rate: Tensor) -> Tensor:
        return 0.5 * simple(level, rate)

    def at(
        self,
        denoiser: Denoiser,
        batch: Batch,
        t: Float[Tensor, "*b"],
    ) -> Float[Tensor, "b"]:
        x_t = denoiser.process.perturb(batch.x_0, t, batch.noise(1, batch.x_0))
        error = denoiser(x_t, t, batch.cond).eps - self.truth(x_t, denoiser.process.level(t)).eps
        losses: Tensor = 0.5 * error.square().flatten(1).mean(1)
        return losses


class ImplicitScoreMatching(Objective):
    """``(-sigma tr(grad eps_hat) + |eps_hat|^2 / 2) / D``.

    With probes this is sliced score matching in its variance-reduced form. Training differentiates the network twice.

    Arguments:
        times: the distribution of times.
        probes: number of random directions, draws 2, 3, ... of the noise, over which ``v' (grad eps_hat) v`` is
            averaged. None computes the exact trace by D backward passes.
        directions: distribution of a direction, one of ``DIRECTIONS``.

    Raises:
        InputError: fewer than one probe, or directions that are unknown or without effect.

    References:
        Hyvarinen 2005, theorem 1; Song, Garg, Shi & Ermon 2019, section 3.
    """

    differentiates = True

    def __init__(self, times: TimeSampler, probes: SupportsIndex | None = None, directions: str = "rademacher") -> None:
        super().__init__(times)
        if probes is not None:
            probes = _number("probes", probes, directions)
        elif directions != "rademacher":
            raise InputError(
                f"directions: '{directions}' has no effect on an exact trace; give probes, or leave it out"
            )
        self.probes = probes
        self.directions = directions

    def weight(self, level: Level, rate: Tensor) -> Tensor:
        return 0.5 * simple(level, rate)

    def at(
        self,
        denoiser: Denoiser,
        batch: Batch,
        t: Float[Tensor, "*b"],
    ) -> Float[Tensor, "b"]:
        x_0 = batch.x_0
        if self.probes is None:
            axes = torch.eye(x_0[0].numel(), dtype=x_0.dtype, device=x_0.device)
            directions = axes[:, None].expand(-1, len(x_0), -1)
        else:
            directions = _draw(self.directions, self.probes, batch.noise, x_0)
        eps, curvature = _curvature(denoiser, batch, t, directions)
        # The sum over the axes is the trace; for random directions it is the mean.
        trace = curvature.sum(0) if self.probes is None else curvature.mean(0)
        return (0.5 * eps.square().sum(1) - trace) / eps.shape[1]


class SlicedScoreMatching(Objective):
    """``(-sigma v' (grad eps_hat) v + (v' eps_hat)^2 / 2) / D``, the mean over ``projections`` directions v.

    This form holds for any distribution of v with E[v v'] = I. The variance-reduced form, with |eps_hat|^2 instead of
    (v' eps_hat)^2, is ``ImplicitScoreMatching(times, probes)``.

    Arguments:
        times: the distribution of times.
        projections: number of random directions, draws 2, 3, ... of the noise.
        directions: distribution of a direction, one of ``DIRECTIONS``.

    Raises:
        InputError: fewer than one projection, or unknown directions.

    References:
        Song, Garg, Shi & Ermon 2019, section 3.
    """

    differentiates = True

    def __init__(self, times: TimeSampler, projections: SupportsIndex = 1, directions: str = "rademacher") -> None:
        super().__init__(times)
        self.projections = _number("projections", projections, directions)
        self.directions = directions

    def weight(self, level: Level, rate: Tensor) -> Tensor:
        return 0.5 * simple(level, rate)

    def at(
        self,
        denoiser: Denoiser,
        batch: Batch,
        t: Float[Tensor, "*b"],
    ) -> Float[Tensor, "b"]:
        directions = _draw(self.directions, self.projections, batch.noise, batch.x_0)
        eps, curvature = _curvature(denoiser, batch, t, directions)
        projected = (directions * eps).sum(2)
        return (0.5 * projected.square() - curvature).mean(0) / eps.shape[1]


def _number(name: str, count: SupportsIndex, directions: str) -> int:
    """The number of directions of this kind."""
    number = whole(name, count, 1)
    if directions not in DIRECTIONS:
        raise InputError(f"directions: '{directions}' is not known; choose one of {', '.join(DIRECTIONS)}")
    return number


def _draw(directions: str, count: int, noise: NoiseSource, x_0: Tensor) -> Float[Tensor, "p b d"]:
    """Random directions with E[v v'] = I, drawn from the noise of each sample."""
    normal = torch.stack([noise(2 + i, x_0).flatten(1) for i in range(count)])
    if directions == "gaussian":
        return normal
    return torch.ones_like(normal).copysign(normal)  # not sign(), which has a third value


def _curvature(
    denoiser: Denoiser,
    batch: Batch,
    t: Tensor,
    directions: Float[Tensor, "p b d"],
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "p b"]]:
    """``eps_hat``, and ``sigma v' (grad eps_hat) v`` per direction; with a graph where gradients are recorded.

    One backward pass serves all samples, because a prediction depends only on its own sample.
    """
    training = torch.is_grad_enabled()
    process, x_0 = denoiser.process, batch.x_0
    with torch.enable_grad():
        x_t = process.perturb(x_0, t, batch.noise(1, x_0)).detach().flatten(1).requires_grad_()
        eps = denoiser(x_t.reshape(x_0.shape), t, batch.cond).eps.flatten(1)
        products = [torch.autograd.grad(eps, x_t, v, retain_graph=True, create_graph=training)[0] for v in directions]
    sigma = process.level(t, like=x_0).sigma.detach().flatten()
    curvature = sigma * torch.stack([(product * v).sum(1) for product, v in zip(products, directions, strict=True)])
    return (eps if training else eps.detach()), curvature
