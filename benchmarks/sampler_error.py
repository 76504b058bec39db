"""Errors of every sampler, of fitted tables, and of diffusers, by number of evaluations, on an exact oracle.

    python benchmarks/sampler_error.py [--oracle modes] [--samples 2048] [--save]

The oracle "modes" is the one that other libraries were measured on: 25 modes of standard deviation 0.05 in the plane,
on DDPM's linear chain, from its top level. Errors are distances to the end of the exact probability flow from the same
starts, RMS over coordinates and of the median sample. The bars are the best of 392 configurations of four libraries at
each budget; each column has a different winner. Fitted tables are fitted to other starts than they are measured on.
Where diffusers is installed, its schedulers run on the same oracle from the same starts through their own `step`, with
the denoiser evaluated at the levels that they report; they need a chain, so only "modes" has them.
"""

import argparse
import datetime
import json
import math
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from overhead import processor, version
from torch import Tensor

from sfumato.core import Tabulated
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.sampling import fitting
from sfumato.sampling.certification import BUDGETS, FINE, certify, reference
from sfumato.sampling.fitting import Errors
from sfumato.sampling.methods import METHODS
from sfumato.sampling.oracles import ORACLES

FIELD = {  # the best of the field on "modes": RMS, median
    5: (0.058, 0.026),
    8: (0.029, 0.0076),
    10: (0.018, 0.0054),
    15: (0.0083, 0.0016),
    20: (0.0066, 0.0010),
    50: (0.00055, 0.00023),
    100: (0.00015, 0.000015),
}
FITTED = (5, 8, 10, 15, 20)
RESULTS = Path(__file__).parent / "results" / "sampler_error.json"

Loop = Callable[[Denoiser, Tensor, int], Tensor]
Table = dict[str, dict[int, Errors]]


def peers(betas: Tensor) -> dict[str, Loop]:
    """A loop for each scheduler and setting; nothing without diffusers."""
    try:
        import diffusers
    except ImportError:
        return {}
    chain = {"num_train_timesteps": len(betas), "trained_betas": betas.tolist()}

    def time_of(denoiser: Denoiser, sigma: Tensor) -> Tensor:
        return denoiser.process.schedule.time(-2 * sigma.double().log()).clamp(max=1.0)

    def ddim(denoiser: Denoiser, x: Tensor, budget: int) -> Tensor:
        scheduler = diffusers.DDIMScheduler(
            **chain, clip_sample=False, prediction_type="sample", timestep_spacing="trailing"
        )
        scheduler.set_timesteps(budget)
        for k in scheduler.timesteps:
            estimate = denoiser(x, (k.double() + 1) / len(betas)).x_0
            x = scheduler.step(estimate, k, x, return_dict=False)[0]
        return x

    def multistep(name: str, settings: dict[str, object]) -> Loop:
        def loop(denoiser: Denoiser, x: Tensor, budget: int) -> Tensor:
            kind = getattr(diffusers, name)
            spacing = {} if "use_karras_sigmas" in settings else {"timestep_spacing": "trailing"}
            scheduler = kind(**chain, prediction_type="sample", **spacing, **settings)
            scheduler.set_timesteps(budget)
            for k, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
                x = scheduler.step(denoiser(x, time_of(denoiser, sigma)).x_0, k, x, return_dict=False)[0]
            return x

        return loop

    def heun(settings: dict[str, object]) -> Loop:
        def loop(denoiser: Denoiser, x: Tensor, budget: int) -> Tensor:
            scheduler = diffusers.HeunDiscreteScheduler(**chain, **settings)
            scheduler.set_timesteps((budget + 1) // 2)
            x = x * (scheduler.sigmas[0].double() ** 2 + 1).sqrt()
            for k, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
                state = x / (sigma.double() ** 2 + 1).sqrt()
                x = scheduler.step(denoiser(state, time_of(denoiser, sigma)).eps, k, x, return_dict=False)[0]
            return x

        return loop

    karras = {"use_karras_sigmas": True}
    made: dict[str, Loop] = {"diffusers DDIM": ddim}
    for label, extra in (("", {}), (" Karras", karras)):
        for order in (2, 3):
            made |= {
                f"diffusers DPM++{order}M{label}": multistep(
                    "DPMSolverMultistepScheduler", {"solver_order": order, **extra}
                ),
                f"diffusers UniPC{order}{label}": multistep(
                    "UniPCMultistepScheduler", {"solver_order": order, "final_sigmas_type": "zero", **extra}
                ),
                f"diffusers DEIS{order}{label}": multistep("DEISMultistepScheduler", {"solver_order": order, **extra}),
            }
        made[f"diffusers Heun{label}"] = heun(extra or {"timestep_spacing": "trailing"})
    return made


def measure_peers(denoiser: Denoiser, x: Tensor, x_0: Tensor) -> Table:
    schedule = denoiser.process.schedule
    table: Table = {}
    for name, loop in (peers(schedule.betas) if isinstance(schedule, Tabulated) else {}).items():
        for budget in BUDGETS:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    ends = loop(denoiser, x.clone(), budget)
                except (ValueError, IndexError, RuntimeError) as error:
                    print(f"{name} at {budget}: {error}")
                    continue
            if ends.isfinite().all():
                table.setdefault(name, {})[budget] = Errors.between(ends, x_0)
    return table


def measure(denoiser: Denoiser, samples: int) -> tuple[Table, Errors]:
    """Errors of all samplers, by name and budget, and the error of the fine solution itself."""
    shape = (denoiser.distribution.means.shape[1],)
    paths, own = reference(denoiser, shape, samples)
    others = fitting.trajectories(denoiser, shape, seed=1)
    fitted = {}
    for budget in FITTED:
        start = time.perf_counter()
        fitted[budget] = fitting.fit_tableau(denoiser, budget, others).tableau
        print(f"fitted at {budget} in {time.perf_counter() - start:.0f} s", flush=True)
    methods = ["auto", *(name for name, method in METHODS.items() if method.order is not None)]
    table: Table = {}
    for entry in certify(denoiser, paths, methods=methods, extra={"fitted": fitted}):
        if entry.errors is not None:
            table.setdefault(entry.method, {})[entry.budget] = entry.errors
    return table | measure_peers(denoiser, paths.x, paths.x_0), own


def cells(values: dict[int, float]) -> str:
    """One column per budget, to two digits; a dash where there is no value."""
    return "".join(f"{values[b]:10.2g}" if b in values else f"{'-':>10}" for b in BUDGETS)


def show(table: Table, field: dict[int, tuple[float, float]]) -> None:
    """Print two tables, RMS and median, with the best of ours and of the field and their ratios on top."""
    for i, key in enumerate(("rms", "median")):
        print(f"\n{key:26}" + "".join(f"{budget:>10}" for budget in BUDGETS))
        if field:
            print(f"{'best published':26}" + "".join(f"{field[budget][i]:10.2g}" for budget in BUDGETS))
        order = ["auto", "fitted", *(name for name in table if name not in ("auto", "fitted"))]
        for name in order:
            values = {budget: getattr(errors, key) for budget, errors in table[name].items()}
            print(f"{name:26}" + cells(values))
            if field and name in ("auto", "fitted"):
                ratios = {budget: value / field[budget][i] for budget, value in values.items()}
                print(f"{'  / best published':26}" + cells(ratios))
        for label, chosen in (
            ("best fixed of ours", [name for name in table if not name.startswith(("diffusers", "fitted"))]),
            ("best of diffusers", [name for name in table if name.startswith("diffusers")]),
        ):
            if chosen:
                best = [
                    min((getattr(table[name][b], key) for name in chosen if b in table[name]), default=math.nan)
                    for b in BUDGETS
                ]
                print(f"{label:26}" + "".join(f"{value:10.2g}" for value in best))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--oracle", default="modes", help=f"one of {', '.join(ORACLES)} (default modes)")
    parser.add_argument("--samples", type=int, default=2048, help="starts (default 2048)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/sampler_error.json")
    arguments = parser.parse_args()
    if arguments.oracle not in ORACLES:
        parser.error(f"--oracle {arguments.oracle}: choose one of {', '.join(ORACLES)}")
    torch.set_num_threads(1)

    try:
        table, own = measure(ORACLES[arguments.oracle](), arguments.samples)
    except InputError as error:
        parser.error(str(error))
    field = FIELD if arguments.oracle == "modes" else {}
    print(f"\noracle {arguments.oracle}, {arguments.samples:,} starts; the error of the fine solution, of {FINE:,}")
    print(f"evaluations, is {own.rms:.1g} RMS, {own.median:.1g} median")
    show(table, field)
    if version("diffusers") is None:
        print("diffusers is not installed: no peer to compare with (pip install 'sfumato[peers]')")

    if arguments.save:
        report = {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "cpu": processor(),
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in ("sfumato", "torch", "diffusers")},
            "oracle": arguments.oracle,
            "samples": arguments.samples,
            "fine": {"evaluations": FINE, **vars(own)},
            "best_published": {budget: {"rms": rms, "median": median} for budget, (rms, median) in field.items()},
            "results": {name: {budget: vars(errors) for budget, errors in row.items()} for name, row in table.items()},
        }
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {RESULTS.relative_to(Path(__file__).parent.parent)}")


if __name__ == "__main__":
    main()
