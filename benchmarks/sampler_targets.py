"""How near the default sampler ``auto`` is to the best: on random mixtures of Gaussians under four processes.

    python benchmarks/sampler_targets.py --seeds 1001,1002 [--starts 512] [--save]

A seed makes a target. The candidates and the criterion were made on ``DEVELOPMENT``; ``CHECK`` is disjoint. The
kinds in turn: "full", covariances with random axes and conditions of 10 to 1,000; "wide", narrow modes of standard
deviation 0.01 beside one of 2; "round", modes of widths 0.02 to 0.3. All have unequal weights, and 2 to 128 dimensions.

Errors are distances to a solution of 600 evaluations from the same starts, which the choice has not seen: RMS, median
and worst sample. Beside ``auto`` run all deterministic named methods, and diffusers' DPM-Solver++ 2M and UniPC through
their own ``step`` with their own default grids: on chains "linspace", on the straight path flow sigmas, under VE EDM's
DPM-Solver++ with Karras sigmas (UniPC has no VE form).
"""

import argparse
import json
import math
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.core import VE, VP, Cosine, Logistic, Process, Straight, Tabulated, cosine_betas, geometric, linear_betas
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.sampling import Tableau, adams, choice, grids, run
from sfumato.sampling.methods import METHODS, auto, tableau

BUDGETS = (5, 8, 10, 15, 20, 50)
FINE = 600
RESULTS = Path(__file__).parent / "results" / "sampler_targets.json"
DIMENSIONS = (2, 4, 8, 16, 32, 64, 128)
KINDS = ("full", "wide", "round")
PROCESSES = {
    "linear": lambda: Process(VP(), Tabulated(linear_betas(1000))),
    "cosine": lambda: Process(VP(), Cosine()),
    "ve": lambda: Process(VE(), geometric(0.002, 80.0)),
    "straight": lambda: Process(Straight(), Logistic(-math.inf, math.inf)),
}
DEVELOPMENT = range(28)
CHECK = range(1000, 1028)


def target(seed: int) -> tuple[str, ExactDenoiser]:
    """The name and the exact denoiser of the target of this seed."""
    g = torch.Generator().manual_seed(seed)
    width, process = DIMENSIONS[seed % len(DIMENSIONS)], list(PROCESSES)[seed // len(DIMENSIONS) % len(PROCESSES)]
    kind = KINDS[(seed + seed // len(DIMENSIONS)) % len(KINDS)]
    return f"{kind} {width}-D {process}", ExactDenoiser(PROCESSES[process](), mixture(kind, width, g))


def mixture(kind: str, width: int, g: torch.Generator) -> GaussianMixture:
    """A mixture of this kind in ``width`` dimensions."""
    count = int(torch.randint(3, 9, (), generator=g))
    means = _uniform(g, 0.4, 1.0) * torch.randn(count, width, generator=g, dtype=torch.float64)
    weights = torch.rand(count, generator=g, dtype=torch.float64) + 0.1
    if kind == "full":
        condition = 10 ** torch.empty(count, dtype=torch.float64).uniform_(1, 3, generator=g)
        widest = torch.empty(count, dtype=torch.float64).uniform_(0.3, 1.0, generator=g)
        fractions = torch.rand(count, width, generator=g, dtype=torch.float64)
        fractions[:, 0], fractions[:, -1] = 0.0, 1.0
        deviations = widest[:, None] * condition[:, None] ** (-fractions / 2)
        axes, _ = torch.linalg.qr(torch.randn(count, width, width, generator=g, dtype=torch.float64))
        covariances = axes @ deviations.square().diag_embed() @ axes.mT
        covariances = (covariances + covariances.mT) / 2
    else:
        deviations = torch.full((count,), 0.01, dtype=torch.float64)
        if kind == "wide":
            deviations[0], means[0] = 2.0, 0.0
        else:
            deviations = 0.02 * 15 ** torch.rand(count, generator=g, dtype=torch.float64)
        covariances = deviations.square()[:, None, None] * torch.eye(width, dtype=torch.float64)
    return GaussianMixture(weights / weights.sum(), means, covariances)


def _uniform(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=g))


# ------------------------------------------------------------------------------------------------------------ measuring


def fine(process: Process) -> Tableau:
    """The solution that errors are distances to."""
    data = min(2 * math.log(1e4), grids.finest_logsnr(process))
    return adams(process, grids.angle(process, FINE, noise=grids.noisiest_logsnr(process), data=data), order=3)


def ends(denoiser: Denoiser, table: Tableau, z: Tensor) -> Tensor:
    """Where the table leads from starts of unit variance."""
    with torch.no_grad():
        return run(denoiser, table, z * denoiser.process.prior(table.start).variance.sqrt())


def statistics(x: Tensor, x_0: Tensor) -> list[float]:
    """RMS, median and worst distance."""
    squares = (x - x_0).pow(2).mean(1)
    return [float(v.sqrt()) for v in (squares.mean(), squares.median(), squares.max())]


def measure(seed: int, count: int) -> dict[str, Any]:
    """All methods on the target of this seed."""
    name, denoiser = target(seed)
    width, process = denoiser.distribution.means.shape[1], denoiser.process
    z = torch.randn(count, width, generator=torch.Generator().manual_seed(7919), dtype=torch.float64)
    x_0 = ends(denoiser, fine(process), z)
    chosen = choice.choose(denoiser, (width,), BUDGETS)
    cells = {}
    for budget in BUDGETS:
        named = {}
        for method, known in METHODS.items():
            if known.order is not None:
                try:
                    named[method] = statistics(ends(denoiser, tableau(process, method, budget), z), x_0)
                except (InputError, FloatingPointError):
                    continue
        cells[budget] = {
            "chosen": chosen[budget],
            "auto": statistics(ends(denoiser, choice.table(process, chosen[budget], budget), z), x_0),
            "fixed rule": statistics(ends(denoiser, auto(process, budget), z), x_0),
            "named": named,
            "diffusers": {k: statistics(x, x_0) for k, x in peers(denoiser, name.split()[-1], z, budget).items()},
        }
        print(f"{name} {budget}: {cells[budget]['chosen']}", flush=True)
    return {"seed": seed, "target": name, "starts": count, "budgets": cells}


def peers(denoiser: Denoiser, process: str, z: Tensor, budget: int) -> dict[str, Tensor]:
    """The ends of diffusers' DPM-Solver++ 2M and UniPC; nothing without diffusers."""
    try:
        import diffusers
    except ImportError:
        return {}
    two_m, unipc = diffusers.DPMSolverMultistepScheduler, diffusers.UniPCMultistepScheduler
    if process == "ve":
        edm = diffusers.EDMDPMSolverMultistepScheduler(sigma_min=0.002, sigma_max=80.0)
        made: dict[str, Any] = {"DPM-Solver++ 2M (EDM)": edm}
    elif process == "straight":
        flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
        made = {"DPM-Solver++ 2M": two_m(**flow), "UniPC": unipc(**flow)}
    else:
        betas = (linear_betas if process == "linear" else cosine_betas)(1000).tolist()
        chain = {"trained_betas": betas, "prediction_type": "sample"}
        made = {"DPM-Solver++ 2M": two_m(**chain), "UniPC": unipc(**chain)}
    found = {}
    for name, scheduler in made.items():
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler.set_timesteps(budget)
            x = z * (1 + 80.0**2) ** 0.5 if process == "ve" else z
            for k, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
                told = TOLD[process](denoiser, x, float(sigma))
                x = scheduler.step(told, k, x, return_dict=False)[0]
        if x.isfinite().all():
            found[name] = x
    return found


def _estimate(denoiser: Denoiser, y: Tensor, ratio: float) -> Tensor:
    """x_0-hat at x / alpha = y and sigma / alpha = ratio."""
    logsnr = torch.tensor(-2 * math.log(ratio), dtype=torch.float64)
    t = denoiser.process.schedule.time(logsnr).clamp(max=1.0)
    estimate: Tensor = denoiser(y * denoiser.process.level(t).alpha, t).x_0
    return estimate


def _chain(denoiser: Denoiser, x: Tensor, sigma: float) -> Tensor:
    return _estimate(denoiser, x * math.sqrt(1 + sigma**2), sigma)


def _flow(denoiser: Denoiser, x: Tensor, sigma: float) -> Tensor:
    sigma = min(sigma, 1 - 1e-6)
    return (x - _estimate(denoiser, x / (1 - sigma), sigma / (1 - sigma))) / sigma


def _edm(denoiser: Denoiser, x: Tensor, sigma: float) -> Tensor:
    """EDM's network output, for sigma_data = 0.5."""
    skip, out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / math.sqrt(sigma**2 + 0.25)
    return (_estimate(denoiser, x, sigma) - skip * x) / out


TOLD: dict[str, Callable[[Denoiser, Tensor, float], Tensor]] = {
    "linear": _chain,
    "cosine": _chain,
    "straight": _flow,
    "ve": _edm,
}


def summary(targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ratios of auto to diffusers' better solver and to the best named method, per budget and statistic."""
    rows = []
    for budget in BUDGETS:
        for place, statistic in enumerate(("rms", "median", "worst")):
            for against in ("diffusers", "named"):
                ratios = [
                    cell["auto"][place] / min(v[place] for v in cell[against].values())
                    for cell in (t["budgets"][str(budget)] for t in targets)
                    if cell[against]
                ]
                if ratios:
                    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
                    better = sum(r <= 1 for r in ratios)
                    row = {"budget": budget, "statistic": statistic, "against": against, "targets": len(ratios)}
                    rows.append({**row, "at most 1": better, "geometric mean": mean, "largest": max(ratios)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", required=True, help="such as 1001,1002")
    parser.add_argument("--starts", type=int, default=512)
    parser.add_argument("--save", action="store_true", help=f"add the targets to {RESULTS.name}")
    args = parser.parse_args()
    known = json.loads(RESULTS.read_text())["targets"] if args.save and RESULTS.is_file() else []
    targets = {t["seed"]: t for t in known}
    for seed in map(int, args.seeds.split(",")):
        targets[seed] = json.loads(json.dumps(measure(seed, args.starts)))
        record = {
            "machine": f"{platform.machine()}, torch {torch.__version__}",
            "summary": summary([*targets.values()]),
        }
        if args.save:
            RESULTS.write_text(json.dumps({**record, "targets": [*targets.values()]}, indent=1) + "\n")
    for row in summary([*targets.values()]):
        print(row)


if __name__ == "__main__":
    main()
