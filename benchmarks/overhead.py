"""The cost of the sampling loop itself: microseconds per step around a denoiser that costs nothing.

    python benchmarks/overhead.py [--steps 50] [--repeats 200] [--save]

The state is one image of 3 x 32 x 32 in float32, on one thread. Candidates are `run` with DDIM, the multistep methods
and ancestral sampling (with two sources of noise), the bare arithmetic of a DDIM step and, where diffusers is
installed, the `step` methods of its DDIM and UniPC schedulers. They take turns in one process, so a busy machine slows
all of them; the table shows medians over the repeats, and ratios of repeats that ran side by side. Tables, time steps
and the answers of the "network" are made before the clock starts. The bars are 15 microseconds per step for DDIM and
two-term multistep methods, 25 for UniPC-3, and a fifth of diffusers' DDIM scheduler for DDIM.
"""

import argparse
import datetime
import importlib.metadata
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sfumato.core import VP, Prediction, Process, SeededNoise, Tabulated, linear_betas
from sfumato.denoisers import Condition, Denoiser
from sfumato.sampling import Tableau, adams, ancestral, chain, ddim, dpm_solver_pp, run, unipc

BARS = {  # microseconds per step
    "run, ddim": 15.0,
    "run, dpm_solver_pp order 2": 15.0,
    "run, adams order 2": 15.0,
    "run, unipc order 3": 25.0,
}
FIFTH = 0.2  # of diffusers' DDIM scheduler
SHAPE = (1, 3, 32, 32)
LENGTH = 1000
RESULTS = Path(__file__).parent / "results" / "overhead.json"


class Idle(Denoiser):
    """Returns the same prediction at once."""

    def __init__(self, process: Process, answer: Tensor) -> None:
        super().__init__()
        self.process = process
        self.prediction = Prediction(answer, answer)

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        return self.prediction


def bare(table: Tableau, x: Tensor, answer: Tensor) -> Callable[[], object]:
    """The two operations of a DDIM step and nothing else: the floor of eager PyTorch."""
    rows = list(zip(table.states.diagonal().tolist(), table.estimates.diagonal().tolist(), strict=True))

    def loop() -> None:
        state = x
        for from_x_t, from_x_0 in rows:
            state = state * from_x_t
            state.add_(answer, alpha=from_x_0)

    return loop


def ours(steps: int, x: Tensor, answer: Tensor) -> dict[str, Callable[[], object]]:
    process = Process(VP(), Tabulated(linear_betas(LENGTH)))
    times, idle = chain(steps, LENGTH), Idle(process, answer)
    plain, noisy = ddim(process, times), ancestral(process, times)
    two_terms, velocities = dpm_solver_pp(process, times), adams(process, times, 2, corrector=False)
    corrected, unified = adams(process, times, 3), unipc(process, times)
    seeded = SeededNoise.samples(0, len(x))
    return {
        "bare arithmetic": bare(plain, x, answer),
        "run, ddim": lambda: run(idle, plain, x),
        "run, dpm_solver_pp order 2": lambda: run(idle, two_terms, x),
        "run, adams order 2": lambda: run(idle, velocities, x),
        "run, adams order 3, corrected": lambda: run(idle, corrected, x),
        "run, unipc order 3": lambda: run(idle, unified, x),
        "run, ancestral, torch.randn": lambda: run(idle, noisy, x, noise=lambda draw, like: torch.randn(like.shape)),
        "run, ancestral, SeededNoise": lambda: run(idle, noisy, x, noise=seeded),
    }


def peers(steps: int, x: Tensor, answer: Tensor) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """(preparation, timed loop) for each scheduler; nothing without diffusers."""
    try:
        from diffusers import DDIMScheduler, UniPCMultistepScheduler
    except ImportError:
        return {}
    made = {
        "diffusers DDIMScheduler": DDIMScheduler(num_train_timesteps=LENGTH, clip_sample=False),
        "diffusers UniPCMultistepScheduler": UniPCMultistepScheduler(num_train_timesteps=LENGTH),
    }

    def loop(scheduler) -> None:
        state = x
        for t in scheduler.timesteps:
            state = scheduler.step(answer, t, state, return_dict=False)[0]

    return {
        name: (lambda s=scheduler: s.set_timesteps(steps), lambda s=scheduler: loop(s))
        for name, scheduler in made.items()
    }


def measure(steps: int, repeats: int) -> dict[str, list[float]]:
    """Microseconds per step of every candidate in every repeat, in turns."""
    x, answer = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)).unbind()
    candidates = {name: (lambda: None, loop) for name, loop in ours(steps, x, answer).items()}
    candidates |= peers(steps, x, answer)
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    with torch.no_grad():
        for repeat in range(repeats + 3):
            for name, (prepare, loop) in candidates.items():
                prepare()
                start = time.perf_counter()
                loop()
                elapsed = time.perf_counter() - start
                if repeat >= 3:  # the first few fill caches
                    taken[name].append(1e6 * elapsed / steps)
    return taken


def processor() -> str:
    """The model of the CPU from Linux, or from Python."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50, help="steps per run (default 50)")
    parser.add_argument("--repeats", type=int, default=200, help="runs of each candidate (default 200)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/overhead.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    taken = measure(arguments.steps, arguments.repeats)
    reference = taken["run, ddim"]
    rows = {}
    print(f"{'microseconds per step':36} {'median':>8} {'quartiles':>17} {'/ run, ddim':>12}")
    for name, values in taken.items():
        low, median, high = statistics.quantiles(values, n=4)
        ratio = statistics.median(value / ours for value, ours in zip(values, reference, strict=True))
        rows[name] = {"median_us": median, "quartiles_us": [low, high], "ratio_to_run_ddim": ratio}
        print(f"{name:36} {median:8.2f} {low:8.2f} {high:8.2f} {ratio:12.2f}")
    if version("diffusers") is None:
        print("diffusers is not installed: no peer to compare with (pip install 'sfumato[peers]')")
    else:
        ratio = 1 / rows["diffusers DDIMScheduler"]["ratio_to_run_ddim"]
        print(
            f"run, ddim: {ratio:.2f} of diffusers' DDIM, {'within' if ratio <= FIFTH else 'ABOVE'} the bar of {FIFTH}"
        )
    for name, bar in BARS.items():
        median = rows[name]["median_us"]
        print(
            f"{name}: {median:.1f} microseconds per step, {'within' if median <= bar else 'ABOVE'} the bar of {bar:.0f}"
        )

    if arguments.save:
        report = {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "cpu": processor(),
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in ("sfumato", "torch", "diffusers")},
            "shape": list(SHAPE),
            "steps": arguments.steps,
            "repeats": arguments.repeats,
            "bars_us": BARS,
            "results": rows,
        }
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {RESULTS.relative_to(Path(__file__).parent.parent)}")


if __name__ == "__main__":
    main()
