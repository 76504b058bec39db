"""Every sampler by name, each with the grid that it was published with, and the default, ``auto``.

A name and a number of evaluations make a table: ``tableau(process, "dpm++2m", 20)``. ``auto`` chooses by the number of
evaluations; docs/samplers.md has the measurements behind the choice, and ``sfumato certify`` repeats them on any model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Chain, Process
from sfumato.errors import InputError
from sfumato.numerics.integers import whole

from . import grids
from .ancestral import ancestral
from .ddim import ddim
from .euler import euler, euler_maruyama, reverse_diffusion
from .heun import heun
from .langevin import annealed_langevin, corrected
from .multistep import adams, dpm_solver_pp, unipc
from .singlestep import dpm_solver_singlestep
from .tableau import Tableau


@dataclass(frozen=True)
class Method:
    """A sampler with its settings.

    Arguments:
        table: ``(process, times) -> Tableau``.
        times: ``(process, steps) -> times``, its grid.
        order: its order of convergence on the probability-flow ODE; None for a sampler that adds noise.
        source: the publication.
    """

    table: Callable[[Process, Tensor], Tableau]
    times: Callable[[Process, int], Tensor]
    order: int | None
    source: str


def in_time(process: Process, steps: SupportsIndex) -> Float[Tensor, "n"]:
    """Times evenly from the first finite log-SNR; on a chain its own levels, as evenly as possible."""
    if isinstance(process.schedule, Chain):
        return grids.chain(steps, process.schedule.steps)
    start = process.schedule.time(torch.tensor(grids.noisiest_logsnr(process), dtype=torch.float64))
    return grids.uniform(steps, min(float(start), 1.0))


METHODS: dict[str, Method] = {
    "ancestral": Method(ancestral, in_time, None, "Ho et al. 2020"),
    "ancestral-beta": Method(partial(ancestral, variance="beta"), in_time, None, "Ho et al. 2020"),
    "ddim": Method(ddim, in_time, 1, "Song, Meng & Ermon 2021"),
    "euler": Method(euler, in_time, 1, "Song et al. 2021"),
    "euler-maruyama": Method(euler_maruyama, in_time, None, "Song et al. 2021"),
    "reverse-diffusion": Method(reverse_diffusion, in_time, None, "Song et al. 2021"),
    "pc": Method(partial(corrected, predictor=reverse_diffusion), in_time, None, "Song et al. 2021"),
    "pc-ddim": Method(corrected, in_time, None, "Langevin moves around DDIM"),
    "langevin": Method(annealed_langevin, grids.uniform_logsnr, None, "Song & Ermon 2019, 2020"),
    "heun": Method(heun, grids.rho, 2, "Karras et al. 2022"),
    "edm-churn": Method(partial(heun, churn=40.0), grids.rho, None, "Karras et al. 2022"),
    "dpm2": Method(partial(dpm_solver_singlestep, along="eps"), grids.uniform_logsnr, 2, "Lu et al. 2022a"),
    "dpm3": Method(partial(dpm_solver_singlestep, order=3, along="eps"), grids.uniform_logsnr, 3, "Lu et al. 2022a"),
    "dpm++2s": Method(dpm_solver_singlestep, grids.uniform_logsnr, 2, "Lu et al. 2022b"),
    "dpm++3s": Method(partial(dpm_solver_singlestep, order=3), grids.uniform_logsnr, 3, "Lu et al. 2022b"),
    "dpm++2m": Method(dpm_solver_pp, in_time, 2, "Lu et al. 2022b"),
    "dpm++3m": Method(partial(dpm_solver_pp, order=3), in_time, 3, "Lu et al. 2022b"),
    "dpm++2m-sde": Method(partial(dpm_solver_pp, eta=1.0), grids.rho, None, "Lu et al. 2022b"),
    "dpm++3m-sde": Method(partial(dpm_solver_pp, order=3, eta=1.0), grids.rho, None, "Lu et al. 2022b"),
    "deis2": Method(partial(adams, along="eps", corrector=False), in_time, 2, "Zhang & Chen 2023"),
    "deis3": Method(partial(adams, order=3, along="eps", corrector=False), in_time, 3, "Zhang & Chen 2023"),
    "deis4": Method(partial(adams, order=4, along="eps", corrector=False), in_time, 4, "Zhang & Chen 2023"),
    "lms2": Method(partial(adams, along="sigma", corrector=False), grids.rho, 2, "Zhang & Chen 2023, rho-AB"),
    "lms4": Method(partial(adams, order=4, along="sigma", corrector=False), grids.rho, 4, "Zhang & Chen 2023, rho-AB"),
    "straight2": Method(partial(adams, along="straight", corrector=False), grids.rho, 2, "Adams-Bashforth, velocity"),
    "unipc2": Method(partial(unipc, order=2), in_time, 3, "Zhao et al. 2023"),
    "unipc3": Method(unipc, in_time, 4, "Zhao et al. 2023"),
    "adams2": Method(partial(adams, corrector=False), grids.angle, 2, "Adams-Bashforth on v in the angle"),
    "adams3": Method(partial(adams, order=3), grids.angle, 4, "Adams-Bashforth-Moulton on v in the angle"),
    "adams4": Method(partial(adams, order=4), grids.angle, 5, "Adams-Bashforth-Moulton on v in the angle"),
}


ADAPTIVE = "adaptive"

NAMES = ("auto", ADAPTIVE, *METHODS)
"""The names of all samplers: the choice by budget, the ODE to a tolerance (``adaptive``), and the tables."""


def auto(process: Process, evaluations: SupportsIndex) -> Tableau:
    """The fixed rule for ``evaluations`` evaluations: Adams on v in the angle, where no measurement is at hand.

    docs/samplers.md has the targets that it was chosen on and checked on; ``choice.choose`` measures on a model
    instead. The grid is ``grids.angle`` with the exponent 2.5, or 1.7 up to 6 evaluations. Its last level falls with
    the number n of evaluations, ``sigma / alpha = 0.5 n^(-3/2)``, but is never finer than the finest of the process.
    Up to 6 evaluations it has order 2 without a corrector, then order 3, and from 41 order 4, both with one. Up to 12,
    past velocities follow the corrections (``rebase``): steps are long there, and beside a narrow mode a velocity that
    does not follow leaves the correction in the sample.

    Raises InputError for less than one evaluation, and for more than one on a chain that has a single level.
    """
    evaluations = whole("evaluations", evaluations, 1)
    lowest, highest = grids.noisiest_logsnr(process), grids.finest_logsnr(process)
    if evaluations > 1 and highest <= lowest:
        raise InputError(f"steps: {evaluations} evaluations of a process with a single level; give 1")
    data = min(-2 * math.log(0.5 * evaluations**-1.5), highest)
    if data <= lowest:  # a process with little noise, or with all of its levels finer than this
        data = min(lowest + 1.0, highest) if evaluations > 1 else lowest + 1.0
    few = evaluations <= 6
    times = grids.angle(process, evaluations, 1.7 if few else 2.5, noise=lowest, data=data)
    if few:
        return adams(process, times, order=2, corrector=False)
    return adams(process, times, order=3 if evaluations <= 40 else 4, rebase=evaluations <= 12)


def tableau(process: Process, name: str, evaluations: SupportsIndex) -> Tableau:
    """The table of a method on its own grid, with as many steps as ``evaluations`` allow.

    Raises InputError for an unknown name, and where not even one step is possible.
    """
    evaluations = whole("evaluations", evaluations, 1)
    if name == "auto":
        return auto(process, evaluations)
    if name == ADAPTIVE:
        raise InputError(f"sampler: {name} chooses its own steps and is not a table; choose another")
    if name not in METHODS:
        raise InputError(f"sampler: '{name}' is not known; choose one of {', '.join(NAMES)}")
    method = METHODS[name]
    most = evaluations  # steps that there are levels for: a grid in time only has those of a chain
    if method.times is in_time and isinstance(process.schedule, Chain):
        most = process.schedule.steps
    steps = min(evaluations, most)
    table = method.table(process, method.times(process, steps))
    if table.evaluations == steps:  # one per step: a chain may have too few levels
        return method.table(process, method.times(process, evaluations))
    if table.evaluations > evaluations:  # several per step: as many steps as possible
        steps = max(1, steps * evaluations // table.evaluations)
        table = method.table(process, method.times(process, steps))
        while steps < most:
            more = method.table(process, method.times(process, steps + 1))
            if more.evaluations > evaluations:
                break
            steps, table = steps + 1, more
    if table.evaluations > evaluations:
        raise InputError(f"steps: {name} takes more than {evaluations} evaluations; give more")
    return table
