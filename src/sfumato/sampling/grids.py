"""The levels that a sampler visits: N + 1 decreasing times, from the start of sampling to its end.

A time of exactly 0 is data (see ``Process.grid``): the last step goes from the least noisy level that is evaluated to
data itself. N steps of a one-step or multistep method cost N evaluations of the denoiser.

Grids in t (``uniform``, ``quadratic``) and on the levels of a chain (``chain``) go from ``start``. Grids in the
log-SNR (``uniform_logsnr``, ``rho``, ``angle``, ``at_logsnr``) go from ``noise`` to ``data``, both log-SNRs, and then
to data itself. Without them, ``ends`` chooses finite ones for every process.
"""

import math
from typing import Literal, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Chain, Level, Process
from sfumato.core.levels import DATA
from sfumato.errors import InputError
from sfumato.numerics.integers import whole

NOISE = -14.0
"""The log-SNR that counts as noise where a process has no finite end: sigma / alpha = 1,100."""

Spacing = Literal["trailing", "leading", "linspace"]


def uniform(steps: SupportsIndex, start: float = 1.0) -> Float[Tensor, "n"]:
    """``steps + 1`` times evenly from ``start`` in (0, 1] down to 0.

    Raises InputError for less than one step, and for another start.
    """
    count = whole("steps", steps, 1)
    if not 0 < start <= 1:
        raise InputError(f"start: {start} is not a time to start from; give one in (0, 1]")
    return torch.linspace(1, 0, count + 1, dtype=torch.float64) * start


def quadratic(steps: SupportsIndex, start: float = 1.0) -> Float[Tensor, "n"]:
    """``start (k / steps)^2``, k = steps..0: finer towards data (Song, Meng & Ermon 2021, appendix D.2)."""
    return uniform(steps) ** 2 * uniform(1, start)[0]


def chain(steps: SupportsIndex, length: SupportsIndex, spacing: Spacing = "trailing") -> Float[Tensor, "n"]:
    """``steps + 1`` of the times k / length of a discrete chain, down to 0.

    With ``steps = length`` every spacing visits every level. Lin et al. 2024 measure the cost of leaving out the last
    level.

    Arguments:
        steps: number of steps, 1 to ``length``.
        length: number of levels of the chain.
        spacing: "trailing" for even steps from the last level, k = length, to data; "leading" for
            k = 1 + i floor(length / steps), which ends at level 1 and starts below the last level (DDIM's own);
            "linspace" for even steps from k = length to k = 1.

    Raises:
        InputError: more steps than levels, or another spacing.

    References:
        Lin et al. 2024, table 2.
    """
    steps, length = whole("steps", steps), whole("length", length, 1)
    if not 1 <= steps <= length:
        raise InputError(f"steps: {steps} on a chain of {length} levels; give 1 to {length}")
    i = torch.arange(steps, -1, -1)
    if spacing == "trailing":
        # In integers: a level half-way between two is rounded up, and no level can appear twice.
        k = (2 * length * i + steps) // (2 * steps)
    elif spacing == "leading":
        k = torch.where(i > 0, 1 + (i - 1) * (length // steps), 0)
    elif spacing == "linspace":
        inside = max(steps - 1, 1)
        above = (2 * (length - 1) * (i - 1) + inside) // (2 * inside) if steps > 1 else (length - 1) * i
        k = torch.where(i > 0, 1 + above, 0)
    else:
        raise InputError(f"spacing: '{spacing}' is not known; choose trailing, leading or linspace")
    return k.double() / length


def uniform_logsnr(
    process: Process, steps: SupportsIndex, noise: float | None = None, data: float | None = None
) -> Float[Tensor, "n"]:
    """``steps`` levels evenly in the log-SNR from ``noise`` to ``data``, then data itself (Lu et al. 2022a).

    Arguments:
        process: the process.
        steps: number of steps.
        noise: the first log-SNR; None for the choice of ``ends``.
        data: the last log-SNR before data; None for the choice of ``ends``.
    """
    noise, data = ends(process, noise, data)
    return at_logsnr(process, noise + _fractions(steps) * (data - noise))


def rho(
    process: Process, steps: SupportsIndex, rho: float = 7.0, noise: float | None = None, data: float | None = None
) -> Float[Tensor, "n"]:
    """``steps`` levels evenly in (sigma / alpha)^(1 / rho), then data itself (Karras et al. 2022, eq. 5).

    Arguments:
        process: the process.
        steps: number of steps.
        rho: the exponent, above 0.
        noise: the first log-SNR; None for the choice of ``ends``.
        data: the last log-SNR before data; None for the choice of ``ends``.
    """
    noise, data = ends(process, noise, data)
    first, last = math.exp(-noise / 2 / _check_power("rho", rho)), math.exp(-data / 2 / rho)
    return at_logsnr(process, -2 * rho * torch.log(first + _fractions(steps) * (last - first)))


def angle(
    process: Process, steps: SupportsIndex, power: float = 2.5, noise: float | None = None, data: float | None = None
) -> Float[Tensor, "n"]:
    """``steps`` levels evenly in atan(sigma / alpha)^(1 / power), then data itself.

    The angle is the coordinate of v; a power above 1 makes the steps finer towards data.

    Arguments:
        process: the process.
        steps: number of steps.
        power: the exponent, above 0.
        noise: the first log-SNR; None for the choice of ``ends``.
        data: the last log-SNR before data; None for the choice of ``ends``.
    """
    noise, data = ends(process, noise, data)
    _check_power("power", power)
    # At the noisy end the complement is the small one: tan(angle) = exp(-logsnr / 2).
    first, last = (math.atan2(1.0, math.exp(end / 2)) ** (1 / power) for end in (noise, data))
    return at_logsnr(process, -2 * torch.log(torch.tan((first + _fractions(steps) * (last - first)) ** power)))


def at_logsnr(process: Process, logsnr: Float[Tensor, "steps"]) -> Float[Tensor, "n"]:
    """The times of given log-SNRs, then 0.

    Raises InputError for log-SNRs that do not increase, or leave the range of the process.
    """
    logsnr = logsnr.double()
    if len(logsnr) == 0:
        raise InputError("logsnr: none are given; give at least one log-SNR to start from")
    lowest, highest = (float(process.schedule.logsnr(torch.tensor(t, dtype=torch.float64))) for t in (1.0, 0.0))
    falling = ~(logsnr[1:] > logsnr[:-1])
    if falling.any():
        i = int(falling.int().argmax())
        raise InputError(
            f"logsnr: {float(logsnr[i + 1]):.6g} comes after {float(logsnr[i]):.6g}; from noise to data it must rise"
        )
    slack = 1e-9  # an end that was computed can be off by rounding
    outside = ~((logsnr >= lowest - slack) & (logsnr <= highest + slack))
    if outside.any():
        i = int(outside.int().argmax())
        raise InputError(
            f"logsnr: {float(logsnr[i]):.6g} is outside the process's {lowest:.6g} (noise) to {highest:.6g} (data)"
        )
    times = process.schedule.time(logsnr).clamp(max=1.0)
    if times[-1] <= 0:  # the end of the clock is a level like others; only data itself is at 0
        times[-1] = min(float(times[-2]) / 2 if len(times) > 1 else 1.0, 1e-12)
    return torch.cat((times, times.new_zeros(1)))


def ends(process: Process, noise: float | None = None, data: float | None = None) -> tuple[float, float]:
    """The log-SNRs that count as noise and as data, finite for every process.

    Without ``noise`` and ``data``, they are those of the process where they are finite, else ``NOISE`` and ``DATA``.
    Data is then never finer than ``finest_logsnr``, the least noisy level that a model of this process was trained on.

    Raises InputError when noise is not below data.
    """
    if noise is None:
        noise = noisiest_logsnr(process)
    if data is None:
        finest = finest_logsnr(process)
        data = min(DATA, finest)
        if not data > noise:  # all levels of the process are finer than ``DATA``
            data = finest
    if not noise < data:
        raise InputError(f"noise {noise:.6g}, data {data:.6g}: give log-SNRs with noise below data")
    return noise, data


def noisiest_logsnr(process: Process) -> float:
    """The log-SNR at the end of the process where it is finite, else ``NOISE``."""
    lowest = float(process.level(1.0).logsnr)
    return lowest if math.isfinite(lowest) else NOISE


def finest_logsnr(process: Process) -> float:
    """The highest log-SNR of a level: that of a chain's first level, or of the end of a clock, which can be +inf."""
    schedule = process.schedule
    first = 1 / schedule.steps if isinstance(schedule, Chain) else 0.0
    return float(process.level(first).logsnr)


def check(times: Float[Tensor, "n"]) -> None:
    """Raise InputError unless ``times`` are at least two, strictly decreasing, in [0, 1]."""
    if times.ndim != 1 or len(times) < 2:
        raise InputError(f"times: shape {tuple(times.shape)} is not a grid; give at least a start and an end")
    outside = ~((times >= 0) & (times <= 1))
    if outside.any():
        i = int(outside.int().argmax())
        raise InputError(f"times: entry {i} is {float(times[i]):.6g}; give times in [0, 1]")
    rising = ~(times[1:] < times[:-1])
    if rising.any():
        i = int(rising.int().argmax())
        raise InputError(
            f"times: entry {i + 1} ({float(times[i + 1]):.6g}) is not below entry {i} ({float(times[i]):.6g}); "
            "sampling goes strictly from noise to data"
        )


def adjacent(process: Process, times: Float[Tensor, "n"]) -> tuple[Level, Level]:
    """The levels (t, s) at the start and the end of each step of a grid, each of shape (N,)."""
    check(times)
    level = process.grid(times)
    return (
        Level(level.alpha[:-1], level.sigma[:-1], level.logsnr[:-1]),
        Level(level.alpha[1:], level.sigma[1:], level.logsnr[1:]),
    )


def _check_power(name: str, power: float) -> float:
    if not 0 < power < math.inf:
        raise InputError(f"{name}: {power} is not an exponent of a grid; give a number above 0")
    return power


def _fractions(steps: SupportsIndex) -> Tensor:
    """``steps`` numbers from 0 to 1; a single one is 0."""
    count = whole("steps", steps, 1)
    return torch.arange(count, dtype=torch.float64) / max(count - 1, 1)
