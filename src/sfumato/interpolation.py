"""Frames between two samples, by way of a noisy level: ``model.interpolate(a, b, at=0.5, frames=9)``."""

from typing import Any, Protocol, SupportsIndex, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import SeededNoise
from sfumato.data import DataSpec
from sfumato.denoisers import Condition, Denoiser
from sfumato.errors import InputError
from sfumato.generate import device_of, drawing
from sfumato.numerics import random
from sfumato.numerics.integers import whole
from sfumato.sampling import ddim, ddim_inversion, dpm_solver_pp, run
from sfumato.sampling.grids import uniform_logsnr

MODES = ("latent", "spherical", "shared")
"""Ways between two samples (see ``interpolate``)."""

_ITERATIONS = 5  # per step of the inversion


@runtime_checkable  # so that the test run can check annotations
class Prior(Protocol):
    """What interpolation asks of a model."""

    @property
    def name(self) -> str:
        """Its name, for messages."""

    @property
    def spec(self) -> DataSpec:
        """The contract of the data."""

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser."""

    def sampling_denoiser(self) -> Denoiser:
        """The denoiser with x_0 kept within the bounds of the data."""

    def can(self, ability: Any) -> bool:
        """Whether the model has an ability, here "noise"."""


def interpolate(
    self: Prior,
    a: Any,
    b: Any,
    *,
    at: float = 0.5,
    frames: SupportsIndex = 9,
    mode: str = "latent",
    steps: SupportsIndex = 50,
    seed: SupportsIndex = 0,
    cond: Condition | None = None,
) -> Tensor:
    """Samples on a way from ``a`` to ``b`` in data units, (frames, *shape): both are mixed at time ``at``.

    The later ``at``, the less a frame between has to resemble a superposition of the two. Noise is never drawn twice:
    the mean of two independent noises has too small a variance for its level, and blurs the frames in the middle.

    Arguments:
        self: the model.
        a: the first sample in data units, (*shape); any array.
        b: the last.
        at: the time of the mixture in (0, 1].
        frames: number of frames with both ends, at least 2.
        mode: "latent" follows the probability flow from each end to ``at`` (``sampling.ddim_inversion``), mixes on the
            great circle between the two, and follows the flow back: no randomness, and both ends return. "shared" adds
            the same noise to both, mixes linearly, and goes back by the reverse process, with the same noise for all
            frames: both ends come back changed. "spherical" does so on the great circle, which keeps the contrast.
        steps: evaluations of the network per frame.
        seed: random seed of "spherical" and "shared".
        cond: the condition of all frames (one row), or None.

    Raises:
        InputError: samples that do not fit the model, another mode, a time outside (0, 1], fewer than 2 frames; noise
            from a model that was trained on pairs.

    References:
        Ho et al. 2020, section 4.3; Song et al. 2021 (DDIM), section 5.3.
    """
    count, number = whole("frames", frames, 2), whole("steps", steps, 2)
    if mode not in MODES:
        raise InputError(f"mode: '{mode}' is not known; choose one of {', '.join(MODES)}")
    if not 0 < at <= 1:
        raise InputError(f"at: {at} is no time; give a fraction in (0, 1]")
    if mode != "latent" and not self.can("noise"):
        raise InputError(f"{self.name}: was trained on pairs of noise and data; choose the mode latent")
    if cond is not None and len(cond) != 1:
        raise InputError(f"cond: has {len(cond)} rows; give one, for all frames")
    ends = torch.stack([_sample(name, value, self.spec) for name, value in (("a", a), ("b", b))])
    ends = self.spec.encode(ends).to(device_of(self.denoiser))
    denoiser, share = self.sampling_denoiser(), torch.linspace(0, 1, count).to(ends)
    way = _Way(denoiser, at, number, cond)
    with drawing(denoiser):
        if mode == "latent":
            first, last = way.back(ends)
            return self.spec.decode(way.forth(great_circle(first, last, share)).cpu())
        noise = SeededNoise(torch.tensor([random.derive(whole("seed", seed), "interpolate")]))
        first, last = way.noised(ends, noise)
        mixed = great_circle(first, last, share) if mode == "spherical" else _line(first, last, share)
        return self.spec.decode(way.denoised(mixed, noise).cpu())


def great_circle(a: Float[Tensor, "*s"], b: Float[Tensor, "*s"], share: Float[Tensor, "n"]) -> Float[Tensor, "n *s"]:
    """``(sin((1 - u) w) a + sin(u w) b) / sin w`` with w the angle between a and b, and u each of ``share``.

    The norm goes evenly from that of a to that of b where they are nearly orthogonal, as states of much noise are. A
    line, where a and b have the same or the opposite direction (Shoemake 1985).
    """
    flat = a.flatten().double(), b.flatten().double()
    norms = flat[0].norm() * flat[1].norm()
    angle = torch.acos((flat[0].dot(flat[1]) / norms.clamp_min(1e-300)).clamp(-1, 1))
    if float(angle.sin()) < 1e-4:
        return _line(a, b, share)
    u = share.double().reshape(-1, *(1,) * a.ndim)
    return (((1 - u) * angle).sin() * a.double() + (u * angle).sin() * b.double()).div(angle.sin()).to(a)


def _line(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    u = share.reshape(-1, *(1,) * a.ndim)
    return (1 - u) * a + u * b


def _sample(name: str, value: Any, spec: DataSpec) -> Tensor:
    x = torch.as_tensor(value)
    if tuple(x.shape) != spec.shape or not x.isfinite().all():
        raise InputError(f"{name}: shape {tuple(x.shape)}; give one finite sample of shape {spec.shape}")
    return x.double()


class _Way:
    """From samples to states at time ``at``, and back, in ``steps`` evaluations."""

    def __init__(self, denoiser: Denoiser, at: float, steps: int, cond: Condition | None) -> None:
        self.denoiser, self.cond, self.process = denoiser, cond, denoiser.process
        self.level = self.process.level(torch.tensor(at, dtype=torch.float64))
        # A process may begin with noise alone, from which no state leads back; its log-SNR is kept finite.
        times = uniform_logsnr(self.process, steps, noise=max(float(self.level.logsnr), -14.0))
        self.times, self.inner = times, times[:-1]  # without the step to data itself, which has no inverse

    def back(self, x: Tensor) -> Tensor:
        """The states at the level that the flow leads to x."""
        alpha = float(self.process.level(self.inner[-1]).alpha)
        return run(self.denoiser, ddim_inversion(self.process, self.inner, _ITERATIONS), x * alpha, cond=self._rows(x))

    def forth(self, state: Tensor) -> Tensor:
        """Where the flow leads to from states."""
        x = run(self.denoiser, ddim(self.process, self.inner), state, cond=self._rows(state))
        return x / float(self.process.level(self.inner[-1]).alpha)

    def noised(self, x: Tensor, noise: SeededNoise) -> Tensor:
        """States of samples with the same noise."""
        level = self.process.level(self.inner[0])
        return float(level.alpha) * x + float(level.sigma) * noise(0, x[:1])

    def denoised(self, state: Tensor, noise: SeededNoise) -> Tensor:
        """Samples from states by the reverse process, with the same noise for all."""
        repeated = SeededNoise(noise.keys.expand(len(state)))
        table = dpm_solver_pp(self.process, self.times, order=2, eta=1.0)
        return run(self.denoiser, table, state, noise=repeated, cond=self._rows(state))

    def _rows(self, x: Tensor) -> Condition | None:
        return None if self.cond is None else self.cond.rows(torch.zeros(len(x), dtype=torch.long))
